"""Smooth random fields over positions: the same position has the same value in every crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

Range = tuple[float, float]
"""Lowest and highest value of what is drawn."""

_PERIOD = 64
_SPLINE_DEVIATION = 0.479**0.5
"""Of a cubic B-spline sum of independent normal coefficients, along one axis."""
_ONE_KNOT = torch.ones(1, 1)


@dataclass(frozen=True)
class Window:
    """Which voxels of an image are painted.

    Attributes:
        origin: index of the first voxel, per axis (slice, row, column).
        shape: voxels per axis.
        spacing: mm per axis.
    """

    origin: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


class RandomFields:
    """Random fields over the positions of a window: the same position has the same value in every window.

    Each field is a cubic B-spline over a periodic lattice of normal numbers, shifted by a random phase.

    Args:
        window: where to evaluate.
        rng: draws the phases.
        seed: of the lattice, drawn once.
    """

    _lattices: ClassVar[dict[int, Tensor]] = {}

    def __init__(self, window: Window, rng: np.random.Generator, seed: int = 0) -> None:
        self.window = window
        self.rng = rng
        if seed not in self._lattices:
            drawn = torch.from_numpy(np.random.default_rng((seed, 77)).normal(size=(_PERIOD,) * 3).astype(np.float32))
            self._lattices[seed] = drawn
        self.lattice = self._lattices[seed]

    def smooth(self, scale: float, along_slices: float | None = 1.0, count: int = 1) -> list[Tensor]:
        """Fields of mean 0 and standard deviation about 1.

        Args:
            scale: mm over which they change.
            along_slices: factor of `scale` across the slices, for structures that run along them; None: all slices are
                alike, and one is returned for all.
            count: number of fields.

        Returns:
            Fields ``(slice, row, column)``, or ``(1, row, column)``.
        """
        phase = self.rng.uniform(0.0, _PERIOD, 3)
        corners = self.rng.integers(0, _PERIOD, (count, 3))
        window, weights, knots = self.window, [], []
        for axis, edge in enumerate((scale * (along_slices or 1.0), scale, scale)):
            if axis == 0 and along_slices is None:
                weights.append(_ONE_KNOT)
                knots.append(torch.zeros(1, dtype=torch.long))
                continue
            step = window.spacing[axis] / edge
            first, matrix = _spline_weights(window.origin[axis], window.shape[axis], step, phase[axis])
            weights.append(torch.from_numpy(matrix))
            knots.append(torch.arange(first, first + matrix.shape[1]))
        fields = []
        for corner in corners.tolist():
            part = self.lattice
            for axis in range(3):
                part = part.index_select(axis, (knots[axis] + corner[axis]).remainder_(_PERIOD))
            part = (weights[0] @ part.flatten(1)).view(-1, *part.shape[1:])
            rows = torch.matmul(weights[1], part)
            fields.append(torch.matmul(rows.flatten(0, 1), weights[2].T).view(*rows.shape[:2], -1))
        return fields

    def white(self) -> Tensor:
        """Independent normal numbers, one per voxel (they repeat after 64 voxels, shifted from slice to slice)."""
        phase = self.rng.integers(0, _PERIOD, 3)
        indices = [
            (torch.arange(n) + int(o) + int(p)).remainder(_PERIOD)
            for o, n, p in zip(self.window.origin, self.window.shape, phase, strict=True)
        ]
        found = self.lattice
        for axis, index in enumerate(indices):
            found = found.index_select(axis, index)
        return found


def _spline_weights(origin: int, count: int, step: float, phase: float) -> tuple[int, np.ndarray]:
    """First knot, and the matrix ``(voxels, knots)`` of cubic B-spline weights."""
    position = (np.arange(count) + origin) * step + phase
    first = int(position[0] // 1) - 1
    last = int(position[-1] // 1) + 2
    distance = np.abs(position[:, None].astype(np.float32) - np.arange(first, last + 1, dtype=np.float32))
    near = np.clip(1.0 - distance, 0.0, None)
    wide = np.clip(2.0 - distance, 0.0, None)
    return first, (wide * wide * wide - 4.0 * near * near * near) * np.float32(1.0 / (6.0 * _SPLINE_DEVIATION))
