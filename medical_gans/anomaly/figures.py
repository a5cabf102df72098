"""How well scores tell nodules from normal patches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score


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
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(is_nodule == one) for one in (0, 1)]
    drawn = []
    for _ in range(resamples):
        chosen = np.concatenate([rng.choice(own, len(own)) for own in members])
        drawn.append(roc_auc_score(is_nodule[chosen], scores[chosen]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Auc(float(roc_auc_score(is_nodule, scores)), float(low), float(high))


def has_both(is_nodule: np.ndarray) -> bool:
    """Whether nodules and normal patches are among them."""
    return bool((is_nodule == 0).any() and (is_nodule == 1).any())
