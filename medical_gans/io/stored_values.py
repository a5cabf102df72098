"""From stored numbers to real ones (HU for CT) without inflating a volume on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medical_gans.errors import InputError

KEPT_TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32)


def real_values(stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """`slope * stored + intercept`, as integers where that is exact, else float32.

    Works slice by slice on the last axis, so that no double-precision copy of a volume exists.
    """
    integral = stored.dtype.kind in "iu" and slope == 1 and float(intercept).is_integer()
    if (slope, intercept) == (1, 0) and stored.dtype in KEPT_TYPES:
        return stored
    target: np.dtype = np.dtype(np.float32)
    if integral:
        target = integer_type(int(stored.min()) + int(intercept), int(stored.max()) + int(intercept))
    real = np.empty(stored.shape, target, order="F")
    for k in range(stored.shape[-1]):
        scaled = stored[..., k] * np.float64(slope) + np.float64(intercept)
        real[..., k] = scaled
    return real


def integer_type(low: int, high: int) -> np.dtype:
    """The smallest common type that holds whole numbers from `low` to `high`, float32 when none does."""
    for candidate in (np.int16, np.uint16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.float32)


def check_finite(array: np.ndarray, source: Path) -> None:
    """Refuse NaN and infinity; the extremes show them without a copy of the volume."""
    if array.dtype.kind != "f" or np.isfinite([array.min(), array.max()]).all():
        return
    count = sum(int(np.count_nonzero(~np.isfinite(array[..., k]))) for k in range(array.shape[-1]))
    raise InputError(f"{source} has {count} voxels that are NaN or infinite. Replace them by real values before use.")
