"""A mask of a volume that is kept on a coarse grid, so that no array of the size of the volume is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class GridMask:
    """A boolean volume each voxel of which is that of a coarse grid; where it is looked at it answers as an array.

    Attributes:
        coarse: boolean ``(x, y, z)``, every `steps`-th voxel of the volume.
        steps: voxels of the volume per voxel of `coarse`, per axis.
        shape: of the volume.
    """

    coarse: np.ndarray
    steps: tuple[int, ...]
    shape: tuple[int, ...]

    def __getitem__(self, where: Any) -> np.ndarray:
        """Voxels: numbers, slices, or arrays of indices for all axes, as numpy takes them."""
        places = where if isinstance(where, tuple) else (where,)
        places = (*places, *(slice(None),) * (3 - len(places)))
        if any(isinstance(place, np.ndarray) for place in places):
            return self.coarse[tuple(place // step for place, step in zip(places, self.steps, strict=True))]
        is_number = [isinstance(place, int | np.integer) for place in places]
        onto = [self._onto(axis, place) if is_number[axis] else slice(None) for axis, place in enumerate(places)]
        found = self.coarse[tuple(onto)]
        left = [axis for axis in range(3) if not is_number[axis]]
        for position, axis in reversed(list(enumerate(left))):
            found = self._spread(found, position, axis, places[axis])
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :, :], dtype=dtype)

    def __or__(self, other: GridMask) -> GridMask:
        """What either of two masks of one grid holds."""
        return GridMask(self.coarse | other.coarse, self.steps, self.shape)

    def any(self, axis: Sequence[int] | None = None) -> Any:
        """Whether there is a voxel; with two axes, for each plane across the third."""
        if axis is None:
            return bool(self.coarse.any())
        kept = self._third(axis)
        return self._spread(np.any(self.coarse, axis=tuple(axis)), 0, kept, slice(None))

    def mean(self, axis: Sequence[int]) -> np.ndarray:
        """Share of the voxels of each plane across the third axis."""
        kept = self._third(axis)
        counts = self.coarse.astype(np.float64)
        for other in sorted(axis, reverse=True):
            counts = np.tensordot(counts, self._weights(other), axes=(other, 0))
        voxels = np.prod([self.shape[other] for other in axis])
        return self._spread(counts, 0, kept, slice(None)) / voxels

    def take(self, index: int, axis: int) -> np.ndarray:
        """A plane across an axis; negative indices count from the end."""
        return self[(slice(None),) * axis + (index,)]

    def _onto(self, axis: int, index: int) -> int:
        return int(index if index >= 0 else index + self.shape[axis]) // self.steps[axis]

    def _spread(self, found: np.ndarray, position: int, axis: int, place: slice) -> np.ndarray:
        if place == slice(None):
            wide = np.repeat(found, self.steps[axis], position)
            return wide[(slice(None),) * position + (slice(0, self.shape[axis]),)]
        return found.take(np.arange(*place.indices(self.shape[axis])) // self.steps[axis], position)

    def _weights(self, axis: int) -> np.ndarray:
        """How many voxels of the volume each coarse one stands for."""
        counts = np.full(self.coarse.shape[axis], float(self.steps[axis]))
        counts[-1] -= counts.sum() - self.shape[axis]
        return counts

    def _third(self, axis: Sequence[int]) -> int:
        (kept,) = {0, 1, 2} - set(axis)
        return kept
