"""The voxel grid on which a phantom is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medical_gans.errors import SettingError

_POINTS_PER_SLAB = 65_536  # some 100 intermediate float32 arrays of this size stay near the cache


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel centres at `affine @ (i, j, k, 1)` in RAS+ mm; oblique, flipped, permuted and sheared too.

    Raises:
        SettingError: the shape is not three positive integers, or the affine is singular or not 4 x 4.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise SettingError(f"A phantom's grid has the shape {self.shape}; three positive sizes are needed.")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise SettingError("A phantom's grid needs a finite 4 x 4 affine that ends in the row 0 0 0 1.")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise SettingError("A phantom's grid has a singular affine; its three axes must span space.")
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def axial(cls, shape: Sequence[int], spacing: float | Sequence[float], centre: ArrayLike = (0.0, 0.0, 0.0)) -> Grid:
        """Axes along right, anterior, superior; `spacing` and the position of the middle, `centre`, in mm."""
        affine = np.diag([*np.broadcast_to(np.asarray(spacing, dtype=np.float64), 3), 1.0])
        affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
        return cls((shape[0], shape[1], shape[2]), affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along each array axis."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)

    def subdivided(self, parts: Sequence[int]) -> Grid:
        """Every voxel divided into `parts` equal ones along each axis; block means lie on this grid again."""
        division = np.asarray(parts, dtype=np.float64)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] / division
        affine[:3, 3] = self.affine[:3, 3] + self.affine[:3, :3] @ ((1 / division - 1) / 2)
        first, second, third = (size * int(part) for size, part in zip(self.shape, parts, strict=True))
        return Grid((first, second, third), affine)

    def slabs(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Runs of planes along the first axis, with their points in RAS mm, shape (3, points), in C order."""
        planes = max(1, _POINTS_PER_SLAB // (self.shape[1] * self.shape[2]))
        j, k = np.meshgrid(np.arange(self.shape[1]), np.arange(self.shape[2]), indexing="ij")
        in_plane = self.affine[:3, 1:3] @ np.stack([j.ravel(), k.ravel()]) + self.affine[:3, 3:]
        for start in range(0, self.shape[0], planes):
            stop = min(start + planes, self.shape[0])
            offset = self.affine[:3, :1] * np.arange(start, stop)
            points = offset[:, :, None] + in_plane[:, None, :]
            yield slice(start, stop), points.reshape(3, -1).astype(np.float32)
