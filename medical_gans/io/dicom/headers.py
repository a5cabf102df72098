"""What one DICOM file says of itself, also where it says it against the letter of the standard.

Values are asked for through `text`, `number`, `numbers` and `whole`, which never raise: pydicom hands values that it
cannot convert over as text. Nothing here quotes a value, for it may name a patient.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import config as pydicom_config
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID, CTImageStorage, MRImageStorage

from medical_gans.errors import InputError
from medical_gans.io.formats import DICOM_SUFFIXES, is_image_object, starts_as_dicom

UNREADABLE = (
    *(
        InvalidDicomError,
        BytesLengthException,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        NotImplementedError,
    ),
    *(EOFError, OSError, OverflowError, MemoryError, RecursionError, struct.error, zlib.error),
)
"""What pydicom raises on files that are damaged."""

NO_UID = "without UID"
_CLASSES = {"MR": MRImageStorage, "CT": CTImageStorage}
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_PREFIX = 132  # bytes: preamble and DICM
_LARGEST_PLACES = 12  # decimals beyond which a number counts as exact


@dataclass(frozen=True)
class DicomSlice:
    """One image of a series: a file, or a frame of one."""

    path: Path
    header: pydicom.Dataset  # without pixel data
    frame: int | None = None  # its number in a multi-frame file, from 0
    rescale: tuple[float, float] | None = None  # slope and intercept by which its stored numbers become real ones


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from quoting values, which may name a patient, in warnings and logs."""
    log = logging.getLogger("pydicom")
    level = log.level
    with pydicom_config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)


def damaged(path: Path) -> InputError:
    """The error for a file that cannot be read to its end."""
    return InputError(f"{path} is a truncated or damaged DICOM file. Copy or export it again.")


def read_header(path: Path) -> pydicom.Dataset | None:
    """The header of an image without its pixel data, None for any other object.

    A file without preamble or file meta information is read; a class that is missing is completed from the modality.

    Raises:
        InputError: the file is damaged or may not be read.
    """
    try:
        with path.open("rb") as stream:
            bare = stream.read(_PREFIX)[-4:] != b"DICM"
            if bare and not starts_as_dicom(path):
                if path.name.lower().endswith(DICOM_SUFFIXES):
                    raise damaged(path)
                return None
            stream.seek(0)
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=bare)
        if not hasattr(header, "file_meta"):
            header.file_meta = FileMetaDataset()
        if not is_image_object(header):
            if not len(header):  # cut off before it says what it is
                raise damaged(path)
            return None
        if "Rows" not in header:
            raise damaged(path)
        if (said := text(header, "Modality")) not in _CLASSES and said.upper() in _CLASSES:
            header.Modality = said.upper()
        if not header.get("SOPClassUID"):
            header.SOPClassUID = UID(
                str(header.file_meta.get("MediaStorageSOPClassUID") or _CLASSES.get(text(header, "Modality"), ""))
            )
        if not header.get("SOPInstanceUID") and (named := header.file_meta.get("MediaStorageSOPInstanceUID")):
            header.SOPInstanceUID = named
    except PermissionError as error:
        raise InputError(f"{path} may not be read: permission denied. Change its permissions.") from error
    except InputError:
        raise
    except UNREADABLE as error:
        raise damaged(path) from error
    return header


