"""From a weights file to a detector, and what is known of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.data.lung_patches import AnomalySplit, LungPatches
from medical_gans.errors import InputError
from medical_gans.inference.anomaly.fitted import FittedScore
from medical_gans.networks.anomaly_detector import AnomalyDetector
from medical_gans.training.checkpoints import WeightsCard, load_weights

_SIDES = ("train", "validation", "left_out")


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A detector in evaluation mode.

    Attributes:
        detector: generator, encoder, critic.
        file: its weights.
        window: HU that its range stands for.
        seen: hash of each patch that took part in training, in choosing settings, or is nearly one of training
            (``left_out``), and which of these.
        normal_quantiles: of each score of f-AnoGAN on held-out normal patches; empty where not known.
        fitted: the score that was fitted on validation patches; None where they held no nodules.
    """

    detector: AnomalyDetector
    file: Path
    window: tuple[float, float]
    seen: Mapping[str, str]
    normal_quantiles: Mapping[str, Sequence[float]]
    fitted: FittedScore | None = None

    def side(self, patches: LungPatches) -> np.ndarray:
        """``train``, ``validation``, ``left_out`` or ``unseen`` for each patch, ``(n,)``."""
        return np.array([self.seen.get(one, "unseen") for one in patches.hashes()], dtype="<U10")

    def percentile(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Share of held-out normal patches with a lower score, 0 to 1; NaN where not known."""
        known = self.normal_quantiles.get(name)
        if not known:
            return np.full(len(scores), np.nan)
        return np.interp(scores, known, np.linspace(0, 1, len(known)))


def load_detector(detector: AnomalyDetector, weights: str | Path) -> TrainedDetector:
    """Load the weights of a detector and the card beside them.

    Raises:
        InputError: the file is missing, damaged, does not fit, or has no card that tells the window.
    """
    file = Path(weights)
    load_weights(detector, file)
    card = WeightsCard.of(file)
    if card is None or card.window is None:
        raise InputError(
            f"{file} has no card ({file.with_suffix('.json').name}) beside it that tells the window in HU. "
            "Copy the card that lung_nodule anomaly_train wrote with the weights."
        )
    known: Mapping[str, Any] = card.fingerprint or {}
    seen = {one: side for side in _SIDES for one in known.get(side, ())}
    window = (float(card.window[0]), float(card.window[1]))
    fitted = FittedScore(known["fitted"]) if known.get("fitted") else None
    return TrainedDetector(detector, file, window, seen, known.get("normal_quantiles", {}), fitted)


def detector_card(
    split: AnomalySplit,
    network: Mapping[str, Any],
    normal_quantiles: Mapping[str, Sequence[float]],
    fitted: FittedScore | None = None,
) -> WeightsCard:
    """The card of a detector: window, networks, patches used, what scores are normal, and the fitted score."""
    spacing = [None if np.isnan(edge) else edge for edge in split.train.spacing]
    fingerprint: dict[str, Any] = {side: sorted(set(getattr(split, side).hashes())) for side in _SIDES}
    fingerprint["normal_quantiles"] = dict(normal_quantiles)
    fingerprint["fitted"] = None if fitted is None else dict(fitted.weights)
    return WeightsCard(spacing=spacing, network=dict(network), fingerprint=fingerprint, window=list(split.train.window))
