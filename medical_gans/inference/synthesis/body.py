"""Where the patient is: in an MR, what the network has to look at and what is air for certain; in a CT, its outline.

The outline is found slice by slice from runs: a line of a slice is a few of them, where it is hundreds of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from medical_gans.io import mapped
from medical_gans.transforms import body_mask
from medical_gans.transforms.grid import Part
from medical_gans.transforms.grid_mask import GridMask
from medical_gans.transforms.intensity import StoredMR
from medical_gans.transforms.morphology import grown, opened

_GRID_MM = 2.0
_AROUND_MM = 8.0  # skin, ears and hair are dark in some sequences: only what is further off becomes air
_CONTEXT_MM = 8.0  # air that the network sees around that
_BAY_MM = 20.0  # dark tissue between bright: neck and scalp of a fat-suppressed head
_BACKGROUND_MM = 30.0  # further than this from what is bright there is background
_FAINTEST = 0.03  # of the brightest tissue
_ABOVE_BACKGROUND = 1.5  # times its 99th percentile
_LEAST_BACKGROUND = 200  # voxels


@dataclass(frozen=True, eq=False)
class BodyRegion:
    """The widened body, kept on a grid of about 2 mm so that its size does not grow with the resolution.

    Attributes:
        inside: the region, on that grid.
        box: part of the volume that holds the region and some air around it.
    """

    inside: GridMask
    box: Part

    @classmethod
    def find(cls, mr: np.ndarray | Tensor | StoredMR, spacing: Sequence[float]) -> BodyRegion | None:
        """Region of an MR ``(x, y, z)`` in [-1, 1], -1 being air, voxels in mm; None when nothing stands out."""
        steps = tuple(max(1, round(_GRID_MM / edge)) for edge in spacing)
        coarse = np.asarray(mr[tuple(slice(None, None, step) for step in steps)]) + 1.0
        inside = body_mask(coarse, [step * edge for step, edge in zip(steps, spacing, strict=True)])
        if not inside.any():
            return None
        edges = [step * edge for step, edge in zip(steps, spacing, strict=True)]
        inside = _closed(_with_faint(inside, coarse, edges), edges)
        inside = _widened(inside, edges, _AROUND_MM)
        box = []
        for axis, (step, edge, size) in enumerate(zip(steps, spacing, mr.shape, strict=True)):
            filled = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
            context = round(_CONTEXT_MM / edge)
            first, end = int(filled[0]) * step - context, (int(filled[-1]) + 1) * step + context
            box.append(slice(max(0, first), min(size, end)))
        return cls(GridMask(inside, steps, tuple(mr.shape)), tuple(box))

    def at(self, part: Part) -> np.ndarray:
        """Whether the voxels of a part of the volume lie in the widened body, boolean ``(x, y, z)``."""
        return self.inside[part]


def _with_faint(inside: np.ndarray, mr: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """What is connected to the body and stands out from the background, as the scalp does where fat is suppressed."""
    near = _widened(inside, edges, _BACKGROUND_MM)
    some = (slice(None, None, 2),) * 3  # for percentiles; and no copy of the volume
    background = mr[some][~near[some]]
    if background.size < _LEAST_BACKGROUND:
        return inside
    least = _FAINTEST * float(np.percentile(mr[some][inside[some]], 99))
    faint = mr > max(_ABOVE_BACKGROUND * float(np.percentile(background, 99)), least)
    return grown(inside, (opened(faint) & near) | inside)


def _closed(inside: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Bays narrower than twice `_BAY_MM` filled, by a box."""
    bays = [math.ceil(_BAY_MM / edge) for edge in edges]
    wide = np.pad(inside, [(bay, bay) for bay in bays])
    wide = _widened(wide, edges, _BAY_MM)
    for axis, bay in enumerate(bays):
        wide = ndimage.minimum_filter1d(wide, 2 * bay + 1, axis=axis, mode="constant")
    return wide[tuple(slice(bay, bay + n) for bay, n in zip(bays, inside.shape, strict=True))]


def _widened(inside: np.ndarray, edges: Sequence[float], distance: float) -> np.ndarray:
    for axis, edge in enumerate(edges):
        around = math.ceil(distance / edge)
        inside = ndimage.maximum_filter1d(inside, 2 * around + 1, axis=axis, mode="constant")
    return inside


_AIR_BELOW = -400  # HU
_SPECK_MM2 = 100.0
_AT_ONCE = 16  # slices


def body_outline(hounsfield: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """What is denser than air, ``(i, j, k)``, by slice: holes filled, specks below 1 cm2 left out."""
    columns, rows, slices = hounsfield.shape
    body = mapped.zeros((columns + 2, rows + 2, slices), bool).T  # with air around each slice
    column, row, _ = np.linalg.norm(affine[:3, :3], axis=0)
    for begin in range(0, slices, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        body[part, 1:-1, 1:-1] = hounsfield[:, :, part].T > _AIR_BELOW
        _keep_solid_islands(body[part], _SPECK_MM2 / (column * row))
        mapped.give_back()
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