def frames_of(path: Path, header: pydicom.Dataset) -> list[DicomSlice]:
    """One slice per frame; a file without functional groups is one slice.

    The functional groups of each frame (PS3.3, C.7.6.16), shared ones first, are laid flat over the attributes of
    the object, so that geometry, rescale and what tells frames apart are found where single-frame images have them.
    ReferencedFrameNumber says which frame it was.

    Raises:
        InputError: there are not as many groups as frames.
    """
    per_frame = value_of(header, "PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return [DicomSlice(path, header)]
    try:
        if len(per_frame) != (whole(header, "NumberOfFrames") or 1):
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


def value_of(header: pydicom.Dataset, keyword: str | int) -> Any:
    """What pydicom gives for a keyword or tag, None where it can give nothing."""
    try:
        return header.get(keyword)
    except UNREADABLE:
        return None


def text(header: pydicom.Dataset, keyword: str) -> str:
    """A value as text without blanks around it; empty where there is none.

    It ends at the first byte that no text has: where a length was spoilt, what follows are other elements, names among
    them.
    """
    try:
        value = header.get(keyword)
    except UNREADABLE:
        return ""
    if value is None:
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return _readable("\\".join(map(str, value)) if several else str(value))


def _readable(value: str) -> str:
    return _NO_TEXT.split(value.strip("\0 "), maxsplit=1)[0].strip("\0 ")


def words(header: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an attribute that may have several, as text."""
    try:
        value = header.get(keyword)
    except UNREADABLE:
        return ()
    if value is None or isinstance(value, str):
        return (_readable(str(value)),) if value else ()
    return tuple(_readable(str(one)) for one in value) if isinstance(value, Sequence) else (_readable(str(value)),)


def numbers(header: pydicom.Dataset, keyword: str) -> list[float] | None:
    """The numbers of an attribute, None where it is missing, empty or holds anything else; decimal commas count."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return None
        return [float(one.strip("\0 ").replace(",", ".") if isinstance(one, str) else one) for one in _several(value)]
    except UNREADABLE:
        return None


def _several(value: Any) -> Sequence[Any]:
    """The values of an attribute; one text where a kind that has no several, such as UT, kept them together."""
    if isinstance(value, str):
        return value.split("\\")
    return value if isinstance(value, Sequence) else () if value is None else [value]


def number(header: pydicom.Dataset, keyword: str) -> float | None:
    """A single number; None as for `numbers`."""
    found = numbers(header, keyword)
    return found[0] if found is not None and len(found) == 1 else None


def whole(header: pydicom.Dataset, keyword: str) -> int | None:
    """A single whole number; None as for `numbers`, or where it has a fraction."""
    found = number(header, keyword)
    return int(found) if found is not None and float(found).is_integer() else None


def vectors(name: str, slices: Sequence[DicomSlice], keyword: str, length: int, what: str) -> np.ndarray:
    """An attribute of `length` numbers of every slice, (slices, length); refuse where one lacks it."""
    found = np.full((len(slices), length), np.nan)
    for row, one in zip(found, slices, strict=True):
        values = numbers(one.header, keyword)
        if values is not None and len(values) == length:
            row[:] = values
    missing = int((~np.isfinite(found)).any(axis=1).sum())
    if missing:
        raise InputError(
            f"{name} does not say {what}: {keyword} is missing or invalid in {missing} of {len(slices)} "
            "images. Export the series from its source again."
        )
    return found


def rounding(slices: Sequence[DicomSlice], keyword: str) -> float:
    """Half of the last decimal that the numbers of an attribute are written with, the finest of all slices."""
    written = {
        getattr(value, "original_string", None) or str(value)
        for one in slices
        for value in _several(value_of(one.header, keyword))
    }
    return 0.5 * 10.0 ** -max(map(_decimals, written), default=0)


def without_commas(slices: Sequence[DicomSlice]) -> tuple[str, ...]:
    """Write the numbers of geometry with points where headers have commas, against the standard; a sentence if so."""
    found = {
        keyword: [one.header for one in slices if _has_comma(value_of(one.header, keyword))]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    }
    for keyword, headers in found.items():
        for header in headers:
            if (values := numbers(header, keyword)) is not None:
                setattr(header, keyword, values)
    named = [keyword for keyword, headers in found.items() if headers]
    return (f"{', '.join(named)}: decimal commas were read as points.",) if named else ()


def _has_comma(value: object) -> bool:
    """Whether a value that pydicom could not convert has a comma."""
    return isinstance(value, Sequence) and any(isinstance(one, str) and "," in one for one in value)


def _decimals(written: str) -> int:
    mantissa, _, exponent = written.lower().replace(",", ".").partition("e")
    try:
        places = len(mantissa.strip("\0 ").partition(".")[2]) - int(exponent or 0)
        return min(max(places, 0), _LARGEST_PLACES)
    except ValueError:
        return 0


def _without_groups(header: pydicom.Dataset) -> pydicom.Dataset:
    groups = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    kept = pydicom.Dataset({element.tag: element for element in header if element.keyword not in groups})
    kept.file_meta = header.file_meta
    return kept


def _flat(header: pydicom.Dataset, groups: pydicom.Dataset) -> pydicom.Dataset:
    flat = pydicom.Dataset()  # pydicom's copies share their elements
    flat.update(header)
    flat.file_meta = header.file_meta
    for group in groups:
        if group.keyword == "RealWorldValueMappingSequence":
            flat.add(group)
        elif group.VR == "SQ" and len(group.value) == 1:
            flat.update({element.tag: element for element in group.value[0] if element.VR != "SQ"})
    return flat
