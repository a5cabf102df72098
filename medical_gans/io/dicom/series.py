"""Strict intake of one DICOM series: a volume, or an error that says what, where and what to do.

Most readers return wrong volumes without a word for gaps, duplicates, tilt, mixed series, varying
rescale or short pixel data. Here only exact repairs are made (identical duplicates dropped, each slice
rescaled by its own factors, rounded positions put on their grid, and where it is asked for a tilted stack
resampled); everything else is refused. Messages never hold values that identify a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.dicom.geometry import (
    Places,
    SeveralStacks,
    at_one_place,
    regular_grid,
    shear_degrees,
    slice_directions,
    straightened,
)
from medical_gans.io.dicom.headers import (
    NO_UID,
    DicomSlice,
    quiet,
    rounding,
    text,
    vectors,
    whole,
    without_commas,
    words,
)
from medical_gans.io.dicom.index import (
    DicomSource,
    SeriesSummary,
    chosen_series,
    files_of,
    list_series,
    shown_source,
)
from medical_gans.io.dicom.pixels import real_stack, same_pixels, without_inversion, without_padding
from medical_gans.io.dicom.scaling import scaled
from medical_gans.io.dicom.selection import chosen_stack, is_localizer, listed, stacks_of
from medical_gans.io.formats import check_finite, phrases
from medical_gans.io.volumes import Volume

__all__ = ["SeriesSummary", "list_series", "read_series"]

_MODALITIES = ("MR", "CT")
_UPRIGHT = 1e-4  # degrees
_SAME_PIXEL = 1e-4  # of the smallest pixel
_ROUNDED_PIXEL = 0.01  # of the smallest pixel: as much as decimals may explain
_ONE_VALUE = (
    *("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality", "Rows", "Columns"),
    *("PhotometricInterpretation", "PatientPosition"),
)
_SIZE = ("Rows", "Columns")
_TELL_APART = (
    *("EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime", "FlipAngle", "DiffusionBValue"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "TriggerTime", "AcquisitionNumber", "StackID"),
    *("ImageType", "FrameType"),
)


def read_series(
    source: DicomSource,
    series_uid: str | None = None,
    repair: bool = False,
    *,
    select: str | None = None,
    modality: str | None = None,
) -> Volume:
    """Read a DICOM series as a volume in real values (HU for CT), RAS+ mm.

    Args:
        source: a folder (files at any depth; objects that are no images are passed over), a DICOMDIR, an
            enhanced multi-frame file, a text file with one path per line, or a list of files.
        series_uid: which series to take when there are several.
        repair: resample a sheared stack (gantry tilt) to an upright grid instead of refusing it.
        select: words of the headers that choose a series, or a stack of one; commas part several phrases.
        modality: MR or CT: what is looked for, so that series of other kinds are passed over.

    Raises:
        InputError: no series or several, or a series that is no regular stack of whole grey-value
            slices of one patient in one frame of reference.
    """
    with quiet():
        chosen = chosen_series(source, series_uid, modality, phrases(select))
        name = f"Series {chosen.uid}" if not chosen.uid.startswith(NO_UID) else f"The series {chosen.uid}"
        slices = chosen.slices
        _check_images(name, slices)
        _check_is_whole(source, slices)
        repairs = list(chosen.passed)
        if chosen.uid.startswith(NO_UID):
            repairs.append("The images have no SeriesInstanceUID; they count as one series.")
        if chosen.phrases:
            selected = chosen_stack(name, slices, chosen.phrases)
            repairs += _passed(slices, selected)
            slices = selected
        place = Path(source) if isinstance(source, str | Path) else Path(source[0]).parent  # type: ignore[index,arg-type]
        try:
            volume = _volume(name, place, slices, repair)
        except SeveralStacks as error:
            images = [one for one in slices if not is_localizer(one)]
            if chosen.phrases or len(images) in (0, len(slices)):
                raise _with_choices(error, slices) from error
            repairs += _passed(slices, images)
            try:
                volume = _volume(name, place, images, repair)
            except SeveralStacks as failure:
                raise _with_choices(failure, images) from failure
    return replace(volume, repairs=(*repairs, *volume.repairs))


def _volume(name: str, place: Path, slices: Sequence[DicomSlice], repair: bool) -> Volume:
    _check_one_value(name, slices)
    slices, repairs, doubts = scaled(name, slices)
    repairs += without_commas(slices)
    orientations = vectors(name, slices, "ImageOrientationPatient", 6, "its orientation")
    cosine_rounding = rounding(slices, "ImageOrientationPatient")
    directions = slice_directions(name, orientations, cosine_rounding)
    positions = vectors(name, slices, "ImagePositionPatient", 3, "where its slices lie")
    order = np.argsort(positions @ directions[2], kind="stable")
    kept = order[_without_duplicates(name, [slices[index] for index in order], positions[order])]
    repairs += _dropped(len(slices) - len(kept))
    slices = [slices[index] for index in kept]
    pixel, about_pixel = _pixel_spacing(name, slices)
    header = slices[0].header
    shape = whole(header, "Columns") or 0, whole(header, "Rows") or 0
    position_rounding = rounding(slices, "ImagePositionPatient")
    places = Places(positions[kept], orientations[kept], pixel, shape, position_rounding, cosine_rounding)
    affine, about_grid = regular_grid(name, places, directions, repair)
    repairs += (*about_pixel, *about_grid)
    array = real_stack(name, slices)
    if array.shape[:2] != shape:
        raise InputError(f"{name} has pixels of another size than its Rows and Columns say. Export it again.")
    check_finite(array, place)
    modality = text(header, "Modality")
    if modality == "CT" and array.min() >= 0:
        raise InputError(
            f"{name} is a CT without any negative HU, so neither air nor fat is in it: its values look "
            "shifted (RescaleIntercept wrong). Export it again with its rescale."
        )
    if modality == "MR":
        array, about_padding = without_padding(array, slices)
        repairs += about_padding
        if text(header, "PhotometricInterpretation") == "MONOCHROME1":
            array, about_inversion = without_inversion(array)
            doubts += (about_inversion,)
    angle = shear_degrees(affine)
    if angle > _UPRIGHT:
        array, affine = straightened(array, affine)
        repairs += (f"The series was sheared by {angle:.1f} degrees (gantry tilt) and was resampled.",)
    return Volume(array, affine, place, modality, tuple(one.header for one in slices), repairs, doubts)


def _check_images(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse slices that are no grey-value MR or CT image."""
    for one in slices:
        header = one.header
        modality = text(header, "Modality")
        if modality not in _MODALITIES:
            raise InputError(
                f"{name} has modality {modality or 'missing'}; MR or CT is needed. Give the MR or CT series."
            )
        if one.frame is None and (whole(header, "NumberOfFrames") or 1) > 1:
            raise InputError(
                f"{name} is a multi-frame file that does not say where its frames lie (no functional groups). "
                "Export it as single-frame or as enhanced DICOM."
            )
        if "MOSAIC" in words(header, "ImageType"):
            raise InputError(
                f"{name} is a Siemens mosaic: each image shows all slices of a volume as tiles, as functional and "
                "diffusion MR are stored. Give an anatomical series, or convert it to NIfTI, for example by dcm2niix."
            )
        colours = text(header, "PhotometricInterpretation")
        if (whole(header, "SamplesPerPixel") or 1) != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
            raise InputError(
                f"{name} holds {colours or 'unnamed'} images; "
                "grey values (MONOCHROME2) are needed. Give the original series, not a picture of it."
            )


