"""What is measured of a volume to tell whether weights know its kind, and how far from training is still usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage, special

from medical_gans.io import mapped
from medical_gans.transforms import body_mask, hounsfield_to_unit, mr_reference_intensity, normalise_mr

QUANTILE_LEVELS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
_GRID_MM = 2.0
_MOST_VOXELS = 2_000_000
_SCALP_MM = (3.0, 8.0)
_BRAIN_MM = (12.0, 20.0)
_FEWEST_VOXELS = 50


@dataclass(frozen=True)
class Measurement:
    """Figures of one volume, whatever the order and direction of its axes.

    Attributes:
        scalars: by name: ``spacing_1`` to ``_3`` and ``extent_1`` to ``_3`` (mm, ascending), ``body_volume``
            (litres), ``body_fraction`` and ``border`` (shares), ``background`` and ``rim`` (normalised
            intensity). A figure that cannot be taken is left out.
        quantiles: of the normalised intensity inside the body, at `QUANTILE_LEVELS`.
        saturated: share of the body at the very highest value.
    """

    scalars: dict[str, float]
    quantiles: tuple[float, ...]
    saturated: float


def measure(array: np.ndarray, spacing: Sequence[float], modality: str) -> Measurement | None:
    """Measure a volume on a coarse grid, so that the cost does not grow with resolution.

    Args:
        array: ``(i, j, k)``, scanner units for MR, HU for CT.
        spacing: mm.
        modality: ``"MR"`` or ``"CT"``.

    Returns:
        None when nothing in the volume looks like a body.
    """
    extent = np.array(array.shape) * spacing
    grid = max(_GRID_MM, float(np.prod(extent) / _MOST_VOXELS) ** (1 / 3))
    steps = [max(1, round(grid / size)) for size in spacing]
    seen = mapped.looked_up(array[tuple(slice(None, None, step) for step in steps)])
    coarse = np.asarray(seen, dtype=np.float32)
    coarse_spacing = [size * step for size, step in zip(spacing, steps, strict=True)]
    body = body_mask(coarse, coarse_spacing, modality)
    if np.count_nonzero(body) < _FEWEST_VOXELS or coarse.min() == coarse.max():
        return None
    if modality == "CT":
        unit = hounsfield_to_unit(coarse)
    else:
        unit = normalise_mr(coarse, mr_reference_intensity(coarse, body))
    scalars = {
        **{f"spacing_{n}": float(size) for n, size in enumerate(sorted(spacing), 1)},
        **{f"extent_{n}": float(size) for n, size in enumerate(sorted(extent), 1)},
        "body_volume": float(np.count_nonzero(body) * np.prod(coarse_spacing) / 1e6),
        "body_fraction": float(body.mean()),
        "border": _border(body),
    }
    if np.count_nonzero(~body) >= _FEWEST_VOXELS:
        scalars["background"] = float(np.median(unit[~body]))
    rim = _rim(unit, body, coarse_spacing)
    if rim is not None:
        scalars["rim"] = rim
    inside = coarse[body]
    return Measurement(
        scalars=scalars,
        quantiles=tuple(float(q) for q in np.quantile(unit[body], QUANTILE_LEVELS)),
        saturated=float(np.mean(inside == inside.max())),
    )


def _border(body: np.ndarray) -> float:
    """How much of the border of the picture the body covers: the median of the three pairs of faces.

    A whole head is cut by the lower face at most, so that the median is near 0; a limb that fills the field
    of view is cut on several sides.
    """
    return float(np.median([(body.take(0, axis).mean() + body.take(-1, axis).mean()) / 2 for axis in range(3)]))


def _rim(unit: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> float | None:
    """Median intensity 3 to 8 mm below the surface minus that at 12 to 20 mm.

    Scalp over skull and limb fat over muscle make it positive; a brain without scalp and skull does not.
    Where the picture ends there is no surface.
    """
    if body.all():
        return None
    depth = ndimage.distance_transform_edt(np.pad(body, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1, 1:-1]
    layers = [unit[(depth > near) & (depth <= far)] for near, far in (_SCALP_MM, _BRAIN_MM)]
    if min(layer.size for layer in layers) < _FEWEST_VOXELS:
        return None
    return float(np.median(layers[0]) - np.median(layers[1]))


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
        half = float(special.stdtrit(freedom, 1 - FALSE_ALARM)) * sd
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
        limit = special.fdtri(size, freedom - size + 1, 1 - _CONTRAST_FALSE_ALARM)
        return float(np.sqrt(squared / limit))

    def shift(self, quantiles: Sequence[float]) -> float:
        """1-Wasserstein distance of a case's intensities to the training mean, as a share of the range."""
        return float(np.mean(np.abs(np.subtract(quantiles, self.mean))) / 2)
