"""Patches that show the same tissue: they must not be on two sides of a split."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

_SHRINK = 2
_COARSE = 2.0
_TINY = 1e-6


def near_duplicate_groups(images: np.ndarray, threshold: float = 0.9) -> np.ndarray:
    """Group patches whose fine detail is the same, shifted against each other or not.

    The central half of each patch is sought at every place of every other. Compared is the correlation of detail
    between 2 and about 8 voxels, since walls and mediastinum look alike in any two patients. Groups are transitive.

    Args:
        images: ``(n, rows, columns)``, any scale.
        threshold: correlation from which two patches count as the same.

    Returns:
        ``(n,)`` number of each patch's group.
    """
    rows, columns = (length // _SHRINK for length in images.shape[1:])
    shown = np.asarray(images[:, : rows * _SHRINK, : columns * _SHRINK], dtype=np.float32)
    shown = shown.reshape(-1, rows, _SHRINK, columns, _SHRINK).mean((2, 4))
    detail = shown - ndimage.gaussian_filter(shown, (0, _COARSE, _COARSE))
    height, width = rows // 2, columns // 2
    top, left = (rows - height) // 2, (columns - width) // 2
    middles = _standardised(detail[:, top : top + height, left : left + width].reshape(len(detail), -1))
    alike = [np.empty((0, 2), dtype=np.int64)]
    for index, one in enumerate(detail):
        places = np.lib.stride_tricks.sliding_window_view(one, (height, width)).reshape(-1, height * width)
        best = (middles @ _standardised(places).T).max(1)
        found = np.flatnonzero(best >= threshold)
        alike.append(np.column_stack([np.full_like(found, index), found]))
    pairs = np.concatenate(alike)
    links = csr_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(images),) * 2)
    return connected_components(links, directed=False)[1]


def _standardised(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(1, keepdims=True)
    return centred / (np.linalg.norm(centred, axis=1, keepdims=True) + _TINY)
