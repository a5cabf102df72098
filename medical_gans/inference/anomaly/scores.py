"""How unusual a patch is: scores of the difference between it and its reconstruction, higher for more unusual.

Published scores average over the whole patch. A nodule is small and brighter than lung, and a candidate is centred, so
the scores of the centre ask the narrower question: is there a bright blob that normal lung would not have there? The
score ``fitted`` weighs them by what tells held-out nodules from held-out normal patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from medical_gans.networks.anomaly_detector import AnomalyDetector, distance_from_centre

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


BLOB_SCALES = (2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0)
_CENTRE_RADIUS = 3.0
_SMOOTHING = 3.0

SCORES = {
    "residual": "mean absolute difference (image part of AnoGAN's score)",
    "feature_residual": "mean absolute difference of critic features (feature part of AnoGAN's score)",
    "anogan": "(1 - lambda) residual + lambda feature_residual (Schlegl et al. 2017, equation 6)",
    "izi_f": "squared difference of image plus kappa times that of critic features (Schlegl et al. 2019, equation 6)",
    "central_feature_residual": "feature_residual at the centre of the critic's feature maps",
    "excess": "brightness at the centre above the reconstruction's, smoothed",
    "blob": "strongest response of a blob filter to the difference at the centre",
    "query_blob": "the same filter on the patch itself: a baseline without any network",
    "query_brightness": "brightness of the patch at the centre, smoothed: a baseline without any network",
    "fitted": "central_feature_residual, query_blob and query_brightness, by weights fitted on the validation patches",
}
"""Names of the scores, and what they are. All but ``fitted`` need no nodule to be known."""


def anomaly_scores(
    detector: AnomalyDetector,
    image: Tensor,
    reconstruction: Tensor,
    *,
    anogan_lambda: float = 0.1,
    kappa: float = 1.0,
    fitted: FittedScore | None = None,
) -> dict[str, np.ndarray]:
    """Every score of `SCORES` for each patch; ``fitted`` where it is known.

    Args:
        detector: whose critic gives the features.
        image: ``(batch, 1, size, size)`` in [-1, 1].
        reconstruction: of the same shape.
        anogan_lambda: weight of the features in AnoGAN's score.
        kappa: weight of the features in f-AnoGAN's score.
        fitted: of the weights' card.

    Returns:
        ``(batch,)`` for each name, in units of [-1, 1].
    """
    difference = image - reconstruction
    residual = difference.abs().flatten(1).mean(1)
    feature_residual = detector.feature_residual(image, reconstruction)
    squared = difference.square().flatten(1).mean(1) + kappa * detector.feature_residual(image, reconstruction, 2)
    map_, query = (one[:, 0].cpu().numpy() for one in (difference, image))
    scores = {
        "residual": _plain(residual),
        "feature_residual": _plain(feature_residual),
        "anogan": _plain((1 - anogan_lambda) * residual + anogan_lambda * feature_residual),
        "izi_f": _plain(squared),
        "central_feature_residual": _plain(detector.central_feature_residual(image, reconstruction)),
        "excess": central_brightness(map_),
        "blob": blob_response(map_),
        "query_blob": blob_response(query),
        "query_brightness": central_brightness(query),
    }
    return scores if fitted is None else scores | {"fitted": fitted(scores)}


def central_brightness(images: np.ndarray) -> np.ndarray:
    """Largest value near the centre of smoothed images, ``(n, rows, columns)`` to ``(n,)``; signed."""
    smooth = ndimage.gaussian_filter(images, (0.0, _SMOOTHING, _SMOOTHING), mode="nearest")
    return smooth[:, _centre(images)].max(1)


def blob_response(images: np.ndarray) -> np.ndarray:
    """Strongest response near the centre of a filter for bright blobs of several sizes, ``(n,)``, at least 0.

    At scale s it is s^2 times the smaller curvature, the negative of the larger eigenvalue of the Hessian of the image
    smoothed by a Gaussian of s voxels (after the dot filter of Li et al. 2003): a vessel is curved one way only, a
    wall not at all.

    Args:
        images: ``(n, rows, columns)``.
    """
    best = np.zeros(len(images), dtype=np.float32)
    centre = _centre(images)
    for scale in BLOB_SCALES:
        rows, columns, mixed = (
            scale**2 * ndimage.gaussian_filter(images, (0.0, scale, scale), order=(0, *order), mode="nearest")
            for order in ((2, 0), (0, 2), (1, 1))
        )
        larger = (rows + columns) / 2 + np.hypot((rows - columns) / 2, mixed)
        best = np.maximum(best, (-larger)[:, centre].max(1))
    return best


def percentile_among(normal: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Share of normal patches, 0 to 1, whose score is below each score."""
    return np.searchsorted(np.sort(normal), scores) / len(normal)


def quantiles(scores: Mapping[str, np.ndarray], count: int = 101) -> dict[str, list[float]]:
    """Evenly spaced quantiles of each score, by which `percentile_among` can be told later."""
    places = np.linspace(0, 1, count)
    return {name: [float(f"{value:.6g}") for value in np.quantile(values, places)] for name, values in scores.items()}


def _centre(images: np.ndarray) -> np.ndarray:
    return distance_from_centre(images.shape[-1]).numpy() < _CENTRE_RADIUS


def _plain(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
