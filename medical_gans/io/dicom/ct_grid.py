"""The grid that a series is written on: the source's own where it is axial, else an axial one around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from medical_gans.io import mapped
from medical_gans.io.formats import Affine, corners, lps_to_ras

_AXIAL = 1e-3  # largest component of a row or column off its axis, and of the slice step: 0.06 degrees
_MOST_SLICES = 399  # planning systems are known to refuse 400
_ROUNDING = 1e-6  # of a voxel


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """Slices as DICOM places them.

    Attributes:
        affine: ``(4, 4)``, (column, row, slice) -> LPS+ mm; the slices are ordered along row x column.
        shape: columns, rows, slices.
        is_native: whether it is the grid that was given.
    """

    affine: Affine
    shape: tuple[int, int, int]
    is_native: bool

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edges (mm) along columns, rows, slices."""
        column, row, step = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(column), float(row), float(step)

    @property
    def orientation(self) -> list[float]:
        """ImageOrientationPatient: direction in which the columns count up, then the rows."""
        return [float(value) for value in (self.affine[:3, :2] / self.spacing[:2]).T.ravel()]

    def position(self, k: int) -> list[float]:
        """ImagePositionPatient of slice `k`: the centre of its first pixel."""
        return [float(value) for value in self.affine[:3, 3] + k * self.affine[:3, 2]]


def is_axial(affine: ArrayLike) -> bool:
    """Whether rows run left-right, columns back-front and slices foot-head, to 0.06 degrees."""
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    return bool((np.abs(np.abs(axes / np.linalg.norm(axes, axis=0)) - np.eye(3)) < _AXIAL).all())


def slice_grid(shape: tuple[int, ...], affine: ArrayLike) -> SliceGrid:
    """The grid to write an array ``(i, j, k)`` with affine to RAS+ mm on."""
    lps = lps_to_ras(affine)  # its own inverse
    columns, rows, slices = (int(length) for length in shape)
    if not is_axial(affine):
        return _axial_around((columns, rows, slices), lps)
    if np.linalg.det(lps[:3, :3]) < 0:  # slices run against row x column
        lps[:3, 3] += (slices - 1) * lps[:3, 2]
        lps[:3, 2] *= -1
        return SliceGrid(lps, (columns, rows, slices), True)
    return SliceGrid(lps, (columns, rows, slices), True)


def onto(grid: SliceGrid, array: np.ndarray, affine: ArrayLike, outside: float) -> np.ndarray:
    """`array` on `grid`: as it is where that is native, else by linear interpolation; `outside` around it."""
    lps = lps_to_ras(affine)
    if grid.is_native:
        return array if np.allclose(grid.affine[:3, 2], lps[:3, 2]) else array[:, :, ::-1]
    matrix = np.linalg.inv(lps) @ grid.affine
    return ndimage.affine_transform(
        array,
        matrix[:3, :3],
        matrix[:3, 3],
        output=mapped.empty(grid.shape, array.dtype),
        order=1,
        mode="grid-constant",  # a point 1e-12 beyond the last voxel counts as on it
        cval=outside,
    )


def _axial_around(shape: tuple[int, int, int], lps: Affine) -> SliceGrid:
    """Square pixels of the finest edge across, slices as far apart as the source resolves foot to head."""
    edges = np.linalg.norm(lps[:3, :3], axis=0)
    upright = int(np.argmax(np.abs(lps[2, :3]) / edges))
    pixel = float(np.delete(edges, upright).min())
    points = corners(shape, lps)
    low, high = points.min(axis=1), points.max(axis=1)
    step = max(float(edges[upright]), float(high[2] - low[2]) / (_MOST_SLICES - 1))
    spacing = np.array([pixel, pixel, step])
    counts = np.ceil((high - low) / spacing - _ROUNDING).astype(int) + 1
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    return SliceGrid(affine, (int(counts[0]), int(counts[1]), int(counts[2])), False)
