"""The body in a CT, slice by slice, from runs: a line of a slice is a few of them, where it is hundreds of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

_AIR_BELOW = -400  # HU
_SPECK_MM2 = 100.0
_AT_ONCE = 16  # slices


def body_outline(hounsfield: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """What is denser than air, ``(i, j, k)``, by slice: holes filled, specks below 1 cm2 left out."""
    columns, rows, slices = hounsfield.shape
    body = np.zeros((slices, rows + 2, columns + 2), dtype=bool)  # with air around each slice
    column, row, _ = np.linalg.norm(affine[:3, :3], axis=0)
    for begin in range(0, slices, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        body[part, 1:-1, 1:-1] = hounsfield[:, :, part].T > _AIR_BELOW
        _keep_solid_islands(body[part], _SPECK_MM2 / (column * row))
    return body[:, 1:-1, 1:-1].T


def _keep_solid_islands(planes: np.ndarray, fewest: float) -> None:
    """Fill what is shut off from the edge, and clear islands of fewer pixels; the edges of planes are not set."""
    pixels, width = planes.reshape(-1), planes.shape[2]
    steps = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    if not steps.size:
        return
    air = _Runs(np.concatenate([[0], steps[1::2]]), np.concatenate([steps[::2], [pixels.size]]))
    groups = air.groups(width)
    outside = groups == groups[0]
    for first, end in air.chosen(~outside):
        pixels[first:end] = True
    solid = _Runs(air.end[outside][:-1], air.first[outside][1:])
    groups = solid.groups(width)
    sizes = np.bincount(groups, weights=solid.end - solid.first)
    for first, end in solid.chosen(sizes[groups] < fewest):
        pixels[first:end] = False


@dataclass(frozen=True, eq=False)
class _Runs:
    """Pixels from `first` up to `end` of planes laid out line by line, in rising order and apart."""

    first: np.ndarray
    end: np.ndarray

    def chosen(self, which: np.ndarray) -> list[tuple[int, int]]:
        return list(zip(self.first[which].tolist(), self.end[which].tolist(), strict=True))

    def groups(self, width: int) -> np.ndarray:
        """The number of the island that each run is part of; runs of neighbouring lines touch by an edge."""
        below = np.searchsorted(self.end, self.first + width, side="right")
        count = np.searchsorted(self.first, self.end + width, side="left") - below
        ends = np.cumsum(count)
        touched = np.arange(ends[-1]) + np.repeat(below - ends + count, count)
        rows = np.concatenate([[0], ends])
        graph = csr_array((np.ones(len(touched), dtype=bool), touched, rows), shape=(len(count), len(count)))
        return np.asarray(connected_components(graph, directed=False)[1])
