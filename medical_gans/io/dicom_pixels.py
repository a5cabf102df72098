"""The pixels of DICOM slices in real values (HU for CT), each slice by its own rescale, exactly."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array

from medical_gans.errors import InputError
from medical_gans.io.stored_values import integer_type

UNREADABLE = (InvalidDicomError, AttributeError, KeyError, ValueError, EOFError, OSError, struct.error)
_HU_TYPES = ("", "HU", "HU_MOD", "US")


@dataclass(frozen=True)
class DicomSlice:
    """One file of a series."""

    path: Path
    header: pydicom.Dataset  # without pixel data

    @property
    def rescale(self) -> tuple[float, float] | None:
        """Slope and intercept, None when the header lacks either."""
        slope, intercept = self.header.get("RescaleSlope"), self.header.get("RescaleIntercept")
        return None if slope is None or intercept is None else (float(slope), float(intercept))


def check_rescale(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse a series that does not say, for every slice alike, how stored numbers become real ones."""
    if any("ModalityLUTSequence" in one.header for one in slices):
        raise InputError(f"{name} maps its values through a Modality LUT, which cannot be read. Convert it to NIfTI.")
    factors = [one.rescale for one in slices]
    missing = factors.count(None)
    is_ct = slices[0].header.Modality == "CT"
    if missing and (is_ct or missing < len(factors)):
        raise InputError(
            f"{name} lacks RescaleSlope or RescaleIntercept in {missing} of {len(slices)} images, "
            "so its real values are unknown. Export it from its source again."
        )
    if any(pair is not None and not (np.isfinite(pair).all() and pair[0]) for pair in factors):
        raise InputError(f"{name} has a RescaleSlope that is zero or no number. Export it again.")
    units = {str(one.header.get("RescaleType") or "") for one in slices} - set(_HU_TYPES)
    if is_ct and units:
        raise InputError(f"{name} is in {', '.join(sorted(units))}, not in HU (RescaleType). Give the series in HU.")


def real_stack(name: str, slices: Sequence[DicomSlice]) -> np.ndarray:
    """(column, row, slice): integers where every rescale keeps values whole, else float32."""
    planes: list[np.ndarray] = []
    low, high, whole = np.inf, -np.inf, True
    for one in slices:
        plane = _stored_slice(name, one)
        slope, intercept = one.rescale or (1.0, 0.0)
        ends = [float(end) * slope + intercept for end in (plane.min(), plane.max())]
        low, high = min(low, *ends), max(high, *ends)
        whole = whole and plane.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
        planes.append(plane)
    dtype = integer_type(int(low), int(high)) if whole else np.dtype(np.float32)
    rows, columns = planes[0].shape
    real = np.empty((columns, rows, len(slices)), dtype, order="F")
    for k in reversed(range(len(slices))):  # from the end, so that each plane is freed once copied
        slope, intercept = slices[k].rescale or (1.0, 0.0)
        plane = planes.pop().T
        real[..., k] = plane if (slope, intercept) == (1.0, 0.0) else plane * np.float64(slope) + intercept
    return real


def same_pixels(name: str, first: DicomSlice, second: DicomSlice) -> bool:
    """Whether two slices hold the same real values."""
    return np.array_equal(real_stack(name, [first]), real_stack(name, [second]))


def damaged(path: Path) -> InputError:
    """The error for a file that cannot be read to its end."""
    return InputError(f"{path} is a truncated or damaged DICOM file. Copy or export it again.")


def _stored_slice(name: str, one: DicomSlice) -> np.ndarray:
    try:
        plane = pixel_array(one.path)
    except UNREADABLE as error:
        raise damaged(one.path) from error
    except (RuntimeError, NotImplementedError) as error:
        syntax = one.header.file_meta.TransferSyntaxUID
        if _can_decode(syntax):
            raise damaged(one.path) from error
        raise InputError(
            f"{name} is compressed as {syntax.name}, for which no codec is installed. "
            "pip install 'medical-gans[dicom]' adds it."
        ) from error
    if plane.ndim != 2:
        raise damaged(one.path)
    return plane


def _can_decode(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