def _check_is_whole(source: DicomSource, slices: list[DicomSlice]) -> None:
    """One single-frame file by itself is never a volume; most likely the folder was meant."""
    if len(slices) == 1 and isinstance(source, str | Path) and files_of(source) == [Path(source)]:
        raise InputError(
            f"{shown_source(source)} is one file of a DICOM series. Give the folder that holds the series."
        )


def _check_one_value(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse slices of different patients, studies, frames of reference or sizes."""
    for keyword in _ONE_VALUE:
        count = len({text(one.header, keyword) for one in slices})
        if count > 1:
            raise (SeveralStacks if keyword in _SIZE else InputError)(
                f"{name} mixes images with {count} different values of {keyword}, "
                "so they do not belong together. Export each series into a folder of its own."
            )


def _pixel_spacing(name: str, slices: Sequence[DicomSlice]) -> tuple[tuple[float, float], tuple[str, ...]]:
    """mm between rows, mm between columns; refuse where slices differ by more than their decimals explain."""
    spacings = vectors(name, slices, "PixelSpacing", 2, "how large its pixels are")
    if spacings.min() <= 0:
        raise InputError(f"{name} has a PixelSpacing of {spacings.min():g} mm. Export the series again.")
    spread = float(np.ptp(spacings, axis=0).max())
    if spread <= _SAME_PIXEL * spacings.min():
        return (float(spacings[0, 0]), float(spacings[0, 1])), ()
    halves = np.array([rounding([one], "PixelSpacing") for one in slices])[:, None]
    overlap = (spacings - halves).max(axis=0) <= (spacings + halves).min(axis=0) + 1e-9
    if not (overlap.all() and spread <= _ROUNDED_PIXEL * spacings.min()):
        raise SeveralStacks(
            f"{name} mixes pixel spacings from {spacings.min():.4g} to {spacings.max():.4g} mm. "
            "Export each series into a folder of its own."
        )
    finest = spacings[int(halves.argmin())]
    said = f"PixelSpacing is rounded differently from slice to slice; {finest[0]:g} x {finest[1]:g} mm was taken."
    return (float(finest[0]), float(finest[1])), (said,)


def _without_duplicates(name: str, slices: Sequence[DicomSlice], positions: np.ndarray) -> list[int]:
    """Indices of one slice per position; slices that share a position must be the same image."""
    kept = []
    for group in at_one_place(positions):
        first = group[0]
        kept.append(first)
        if not all(same_pixels(name, slices[first], slices[other]) for other in group[1:]):
            raise SeveralStacks(_different_images(name, [slices[index] for index in group], len(kept)))
    return kept


def _different_images(name: str, group: Sequence[DicomSlice], number: int) -> str:
    differing = [keyword for keyword in _TELL_APART if len({words(one.header, keyword) for one in group}) > 1]
    reason = f", which differ in {', '.join(differing)}" if differing else ""
    return (
        f"{name} has {len(group)} different images at the position of slice {number}{reason} "
        "(echoes, phases or repetitions). Export each as its own series."
    )


def _with_choices(error: SeveralStacks, slices: Sequence[DicomSlice]) -> InputError:
    """The error, and the words that choose one of the stacks where headers tell them apart."""
    stacks = stacks_of(slices)
    if len(stacks) < 2:
        return error
    return InputError(f'{error} Or choose one by select, such as --select "{stacks[0].label}":\n{listed(stacks)}')


def _passed(slices: Sequence[DicomSlice], kept: Sequence[DicomSlice]) -> list[str]:
    count = len(slices) - len(kept)
    return [f"{count} of {len(slices)} images of the series are of other stacks and were passed over."] if count else []


def _dropped(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"{count} identical {'copy of a slice was' if count == 1 else 'copies of slices were'} passed over.",)
