"""Areas under ROC curves with their bootstrap intervals, over images and over patients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Auc(NamedTuple):
    """Area under the ROC curve and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auc_with_interval(is_nodule: np.ndarray, scores: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Auc:
    """AUC of nodule against normal, with a percentile bootstrap of patches within each class.

    Patches of one patient are not independent, and whose a patch is may not be known: the interval is then too narrow.

    Args:
        is_nodule: ``(n,)``, 1 or 0, both present.
        scores: ``(n,)``, higher for nodules.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    values, place = np.unique(scores, return_inverse=True)
    rng = np.random.default_rng(seed)
    observed, drawn = [], []
    for label in (0, 1):
        own = place[is_nodule == label]
        observed.append(np.bincount(own, minlength=len(values))[None])
        taken = rng.choice(own, (resamples, len(own))) + len(values) * np.arange(resamples)[:, None]
        drawn.append(np.bincount(taken.ravel(), minlength=resamples * len(values)).reshape(resamples, -1))
    low, high = np.quantile(_auc(*drawn), (0.025, 0.975))
    return Auc(float(_auc(*observed)[0]), float(low), float(high))


def _auc(normal: np.ndarray, nodules: np.ndarray) -> np.ndarray:
    """AUC from how often each score, in ascending order, occurs: ``(resamples, values)`` to ``(resamples,)``."""
    beaten = np.cumsum(normal, axis=1) - normal / 2
    return (nodules * beaten).sum(1) / (nodules.sum(1) * normal.sum(1))


def has_both(is_nodule: np.ndarray) -> bool:
    """Whether nodules and normal patches are among them."""
    return bool((is_nodule == 0).any() and (is_nodule == 1).any())


def area_under_curve(score: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve: the share of pairs in the right order, ties counting half (Mann and Whitney 1947).

    Args:
        score: ``(n,)``.
        positive: ``(n,)`` truth.
        weights: ``(draws, n)``, how often each sample counts; None counts each once.

    Returns:
        ``(draws,)``, NaN where a class is missing.
    """
    truth = np.asarray(positive, dtype=bool)
    counts = np.ones((1, len(truth))) if weights is None else weights
    above = score[truth][:, None] - score[~truth][None, :]
    ordered = (above > 0) + 0.5 * (above == 0)
    with np.errstate(invalid="ignore"):
        pairs = counts[:, truth].sum(1) * counts[:, ~truth].sum(1)
        area: np.ndarray = ((counts[:, truth] @ ordered) * counts[:, ~truth]).sum(1) / pairs
    return area


def patient_bootstrap(patient: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """``(draws, n)``: how often each sample counts when as many patients are drawn with replacement."""
    names, index = np.unique(patient, return_inverse=True)
    return rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, index]
