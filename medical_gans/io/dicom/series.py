"""Strict intake of one DICOM series: a volume, or an error that says what, where and what to do.

Most readers return wrong volumes without a word for gaps, duplicates, tilt, mixed series, varying
rescale or short pixel data. Here only exact repairs are made (identical duplicates dropped, each slice
rescaled by its own factors, and where it is asked for a tilted stack resampled); everything else is
refused. Messages never hold values that identify a patient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import config as pydicom_config

from medical_gans.errors import InputError
from medical_gans.io.dicom.checks import check_images, check_one_value, pixel_spacing, vectors, without_duplicates
from medical_gans.io.dicom.index import DicomSource, SeriesSummary, chosen_series, files_of, list_series, shown_source
from medical_gans.io.dicom.pixels import DicomSlice, check_rescale, real_stack
from medical_gans.io.dicom.slice_geometry import slice_directions, stack_affine
from medical_gans.io.dicom.tilt import shear_degrees, straightened
from medical_gans.io.stored_values import check_finite
from medical_gans.io.volumes import Volume

__all__ = ["SeriesSummary", "list_series", "read_series"]

_UPRIGHT = 1e-4  # degrees


def read_series(source: DicomSource, series_uid: str | None = None, repair: bool = False) -> Volume:
    """Read a DICOM series as a volume in real values (HU for CT), RAS+ mm.

    Args:
        source: a folder (files at any depth; objects that are no images are passed over), a DICOMDIR, an
            enhanced multi-frame file, a text file with one path per line, or a list of files.
        series_uid: which series to take when there are several.
        repair: resample a sheared stack (gantry tilt) to an upright grid instead of refusing it.

    Raises:
        InputError: no series or several, or a series that is no regular stack of whole grey-value
            slices of one patient in one frame of reference.
    """
    # Validation is off because its warnings quote values, which may name a patient.
    with pydicom_config.disable_value_validation():
        uid, slices = chosen_series(source, series_uid)
        name = f"Series {uid}"
        check_images(name, slices)
        _check_is_whole(source, slices)
        check_one_value(name, slices)
        check_rescale(name, slices)
        directions = slice_directions(name, vectors(name, slices, "ImageOrientationPatient", 6, "its orientation"))
        positions = vectors(name, slices, "ImagePositionPatient", 3, "where its slices lie")
        order = np.argsort(positions @ directions[2], kind="stable")
        slices, positions = [slices[index] for index in order], positions[order]
        kept = without_duplicates(name, slices, positions)
        repairs = _dropped(len(slices) - len(kept))
        slices, positions = [slices[index] for index in kept], positions[kept]
        affine = stack_affine(name, positions, directions, pixel_spacing(name, slices), allow_tilt=repair)
        array = real_stack(name, slices)
    modality, place = str(slices[0].header.Modality), _place(source)
    check_finite(array, place)
    if modality == "CT" and array.min() >= 0:
        raise InputError(
            f"{name} is a CT without any negative HU, so neither air nor fat is in it: its values look "
            "shifted (RescaleIntercept wrong). Export it again with its rescale."
        )
    angle = shear_degrees(affine)
    if angle > _UPRIGHT:
        array, affine = straightened(array, affine)
        repairs += (f"The series was sheared by {angle:.1f} degrees (gantry tilt) and was resampled.",)
    return Volume(array, affine, place, modality, tuple(one.header for one in slices), repairs)


def _check_is_whole(source: DicomSource, slices: list[DicomSlice]) -> None:
    """One single-frame file by itself is never a volume; most likely the folder was meant."""
    if len(slices) == 1 and isinstance(source, str | Path) and files_of(source) == [Path(source)]:
        raise InputError(
            f"{shown_source(source)} is one file of a DICOM series. Give the folder that holds the series."
        )


def _dropped(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"{count} identical {'copy of a slice was' if count == 1 else 'copies of slices were'} passed over.",)


def _place(source: DicomSource) -> Path:
    return Path(source) if isinstance(source, str | Path) else Path(source[0]).parent  # type: ignore[index,arg-type]
