"""What the headers of one series must agree on and must say. Messages never hold values that identify a patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.dicom.pixels import DicomSlice, same_pixels
from medical_gans.io.dicom.slice_geometry import at_one_place

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
    "EffectiveEchoTime",
    "EchoNumbers",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    "AcquisitionNumber",
    "StackID",
    "ImageType",
    "FrameType",
)
_SAME_SPACING = 1e-4  # of the smallest pixel


def check_images(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse slices that are no grey-value MR or CT image."""
    for one in slices:
        header = one.header
        if header.get("Modality") not in _MODALITIES:
            raise InputError(
                f"{name} has modality {header.get('Modality') or 'missing'}; MR or CT is needed. "
                "Give the MR or CT series."
            )
        if one.frame is None and int(header.get("NumberOfFrames") or 1) > 1:
            raise InputError(
                f"{name} is a multi-frame file that does not say where its frames lie (no functional groups). "
                "Export it as single-frame or as enhanced DICOM."
            )
        if "MOSAIC" in (header.get("ImageType") or ()):
            raise InputError(f"{name} stores its slices as mosaic tiles, which cannot be read. Convert it to NIfTI.")
        if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
            raise InputError(
                f"{name} holds {header.get('PhotometricInterpretation') or 'unnamed'} images; "
                "grey values (MONOCHROME2) are needed. Give the original series, not a picture of it."
            )


def check_one_value(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse slices of different patients, studies, frames of reference or sizes."""
    for keyword in _ONE_VALUE:
        count = len({str(one.header.get(keyword, "")) for one in slices})
        if count > 1:
            raise InputError(
                f"{name} mixes images with {count} different values of {keyword}, "
                "so they do not belong together. Export each series into a folder of its own."
            )


def vectors(name: str, slices: Sequence[DicomSlice], keyword: str, length: int, what: str) -> np.ndarray:
    """An attribute of `length` numbers of every slice, (slices, length); refuse where one lacks it."""
    found = np.full((len(slices), length), np.nan)
    for row, one in zip(found, slices, strict=True):
        values = one.header.get(keyword)
        if values is not None and not isinstance(values, str | float) and len(values) == length and None not in values:
            row[:] = [float(value) for value in values]
    missing = int((~np.isfinite(found)).any(axis=1).sum())
    if missing:
        raise InputError(
            f"{name} does not say {what}: {keyword} is missing or invalid in {missing} of {len(slices)} "
            "images. Export the series from its source again."
        )
    return found


def pixel_spacing(name: str, slices: Sequence[DicomSlice]) -> tuple[float, float]:
    """mm between rows, mm between columns; refuse where slices differ."""
    spacings = vectors(name, slices, "PixelSpacing", 2, "how large its pixels are")
    if spacings.min() <= 0:
        raise InputError(f"{name} has a PixelSpacing of {spacings.min():g} mm. Export the series again.")
    if np.ptp(spacings, axis=0).max() > _SAME_SPACING * spacings.min():
        raise InputError(
            f"{name} mixes pixel spacings from {spacings.min():.4g} to {spacings.max():.4g} mm. "
            "Export each series into a folder of its own."
        )
    return float(spacings[0, 0]), float(spacings[0, 1])


def without_duplicates(name: str, slices: Sequence[DicomSlice], positions: np.ndarray) -> list[int]:
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
