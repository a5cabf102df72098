"""The grid on which dose is computed: axes along right, anterior, superior, cubic voxels, just around the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io import Volume

_AROUND_VOXELS = 2
_FWHM = float(np.sqrt(8 * np.log(2)))  # full width at half maximum of a Gaussian, in standard deviations


@dataclass(frozen=True, eq=False)
class DoseGrid:
    """Voxel centres at ``first + spacing * (i, j, k)`` in RAS+ mm.

    Attributes:
        shape: voxels along right, anterior, superior.
        spacing: mm.
        first: centre of the first voxel, RAS+ mm.
    """

    shape: tuple[int, int, int]
    spacing: float
    first: np.ndarray

    @classmethod
    def around(cls, body: np.ndarray, affine: np.ndarray, spacing: float) -> DoseGrid:
        """The smallest grid that holds a body and two voxels of air around it.

        Args:
            body: boolean ``(i, j, k)``.
            affine: its voxel index to RAS+ mm.
            spacing: mm.

        Raises:
            InputError: the body is empty.
        """
        filled = ndimage.find_objects(body.astype(np.uint8))
        if not filled:
            raise InputError("There is no body on the reference CT, so there is no place for a dose.")
        ends = [(part.start - 0.5, part.stop - 0.5) for part in filled[0]]
        corners = np.array([[ends[a][(n >> a) & 1] for a in range(3)] for n in range(8)])
        points = corners @ affine[:3, :3].T + affine[:3, 3]
        low, high = points.min(axis=0), points.max(axis=0)
        counts = np.ceil((high - low) / spacing).astype(int) + 2 * _AROUND_VOXELS
        first = (low + high) / 2 - spacing * (counts - 1) / 2
        return cls((int(counts[0]), int(counts[1]), int(counts[2])), spacing, first)

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to RAS+ mm, ``(4, 4)``."""
        matrix = np.diag([self.spacing] * 3 + [1.0])
        matrix[:3, 3] = self.first
        return matrix

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions of the voxels along each axis in mm."""
        x, y, z = (start + self.spacing * np.arange(size) for start, size in zip(self.first, self.shape, strict=True))
        return x, y, z

    def sample(self, array: np.ndarray, affine: np.ndarray, outside: float) -> np.ndarray:
        """Values of an image here, averaged over about a voxel of this grid, in float32.

        Args:
            array: ``(i, j, k)``.
            affine: its voxel index to RAS+ mm; oblique, flipped and permuted ones too.
            outside: value beyond the image.
        """
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        widths = np.sqrt(np.maximum(self.spacing**2 - edges**2, 0)) / edges / _FWHM
        smooth = ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), widths, mode="nearest", truncate=3)
        to_index = np.linalg.inv(affine) @ self.affine
        sampled: np.ndarray = ndimage.affine_transform(
            smooth, to_index[:3, :3], to_index[:3, 3], self.shape, order=1, mode="grid-constant", cval=outside
        )
        return sampled

    def inside(self, mask: Volume) -> np.ndarray:
        """Voxels of which at least half lie in a mask, boolean."""
        return self.sample(mask.array, mask.affine, 0.0) >= 0.5

    def sphere(self, centre: np.ndarray, radius: float) -> np.ndarray:
        """Voxels within `radius` mm of a point in RAS+ mm, boolean."""
        x, y, z = np.ix_(*self.axes)
        distance: np.ndarray = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius**2
        return distance
