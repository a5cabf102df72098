"""A case as a person looks at it: planes, orientation and display windows.

Only what is drawn is read, so memory-mapped volumes of any size will do. Planes are shown in radiological
orientation: the patient's right is on the left of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medical_gans.io import mapped
from medical_gans.io.orientation import ras_affine, ras_view

_SAMPLED_VOXELS = 1 << 21
_BODY_HU = -300
_BONE_HU = 250


class Window(NamedTuple):
    """Display window in HU."""

    level: float
    width: float

    def __call__(self, hounsfield: np.ndarray) -> np.ndarray:
        """Grey values in [0, 1]: 0 up to ``level - width / 2``, 1 from ``level + width / 2``."""
        low = self.level - self.width / 2
        return np.clip((np.asarray(hounsfield, dtype=np.float32) - low) / self.width, 0.0, 1.0)


SOFT_TISSUE = Window(40, 400)
BONE = Window(500, 2000)


class Plane(NamedTuple):
    """A view: the axis of RAS+ space that it cuts, and the letters at left, right, top and bottom."""

    name: str
    axis: int
    letters: tuple[str, str, str, str]


AXIAL = Plane("axial", 2, ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 0, ("A", "P", "S", "I"))


def radiological_slice(volume: np.ndarray, plane: Plane, index: int) -> np.ndarray:
    """Slice of a `ras_view`, as rows from top to bottom and columns from left to right of the picture."""
    cut = mapped.looked_up(volume[(slice(None),) * plane.axis + (index,)])
    # RAS+ indices grow to the right, to anterior and up; the picture starts with them, at its left and top.
    return cut[::-1, ::-1].T


def sampled(volume: np.ndarray) -> np.ndarray:
    """Every n-th voxel along each axis, some two million voxels at most."""
    step = _stride(volume)
    return mapped.looked_up(volume[::step, ::step, ::step])


def _stride(volume: np.ndarray) -> int:
    return max(1, int(np.ceil((volume.size / _SAMPLED_VOXELS) ** (1 / 3))))


@dataclass(frozen=True)
class CaseVolumes:
    """The volumes of one case, each a `ras_view` of what was stored.

    Attributes:
        mr: any scale.
        synthetic_ct: HU.
        affine: index to RAS+ mm, of the views.
        reference: true CT in HU.
        mask: where the difference is shown and the histogram is counted.
        standard_deviation: HU.
    """

    mr: np.ndarray
    synthetic_ct: np.ndarray
    affine: np.ndarray
    reference: np.ndarray | None = None
    mask: np.ndarray | None = None
    standard_deviation: np.ndarray | None = None

    @classmethod
    def from_stored(
        cls, mr: np.ndarray, synthetic_ct: np.ndarray, affine: np.ndarray, **others: np.ndarray | None
    ) -> CaseVolumes:
        """From arrays on one grid, in stored order, and their affine."""
        to_ras = ras_affine(affine, mr.shape)
        views = {name: None if array is None else ras_view(array, affine) for name, array in others.items()}
        return cls(ras_view(mr, affine), ras_view(synthetic_ct, affine), to_ras, **views)

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm along right, anterior, superior."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def slice_size(self, plane: Plane) -> tuple[float, float]:
        """Width and height of a slice in mm."""
        across, up = (axis for axis in range(3) if axis != plane.axis)
        size = self.spacing * self.mr.shape
        return float(size[across]), float(size[up])

    def position(self, plane: Plane, index: int) -> float:
        """Where the middle of a slice lies along the normal of its plane, in RAS+ mm."""
        middle = (np.array(self.mr.shape) - 1) / 2
        middle[plane.axis] = index
        return float((self.affine[:3, :3] @ middle + self.affine[:3, 3])[plane.axis])

    def middle(self) -> tuple[int, ...]:
        """Index at which planes show most: the median of bone, or of the body where there is little bone."""
        synthetic, mask = sampled(self.synthetic_ct), None if self.mask is None else sampled(self.mask) > 0
        body = synthetic > _BODY_HU if mask is None else mask
        bone = (synthetic > _BONE_HU) & body
        chosen = bone if np.count_nonzero(bone) > 0.005 * np.count_nonzero(body) else body
        where = np.nonzero(chosen if chosen.any() else ~chosen)
        return tuple(int(np.median(indices)) * _stride(self.mr) for indices in where)

    def axial_extent(self) -> tuple[int, int]:
        """First and last axial slice that shows the body; all slices where there is none."""
        inside = sampled(self.synthetic_ct) > _BODY_HU if self.mask is None else sampled(self.mask) > 0
        filled = np.flatnonzero(inside.mean(axis=(0, 1)) > 0.01) * _stride(self.mr)
        return (int(filled[0]), int(filled[-1])) if filled.size else (0, self.mr.shape[2] - 1)
