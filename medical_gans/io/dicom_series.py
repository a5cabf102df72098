"""Strict intake of one DICOM series: a volume, or an error that says what, where and what to do.

Most readers return wrong volumes without a word for gaps, duplicates, tilt, mixed series, varying
rescale or short pixel data. Here only exact repairs are made (identical duplicates dropped, each slice
rescaled by its own factors); everything else is refused. Messages never hold values that identify
a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import config as pydicom_config

from medical_gans.errors import InputError
from medical_gans.io.dicom_pixels import (
    UNREADABLE,
    DicomSlice,
    check_rescale,
    damaged,
    real_stack,
    same_pixels,
)
from medical_gans.io.formats import DICOM_SUFFIXES, has_dicom_prefix, is_image_object, visible_files
from medical_gans.io.slice_geometry import at_one_place, slice_directions, stack_affine
from medical_gans.io.stored_values import check_finite
from medical_gans.io.volumes import Volume

_MODALITIES = ("MR", "CT")
_ONE_VALUE = (
    "PatientID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "PhotometricInterpretation",
    "PatientPosition",
)
_TELL_APART = (
    "EchoTime",
    "EchoNumbers",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "AcquisitionNumber",
    "ImageType",
)


@dataclass(frozen=True)
class SeriesSummary:
    """One line of the list that a person chooses a series from."""

    uid: str
    modality: str
    description: str
    images: int
    rows: int
    columns: int

    def __str__(self) -> str:
        return (
            f"{self.uid}  {self.modality}  {self.images} images of {self.columns} x {self.rows}  "
            f"{self.description or '(no description)'}"
        )


def list_series(folder: Path) -> list[SeriesSummary]:
    """The image series anywhere below `folder`, in the order of their UIDs."""
    with pydicom_config.disable_value_validation():
        return [_summary(uid, slices) for uid, slices in sorted(_image_series(folder).items())]


def read_series(folder: Path, series_uid: str | None = None) -> Volume:
    """Read the DICOM series below `folder` as a volume in real values (HU for CT), RAS+ mm.

    Args:
        folder: holds the files, also in sub-folders; objects that are no images are passed over.
        series_uid: which series to take when there are several.

    Raises:
        InputError: no series or several, or a series that is no regular stack of whole,
            single-frame, grey-value slices of one patient in one frame of reference.
    """
    # Validation is off because its warnings quote values, which may name a patient.
    with pydicom_config.disable_value_validation():
        uid, slices = _chosen(folder, series_uid)
        name = f"Series {uid}"
        _check_images(name, slices)
        _check_one_value(name, slices)
        check_rescale(name, slices)
        directions = slice_directions(name, _vectors(name, slices, "ImageOrientationPatient", 6, "its orientation"))
        positions = _vectors(name, slices, "ImagePositionPatient", 3, "where its slices lie")
        order = np.argsort(positions @ directions[2], kind="stable")
        slices, positions = [slices[index] for index in order], positions[order]
        kept = _without_duplicates(name, slices, positions)
        slices, positions = [slices[index] for index in kept], positions[kept]
        affine = stack_affine(name, positions, directions, _pixel_spacing(name, slices))
        array = real_stack(name, slices)
    modality = str(slices[0].header.Modality)
    check_finite(array, folder)
    if modality == "CT" and array.min() >= 0:
        raise InputError(
            f"{name} is a CT without any negative HU, so neither air nor fat is in it: its values look "
            "shifted (RescaleIntercept wrong). Export it again with its rescale."
        )
    return Volume(array, affine, folder, modality, tuple(one.header for one in slices))


def _image_series(folder: Path) -> dict[str, list[DicomSlice]]:
    series: dict[str, list[DicomSlice]] = {}
    for path in visible_files(folder):
        header = _header(path)
        if header is not None:
            series.setdefault(str(header.SeriesInstanceUID), []).append(DicomSlice(path, header))
    return series


def _header(path: Path) -> pydicom.Dataset | None:
    """The header of an image without its pixel data, None for any other object."""
    try:
        if not has_dicom_prefix(path):
            if path.name.lower().endswith(DICOM_SUFFIXES):
                raise damaged(path)
            return None
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if not is_image_object(header):
            return None
    except InputError:
        raise
    except UNREADABLE as error:
        raise damaged(path) from error
    if "Rows" not in header or not header.get("SeriesInstanceUID"):
        raise damaged(path)
    return header


def _chosen(folder: Path, series_uid: str | None) -> tuple[str, list[DicomSlice]]:
    series = _image_series(folder)
    if not series:
        raise InputError(f"{folder} holds no DICOM image. Give an image file or the folder of one DICOM series.")
    if series_uid is None and len(series) == 1:
        return next(iter(series.items()))
    if series_uid in series:
        return str(series_uid), series[str(series_uid)]
    listed = "\n".join(f"  {_summary(uid, slices)}" for uid, slices in sorted(series.items()))
    if series_uid is None:
        raise InputError(
            f"{folder} holds {len(series)} DICOM series; one is needed. "
            f"Keep the wanted one in a folder of its own:\n{listed}"
        )
    raise InputError(f"{folder} holds no series {series_uid}. It holds:\n{listed}")


def _summary(uid: str, slices: Sequence[DicomSlice]) -> SeriesSummary:
    header = slices[0].header
    return SeriesSummary(
        uid,
        str(header.get("Modality", "?")),
        str(header.get("SeriesDescription", "")),
        len(slices),
        int(header.Rows),
        int(header.Columns),
    )


def _check_images(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse slices that are no single-frame grey-value MR or CT image."""
    for one in slices:
        header = one.header
        if header.get("Modality") not in _MODALITIES:
            raise InputError(
                f"{name} has modality {header.get('Modality') or 'missing'}; MR or CT is needed. "
                "Give the MR or CT series."
            )
        if int(header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header:
            raise InputError(
                f"{name} is enhanced multi-frame DICOM, which cannot be read. "
                "Export it as single-frame DICOM, or convert it to NIfTI."
            )
        if "MOSAIC" in (header.get("ImageType") or ()):
            raise InputError(f"{name} stores its slices as mosaic tiles, which cannot be read. Convert it to NIfTI.")
        if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
            raise InputError(
                f"{name} holds {header.get('PhotometricInterpretation') or 'unnamed'} images; "
                "grey values (MONOCHROME2) are needed. Give the original series, not a picture of it."
            )


def _check_one_value(name: str, slices: Sequence[DicomSlice]) -> None:
    for keyword in _ONE_VALUE:
        count = len({str(one.header.get(keyword, "")) for one in slices})
        if count > 1:
            raise InputError(
                f"{name} mixes images with {count} different values of {keyword}, "
                "so they do not belong together. Export each series into a folder of its own."
            )


def _vectors(name: str, slices: Sequence[DicomSlice], keyword: str, length: int, what: str) -> np.ndarray:
    vectors = np.full((len(slices), length), np.nan)
    for row, one in zip(vectors, slices, strict=True):
        values = one.header.get(keyword)
        if values is not None and len(values) == length and None not in values:
            row[:] = [float(value) for value in values]
    missing = int((~np.isfinite(vectors)).any(axis=1).sum())
    if missing:
        raise InputError(
            f"{name} does not say {what}: {keyword} is missing or invalid in {missing} of {len(slices)} "
            "images. Export the series from its source again."
        )
    return vectors


def _pixel_spacing(name: str, slices: Sequence[DicomSlice]) -> tuple[float, float]:
    spacings = _vectors(name, slices, "PixelSpacing", 2, "how large its pixels are")
    if spacings.min() <= 0:
        raise InputError(f"{name} has a PixelSpacing of {spacings.min():g} mm. Export the series again.")
    if np.ptp(spacings, axis=0).max() > 1e-4 * spacings.min():
        raise InputError(
            f"{name} mixes pixel spacings from {spacings.min():.4g} to {spacings.max():.4g} mm. "
            "Export each series into a folder of its own."
        )
    return float(spacings[0, 0]), float(spacings[0, 1])


def _without_duplicates(name: str, slices: Sequence[DicomSlice], positions: np.ndarray) -> list[int]:
    """Indices of one slice per position; slices that share a position must be the same image."""
    kept = []
    for group in at_one_place(positions):
        first = group[0]
        kept.append(first)
        if not all(same_pixels(name, slices[first], slices[other]) for other in group[1:]):
            raise InputError(_different_images(name, [slices[index] for index in group], len(kept)))
    return kept


def _different_images(name: str, group: Sequence[DicomSlice], number: int) -> str:
    differing = [keyword for keyword in _TELL_APART if len({str(one.header.get(keyword)) for one in group}) > 1]
    reason = f", which differ in {', '.join(differing)}" if differing else ""
    return (
        f"{name} has {len(group)} different images at the position of slice {number}{reason} "
        "(echoes, phases or repetitions). Export each as its own series."
    )
