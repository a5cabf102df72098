"""Planes of a mask to closed polygons and back, in pixel coordinates where whole numbers are pixel centres."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import contourpy
import numpy as np

_BETWEEN = 0.5  # of 0 outside and 1 inside: lines pass half-way between pixel centres


def outlines(plane: np.ndarray) -> list[np.ndarray]:
    """Polygons around what is set in a plane: one per island, holes joined to its edge by a keyhole.

    A keyhole is a channel of no width, which every system reads; the inner contours or XOR types that DICOM also
    knows are read differently by different systems.

    Args:
        plane: boolean ``(column, row)``.

    Returns:
        Arrays ``(points, 2)`` of (column, row), not closed: the last point is not the first one again.
    """
    columns, rows = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
    if not columns.size:
        return []
    first = np.array([columns[0], rows[0]])
    part = plane[columns[0] : columns[-1] + 1, rows[0] : rows[-1] + 1]
    padded = np.pad(part.T, 1).astype(np.float64)
    generator = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(_BETWEEN, 2.0), strict=True):
        rings = [points[start : end - 1] + (first - 1.0) for start, end in pairwise(offsets)]
        polygons.append(_without_needless_points(_with_keyholes(rings[0], rings[1:])))
    return polygons


def filled(polygons: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The plane ``(column, row)`` of pixel centres inside an odd number of windings of all polygons.

    By this rule keyholes, XOR contours and plain contours inside others all leave holes, and islands stay.
    """
    columns, rows = shape
    toggles = np.zeros((columns + 1, rows), dtype=np.int64)
    for polygon in polygons:
        ends = np.stack([polygon, np.roll(polygon, -1, axis=0)], axis=1)  # (edges, end, xy)
        order = np.argsort(ends[:, :, 1], axis=1, kind="stable")  # upwards, so that both ways round to the same
        (x1, y1), (x2, y2) = np.take_along_axis(ends, order[:, :, None], axis=1).transpose(1, 2, 0)
        first = np.clip(np.ceil(y1), 0, rows).astype(int)
        count = np.clip(np.ceil(y2), 0, rows).astype(int) - first
        edge = np.repeat(np.arange(len(polygon)), count)
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        x = x1[edge] + (row - y1[edge]) * (x2[edge] - x1[edge]) / (y2[edge] - y1[edge])
        np.add.at(toggles, (np.clip(np.ceil(x), 0, columns).astype(int), row), 1)
    return (np.cumsum(toggles, axis=0)[:columns] % 2).astype(bool)


def area(polygon: np.ndarray) -> float:
    """Area inside a polygon (shoelace formula), that of its keyholes left out."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _with_keyholes(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One polygon of a ring and the rings of its holes, which run the other way round."""
    joined = outer
    for hole in holes:
        squares = ((joined[:, None] - hole[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(squares.argmin()), squares.shape)
        around = np.roll(hole, -there, axis=0)
        joined = np.concatenate([joined[: here + 1], around, around[:1], joined[here:]])
    return joined


def _without_needless_points(polygon: np.ndarray) -> np.ndarray:
    """Leave out points on a straight line between their neighbours."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    onwards = (before * after).sum(axis=1) > 0
    return polygon[~((turns == 0) & onwards)]
