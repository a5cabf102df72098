"""Contours drawn on an MR carried to the synthetic CT made from it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import ArrayLike
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io.dicom.attributes import instance_reference
from medical_gans.io.dicom.ct import CtSeries
from medical_gans.io.dicom.files import save_object
from medical_gans.io.dicom.headers import quiet, text
from medical_gans.io.dicom.structure_set import (
    SliceFinder,
    Structure,
    add_structure,
    new_structure_set,
    read_structure_set,
    structure_from_mask,
    structure_mask,
    write_structure_set,
)
from medical_gans.io.dicom.uids import NewUIDs
from medical_gans.io.formats import holds_dicom_images, visible_entries, visible_files
from medical_gans.io.writing import whole_file

_KEPT = (
    *("StructureSetName", "StructureSetDescription", "StructureSetROISequence", "ROIContourSequence"),
    *("RTROIObservationsSequence",),
)
_BEGINNING = 1024  # bytes of a file that hold its SOP class, the third element of any
_IN_PLANE = 0.05  # of the slice spacing that points of one contour may leave their plane


def find_structure_sets(mr: Path, frame_of_reference_uid: str) -> list[Path]:
    """Structure sets in the frame of reference of an MR that lie beside it.

    Looked at are the folder of the MR with all below it and, in the folder around it, files and folders without images.
    """
    folder = mr if mr.is_dir() else mr.parent
    candidates = list(visible_files(folder))
    with suppress(PermissionError):  # of what is none of the input's
        for entry in visible_entries(folder.parent):
            if entry.is_file():
                candidates.append(entry)
            elif entry.is_dir() and entry != folder and not holds_dicom_images(entry):
                candidates += [file for file in visible_entries(entry) if file.is_file()]
    with quiet():
        return [path for path in candidates if _is_in_frame(path, frame_of_reference_uid)]


def carry_structure_set(
    source: Path,
    mr_headers: Sequence[Dataset],
    mr_shape: tuple[int, ...],
    mr_affine: ArrayLike,
    ct: CtSeries,
    target: Path,
    *,
    outline: Structure | None = None,
    seed: int | None = None,
) -> list[str]:
    """Write the structures of an RTSTRUCT on the MR for the synthetic CT.

    Where the contours lie in planes of the CT, their geometry stays as it is and only what refers to images changes:
    each contour names the CT slice nearest to it. Contours drawn on a sagittal, coronal or oblique MR are filled on
    the MR's grid and drawn again on the axial CT.

    Args:
        source: RTSTRUCT.
        mr_headers: of the MR, in slice order.
        mr_shape: ``(i, j, k)`` of the MR.
        mr_affine: its index -> RAS+ mm.
        ct: what was written.
        target: file to write.
        outline: of the body on the CT, written with the others unless one of them is EXTERNAL, for a plan takes one.
        seed: None makes new UIDs.

    Returns:
        Sentences on what one should know about the contours.

    Raises:
        InputError: it is no structure set, or in another frame of reference than the MR.
    """
    structures, original = read_structure_set(source)
    if mr_headers[0].FrameOfReferenceUID not in _frames(original):
        raise InputError(f"{source} is in another frame of reference than the MR. Give the structure set of this MR.")
    finder = SliceFinder(ct.headers)
    contours = [contour for structure in structures for contour in structure.contours]
    warnings = _about_references(source, original, mr_headers)
    if outline is not None:
        outline = _beside(structures, original, outline)
        if outline is None:
            warnings.append(f"{source.name} has an outline of the body (EXTERNAL); that of the CT was not added.")
    if all(np.ptp(contour @ finder.normal) <= _IN_PLANE * finder.spacing for contour in contours):
        with quiet():
            lost = _write_unchanged(original, ct.headers, finder, target, outline, seed)
        if lost:
            warnings.append(f"{lost} contours of {source.name} lie outside the slices of the CT.")
        return warnings
    drawn, changes = [], []
    for structure in structures:
        mask = _on_ct(structure_mask(structure, mr_shape, mr_affine), mr_affine, ct)
        again, volume = structure_from_mask(structure.name, mask, ct.affine, structure.kind)
        drawn.append(again)
        changes.append(
            f"{structure.name} {_volume_ml(structure, mr_shape, mr_affine):.2f} to {volume.contour_ml:.2f} ml"
        )
    drawn += [outline] if outline is not None else []
    write_structure_set(target, drawn, ct.headers, label=str(original.get("StructureSetLabel") or "MR"), seed=seed)
    return [*warnings, f"The contours of {source.name} were drawn again on axial slices: {', '.join(changes)}."]


def _beside(structures: Sequence[Structure], original: Dataset, outline: Structure) -> Structure | None:
    """The outline under a name that no structure has; None where one of them is such an outline already."""
    if any(structure.kind == outline.kind for structure in structures):
        return None
    taken = {str(roi.ROIName).upper() for roi in original.StructureSetROISequence}
    names = chain([outline.name], (f"{outline.name}_{number}" for number in count(2)))
    return replace(outline, name=next(name for name in names if name.upper() not in taken))


def _write_unchanged(
    original: Dataset,
    headers: Sequence[Dataset],
    finder: SliceFinder,
    target: Path,
    outline: Structure | None,
    seed: int | None,
) -> int:
    """Write the structures with references to the CT; return how many contours have no slice there."""
    label = str(original.get("StructureSetLabel") or "MR")
    uids = NewUIDs(seed, text(headers[0], "SeriesInstanceUID"), original.SOPInstanceUID, label)
    carried = new_structure_set(headers, uids, label, datetime.now().astimezone())
    carried.update(
        {original[keyword].tag: copy.deepcopy(original[keyword]) for keyword in _KEPT if keyword in original}
    )
    carried.remove_private_tags()
    for roi in carried.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = headers[0].FrameOfReferenceUID
    lost = 0
    for drawn in carried.get("ROIContourSequence") or ():
        for contour in drawn.get("ContourSequence") or ():
            header = finder(np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3))
            contour.pop("ContourImageSequence", None)
            if header is None:
                lost += 1
            else:
                contour.ContourImageSequence = [instance_reference(header)]
    if outline is not None:
        add_structure(carried, outline, finder)
    with whole_file(target) as temporary:
        save_object(temporary, carried, ImplicitVRLittleEndian)
    return lost


def _about_references(source: Path, original: Dataset, mr_headers: Sequence[Dataset]) -> list[str]:
    named = {str(item.ReferencedSOPInstanceUID) for item in _image_references(original)}
    missing = len(named - {str(header.SOPInstanceUID) for header in mr_headers})
    if not missing:
        return []
    return [
        f"{missing} of {len(named)} images that {source.name} refers to are not in the MR series; its contours were "
        "matched to the CT by frame of reference and position."
    ]


def _image_references(original: Dataset) -> Iterator[Dataset]:
    for drawn in original.get("ROIContourSequence") or ():
        for contour in drawn.get("ContourSequence") or ():
            yield from contour.get("ContourImageSequence") or ()


def _frames(original: Dataset) -> set[str]:
    items = [*(original.get("ReferencedFrameOfReferenceSequence") or ()), original]
    frames = {item.get("FrameOfReferenceUID") for item in items}
    return frames | {roi.get("ReferencedFrameOfReferenceUID") for roi in original.get("StructureSetROISequence") or ()}


def _is_in_frame(path: Path, frame_of_reference_uid: str) -> bool:
    tags = ["FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence"]
    try:
        with path.open("rb") as stream:  # most files are images: to parse each one's beginning takes ten times as long
            if RTStructureSetStorage.encode() not in stream.read(_BEGINNING):
                return False
        if pydicom.filereader.read_file_meta_info(path).MediaStorageSOPClassUID != RTStructureSetStorage:
            return False
        return frame_of_reference_uid in _frames(pydicom.dcmread(path, specific_tags=tags))
    except Exception:  # damaged files that are no images are none of the user's concern here
        return False


def _on_ct(mask: np.ndarray, affine: ArrayLike, ct: CtSeries) -> np.ndarray:
    matrix = np.linalg.inv(np.asarray(affine, dtype=np.float64)) @ ct.affine
    part = ndimage.affine_transform(
        mask.astype(np.float32),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=ct.hounsfield.shape,
        order=1,
        mode="grid-constant",
    )
    return part >= 0.5


def _volume_ml(structure: Structure, shape: tuple[int, ...], affine: ArrayLike) -> float:
    voxel = abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])))
    return float(np.count_nonzero(structure_mask(structure, shape, affine))) * voxel / 1000
