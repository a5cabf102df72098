"""A score whose weights are fitted: which mixture of evidence tells held-out nodules from held-out normal patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

EVIDENCE = ("central_feature_residual", "query_blob", "query_brightness")
_FOLDS = 5


@dataclass(frozen=True)
class FittedScore:
    """A linear score of other scores: the log odds of a nodule, up to a constant.

    Attributes:
        weights: of each score, by name.
    """

    weights: Mapping[str, float]

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """``(n,)`` from ``(n,)`` for each name."""
        return np.sum([weight * scores[name] for name, weight in self.weights.items()], axis=0)


def fit_score(scores: Mapping[str, np.ndarray], is_nodule: np.ndarray) -> tuple[FittedScore, np.ndarray]:
    """Logistic regression of the scores in `EVIDENCE`, each brought to deviation 1.

    Args:
        scores: ``(n,)`` by name.
        is_nodule: ``(n,)``, 1 or 0, several of each.

    Returns:
        The score; and ``(n,)`` what each patch gets from a fit to the others (cross-validated), for an honest figure.
    """
    evidence = np.stack([scores[name] for name in EVIDENCE], 1).astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(min(_FOLDS, int(np.bincount(is_nodule).min())), shuffle=True, random_state=0)
    held_out = cross_val_predict(model, evidence, is_nodule, cv=folds, method="decision_function")
    scaler, regression = model.fit(evidence, is_nodule)
    weights = regression.coef_[0] / scaler.scale_
    fitted = FittedScore({name: float(f"{weight:.6g}") for name, weight in zip(EVIDENCE, weights, strict=True)})
    offset = regression.intercept_[0] - weights @ scaler.mean_
    return fitted, held_out - offset
