"""Frames of an enhanced multi-frame object, each with a header as a single-frame image would have it."""

from __future__ import annotations

from pathlib import Path

import pydicom

from medical_gans.errors import InputError
from medical_gans.io.dicom.pixels import UNREADABLE, DicomSlice, damaged

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def frames_of(path: Path, header: pydicom.Dataset) -> list[DicomSlice]:
    """One slice per frame; a file without functional groups is one slice.

    The functional groups of each frame (PS3.3, C.7.6.16), shared ones first, are laid flat over the attributes of
    the object, so that geometry, rescale and what tells frames apart are found where single-frame images have them.
    ReferencedFrameNumber says which frame it was.

    Raises:
        InputError: there are not as many groups as frames.
    """
    count = int(header.get("NumberOfFrames") or 1)
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return [DicomSlice(path, header)]
    try:
        if len(per_frame) != count:
            raise damaged(path)
        shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
        common = _flat(_without_groups(header), shared[0])
        slices = []
        for number, groups in enumerate(per_frame):
            frame = _flat(common, groups)
            frame.ReferencedFrameNumber = number + 1
            slices.append(DicomSlice(path, frame, number))
    except UNREADABLE as error:
        raise error if isinstance(error, InputError) else damaged(path) from error
    return slices


def _without_groups(header: pydicom.Dataset) -> pydicom.Dataset:
    kept = pydicom.Dataset({element.tag: element for element in header if element.keyword not in _GROUPS})
    kept.file_meta = header.file_meta
    return kept


def _flat(header: pydicom.Dataset, groups: pydicom.Dataset) -> pydicom.Dataset:
    flat = pydicom.Dataset()  # pydicom's copies share their elements
    flat.update(header)
    flat.file_meta = header.file_meta
    for group in groups:
        if group.VR == "SQ" and len(group.value) == 1:
            flat.update({element.tag: element for element in group.value[0] if element.VR != "SQ"})
    return flat
