"""Patches brought to a fixed size and voxel size about a point, each axis for itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medical_gans.errors import InputError

CONTINUED = 0.06
"""Share of a patch's edge that may lie beyond the source, on each side; edge values continue the source there."""


def resampled(
    images: np.ndarray,
    spacing: Sequence[float],
    size: int,
    target: Sequence[float],
    centre: Sequence[float] | None = None,
) -> np.ndarray:
    """Linear resampling of images, antialiased where voxels grow, continued by edge values.

    Args:
        images: ``(n, *spatial)``.
        spacing: mm along the spatial axes.
        size: voxels along each edge of the result.
        target: mm along the spatial axes of the result.
        centre: index in the images, per axis, that becomes the centre of the result; their own centre by default.

    Returns:
        ``(n, size, ...)`` float32.
    """
    made = np.asarray(images, dtype=np.float32)
    for axis, (old, new) in enumerate(zip(spacing, target, strict=True), start=1):
        length = made.shape[axis]
        middle = (length - 1) / 2 if centre is None else centre[axis - 1]
        weights = _weights(length, size, new / old, middle)
        made = np.moveaxis(np.tensordot(made, weights, axes=(axis, 1)), -1, axis)
    return made


def beyond(length: int, size: int, scale: float, centre: float | None = None) -> float:
    """Share of the edge of a patch that lies beyond the source, on the worse side.

    Args:
        length: voxels of the source.
        size: voxels of the patch.
        scale: voxel of the patch over voxel of the source.
        centre: index in the source at the centre of the patch.
    """
    middle = (length - 1) / 2 if centre is None else centre
    half = size * scale / 2
    return max(half - (middle + 0.5), half - (length - 0.5 - middle), 0.0) / (size * scale)


def check_extent(length: int, size: int, scale: float, spacing: float, source: object) -> None:
    """Refuse a patch that is much larger than its source.

    Raises:
        InputError: it is.
    """
    if beyond(length, size, scale) > CONTINUED:
        raise InputError(
            f"{source}: the patch is larger than the volume: {size} voxels of {spacing * scale:g} mm are "
            f"{size * scale * spacing:.1f} mm, but the source has {length * spacing:.1f} mm. "
            "Set a smaller size or spacing."
        )


def _weights(length: int, size: int, scale: float, centre: float) -> np.ndarray:
    """``(size, length)``: a triangle about each new voxel, as wide as the larger of both voxels."""
    positions = centre + (np.arange(size) - (size - 1) / 2) * scale
    width = max(1.0, scale)
    reach = int(np.ceil(width)) + 1
    nearest = np.round(positions).astype(int)
    taps = nearest[:, None] + np.arange(-reach, reach + 1)
    values = np.clip(1 - np.abs(taps - positions[:, None]) / width, 0, None)
    values /= values.sum(axis=1, keepdims=True)
    weights = np.zeros((size, length))
    np.add.at(weights, (np.arange(size)[:, None], np.clip(taps, 0, length - 1)), values)
    return weights.astype(np.float32)
