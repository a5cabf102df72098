"""How far a new case may lie from the training cases: predictive intervals, steadied by prior knowledge.

A training set may hold three patients or three hundred. The scatter between patients is therefore pooled with
a prior scatter that counts as a number of imaginary patients (conjugate normal model), and the width of an
interval is that of a *new* patient under Student's t, or Fisher's F for several figures at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special, stats

FALSE_ALARM = 0.002
"""Probability that a case like those of training falls outside an interval, on each side."""
_PRIOR_PATIENTS = 6
_CONTRAST_FALSE_ALARM = 0.005
_CONTRAST_PRIOR_PATIENTS = 24
_CONTRAST_PRIOR_SD = 0.08
_CONTRAST_PRIOR_CORRELATION = 0.5


class Scale(NamedTuple):
    """Where a figure is nearly normal, and how much it differs between like patients there at least."""

    forward: Callable[[float], float]
    backward: Callable[[float], float]
    prior_sd: float


def _root_angle(share: float) -> float:
    return float(np.arcsin(np.sqrt(share)))


def _share(angle: float) -> float:
    return float(np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2)


def _log_odds(share: float) -> float:
    return float(special.logit(np.clip(share, 1e-4, 1 - 1e-4)))


def _same(value: float) -> float:
    return value


SCALES = {
    "spacing": Scale(np.log, np.exp, 0.15),
    "extent": Scale(np.log, np.exp, 0.15),
    "body_volume": Scale(np.log, np.exp, 0.15),
    "body_fraction": Scale(_log_odds, special.expit, 0.4),
    "border": Scale(_root_angle, _share, 0.08),
    "background": Scale(_same, _same, 0.05),
    "rim": Scale(_same, _same, 0.1),
}


def scale_of(name: str) -> Scale:
    """Scale of a figure: ``spacing_1`` and its like share one."""
    return SCALES[name.rstrip("123").rstrip("_")]


@dataclass(frozen=True)
class Spread:
    """One figure over the training cases.

    Attributes:
        count: cases in which it could be taken.
        mean: on its `Scale`.
        sd: sample standard deviation there, 0 for one case.
        low: smallest value, in the figure's own unit.
        high: largest value.
    """

    count: int
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> Spread:
        """Of the values in training."""
        scaled = [float(scale_of(name).forward(value)) for value in values]
        sd = float(np.std(scaled, ddof=1)) if len(scaled) > 1 else 0.0
        return cls(len(scaled), float(np.mean(scaled)), sd, float(min(values)), float(max(values)))

    def interval(self, name: str) -> tuple[float, float]:
        """Smallest and largest value of a case like those of training, in the figure's own unit."""
        scale, freedom = scale_of(name), _PRIOR_PATIENTS + self.count - 1
        pooled = (_PRIOR_PATIENTS * scale.prior_sd**2 + (self.count - 1) * self.sd**2) / freedom
        sd = max(scale.prior_sd, pooled**0.5) * (1 + 1 / self.count) ** 0.5
        half = float(stats.t.ppf(1 - FALSE_ALARM, freedom)) * sd
        return float(scale.backward(self.mean - half)), float(scale.backward(self.mean + half))


@dataclass(frozen=True)
class Contrast:
    """Quantiles of normalised intensity over the training cases.

    Attributes:
        count: cases.
        mean: quantile function, ``(quantile,)``.
        covariance: between cases, ``(quantile, quantile)``.
    """

    count: int
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, quantiles: Sequence[Sequence[float]]) -> Contrast:
        """Of the quantile functions in training."""
        rows = np.asarray(quantiles, dtype=np.float64)
        covariance = np.cov(rows.T) if len(rows) > 1 else np.zeros((rows.shape[1],) * 2)
        return cls(
            len(rows),
            tuple(rows.mean(axis=0).tolist()),
            tuple(tuple(row) for row in covariance.tolist()),
        )

    def distance(self, quantiles: Sequence[float]) -> float:
        """Distance of a new case as a multiple of the limit that one like case in 200 exceeds.

        Mahalanobis, the covariance pooled with a prior one (sd 0.08, correlation 0.5 between neighbours).
        """
        size = len(self.mean)
        apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        prior = _CONTRAST_PRIOR_SD**2 * _CONTRAST_PRIOR_CORRELATION**apart
        freedom = _CONTRAST_PRIOR_PATIENTS + self.count - 1
        pooled = (_CONTRAST_PRIOR_PATIENTS * prior + (self.count - 1) * np.array(self.covariance)) / freedom
        difference = np.subtract(quantiles, self.mean)
        squared = difference @ np.linalg.solve(pooled, difference) / size / (1 + 1 / self.count)
        limit = stats.f.ppf(1 - _CONTRAST_FALSE_ALARM, size, freedom - size + 1)
        return float(np.sqrt(squared / limit))

    def shift(self, quantiles: Sequence[float]) -> float:
        """1-Wasserstein distance of a case's intensities to the training mean, as a share of the range."""
        return float(np.mean(np.abs(np.subtract(quantiles, self.mean))) / 2)
