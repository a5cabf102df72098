"""Opening, closing, filling and growing of masks ``(x, y, z)``, with the results of `scipy.ndimage`, many times faster.

Neighbours share a face. What lies outside of the array is no part of a mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_IN_A_SLICE = np.pad(ndimage.generate_binary_structure(2, 1)[:, :, None], ((0, 0), (0, 0), (1, 1)))


def opened(mask: np.ndarray) -> np.ndarray:
    """Without what is thinner than three voxels: eroded by one voxel, then dilated, as `binary_opening` does."""
    return _dilated(_eroded(mask))


def closed(mask: np.ndarray, voxels: int) -> np.ndarray:
    """With gaps of up to twice as many voxels filled, as `binary_closing` does."""
    for _ in range(voxels):
        mask = _dilated(mask)
    for _ in range(voxels):
        mask = _eroded(mask)
    return mask


def filled_by_slice(mask: np.ndarray) -> np.ndarray:
    """With what is shut off from the edge of its slice along the third axis, as `binary_fill_holes` does."""
    labels, count = ndimage.label(~mask, structure=_IN_A_SLICE)
    is_outside = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_outside[edge] = True
    is_outside[0] = False
    return ~is_outside[labels]


def grown(mask: np.ndarray, within: np.ndarray) -> np.ndarray:
    """All of `within` that is connected to a mask inside of it, as `binary_propagation` does."""
    labels, count = ndimage.label(within)
    is_reached = np.zeros(count + 1, dtype=bool)
    is_reached[labels[mask]] = True
    is_reached[0] = False
    return is_reached[labels]


def _dilated(mask: np.ndarray) -> np.ndarray:
    wide = mask.copy(order="K")
    for axis in range(mask.ndim):
        to, of = np.moveaxis(wide, axis, 0), np.moveaxis(mask, axis, 0)
        to[1:] |= of[:-1]
        to[:-1] |= of[1:]
    return wide


def _eroded(mask: np.ndarray) -> np.ndarray:
    narrow = mask.copy(order="K")
    for axis in range(mask.ndim):
        to, of = np.moveaxis(narrow, axis, 0), np.moveaxis(mask, axis, 0)
        to[1:] &= of[:-1]
        to[:-1] &= of[1:]
        to[:1] = to[-1:] = False
    return narrow
