"""Mean and spread of several estimates of one volume, without keeping the estimates."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import numpy as np

from medical_gans.inference.synthesis.body import Part


class Moments:
    """Running mean and, on request, sum of squared deviations (Welford 1962), in float32.

    Args:
        shape: of each estimate.
        spread: keep what the standard deviation needs.

    Attributes:
        count: of the latest estimate; every part of the volume has to get as many.
    """

    def __init__(self, shape: Sequence[int], spread: bool) -> None:
        self.count = 0
        self.mean = np.zeros(shape, dtype=np.float32)
        self._squares = np.zeros(shape, dtype=np.float32) if spread else None

    def add(self, part: Part | EllipsisType, estimate: np.ndarray, number: int) -> None:
        """Take in an estimate of a part of the volume, numbered from 1; `estimate` is overwritten."""
        estimate -= self.mean[part]
        self.mean[part] += estimate / np.float32(number)
        if self._squares is not None:
            np.square(estimate, out=estimate)
            self._squares[part] += estimate * np.float32((number - 1) / number)
        self.count = number

    def standard_deviation(self, part: Part | EllipsisType) -> np.ndarray:
        """Of the estimates of a part, with n - 1; needs two estimates."""
        assert self._squares is not None
        deviation: np.ndarray = np.sqrt(self._squares[part] / np.float32(self.count - 1))
        return deviation
