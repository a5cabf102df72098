"""Stored order and RAS order of the axes: right, anterior, superior, in which this package computes and draws.

Axes are permuted and flipped to the nearest ones, never turned: a tilted volume stays tilted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation


def ras_view(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """`array` ``(i, j, k)`` with axes permuted and flipped to nearest right, anterior, superior: a view, never a copy.

    Args:
        array: in stored order.
        affine: index to RAS+ mm, of the stored order.
    """
    orientation = io_orientation(affine)
    flipped = array[tuple(slice(None, None, int(sign)) for _, sign in orientation)]
    return flipped.transpose(np.argsort(orientation[:, 0]))


def stored_order(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The way back from `ras_view`, as contiguous memory.

    Args:
        array: ``(x, y, z)`` in RAS order.
        affine: index to RAS+ mm, of the stored order.
    """
    orientation = io_orientation(affine)
    back = array.transpose(orientation[:, 0].astype(int))
    return np.ascontiguousarray(back[tuple(slice(None, None, int(sign)) for _, sign in orientation)])


def ras_affine(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Index of a `ras_view` to RAS+ mm, of an array of a stored shape."""
    return affine @ inv_ornt_aff(io_orientation(affine), tuple(shape))


def ras_shape(shape: Sequence[int], affine: np.ndarray) -> tuple[int, ...]:
    """Shape of the `ras_view` of an array of a stored shape."""
    return tuple(int(shape[axis]) for axis in np.argsort(io_orientation(affine)[:, 0]))


def ras_spacing(affine: np.ndarray) -> tuple[float, ...]:
    """Voxel edges in mm along the axes of a `ras_view`."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return tuple(float(edges[axis]) for axis in np.argsort(io_orientation(affine)[:, 0]))
