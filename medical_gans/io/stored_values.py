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


def check_scaled(stored: np.ndarray, slope: float, intercept: float, source: Path) -> None:
    """Refuse finite numbers that are, as stored or scaled, beyond what 32 bits hold."""
    if (slope, intercept) == (1, 0) and (stored.dtype.kind != "f" or stored.dtype.itemsize <= 4):
        return
    ends = []
    for k in range(stored.shape[-1]):  # slice by slice, so that no copy of the volume exists
        plane = stored[..., k]
        finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
        ends += [float(finite.min()), float(finite.max())] if finite.size else []
    if any(not abs(end * slope + intercept) <= float(np.finfo(np.float32).max) for end in ends):
        raise InputError(
            f"{source} holds values beyond 1e38 (scaled by {slope:g} and {intercept:g}), which no image has. "
            "Its header or its voxels are damaged; export it again."
        )


def integer_type(low: int, high: int) -> np.dtype:
    """The smallest common type that holds whole numbers from `low` to `high`, float32 when none does."""
    for candidate in (np.int16, np.uint16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.float32)


def without_missing(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """NaN around an object, as masking leaves it, at the lowest value; NaN within it, or infinity, stays.

    Returns:
        The array, a copy where it was changed, and a sentence about it.
    """
    if array.dtype.kind != "f" or not np.isnan(array[:: array.shape[0] - 1, :: array.shape[1] - 1]).all():
        return array, ()  # the twelve edges along the last axis hold values
    from scipy import ndimage

    missing = np.isnan(array)
    parts, count = ndimage.label(missing)
    largest = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    if count != 1 or largest[0] == array.size or np.isinf(array).any():
        return array, ()
    low = array[~missing].min()
    return np.where(missing, low, array), (
        f"NaN around the object ({largest[0]} voxels) counts as background ({low:g}).",
    )


def check_finite(array: np.ndarray, source: Path) -> None:
    """Refuse NaN and infinity; the extremes show them without a copy of the volume."""
    if array.dtype.kind != "f" or np.isfinite([array.min(), array.max()]).all():
        return
    count = sum(int(np.count_nonzero(~np.isfinite(array[..., k]))) for k in range(array.shape[-1]))
    raise InputError(f"{source} has {count} voxels that are NaN or infinite. Replace them by real values before use.")
