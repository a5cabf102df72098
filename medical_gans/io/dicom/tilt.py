"""Sheared stacks of slices (gantry tilt) made upright: each slice is moved within its own plane."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from medical_gans.io.grid import Affine

_WHOLE = 1e-6  # of a pixel


def straightened(array: np.ndarray, affine: Affine) -> tuple[np.ndarray, Affine]:
    """Undo the shear of a stack by linear interpolation inside each slice; the planes stay where they are.

    The field of view grows by the drift of the stack; what no slice covers gets the lowest value.

    Args:
        array: ``(column, row, slice)``.
        affine: ``(4, 4)``; columns and rows are orthogonal, the slice step may lean.

    Returns:
        The array, and its affine with orthogonal axes.
    """
    column, row, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    drift = np.array([step @ column / (column @ column), step @ row / (row @ row)])  # pixels per slice
    slices = array.shape[2]
    total = drift * (slices - 1)
    first = np.floor(np.minimum(total, 0) + _WHOLE)
    last = np.ceil(np.maximum(total, 0) - _WHOLE)
    columns, rows = (int(size + extra) for size, extra in zip(array.shape[:2], last - first, strict=True))
    upright = np.full((columns, rows, slices), array.min(), array.dtype, order="F")
    for k in range(slices):
        upright[:, :, k] = ndimage.affine_transform(
            array[:, :, k],
            np.ones(2),
            first - drift * k,
            output_shape=(columns, rows),
            order=1,
            mode="grid-constant",
            cval=float(array.min()),
        )
    straight = affine.copy()
    straight[:3, 2] = step - drift[0] * column - drift[1] * row
    straight[:3, 3] = affine[:3, 3] + first[0] * column + first[1] * row
    return upright, straight


def shear_degrees(affine: Affine) -> float:
    """Angle between the slice step and the normal of the slices."""
    step = affine[:3, 2]
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return math.degrees(math.atan2(np.linalg.norm(np.cross(step, normal)), abs(step @ normal)))
