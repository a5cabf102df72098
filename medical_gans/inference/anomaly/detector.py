"""A trained detector: its weights, what is known of its training, and the two ways from a patch to its normal twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SimpleInferer
from torch import Tensor
from torch.optim import Optimizer

from medical_gans.data.lung_patches import LungPatches
from medical_gans.data.lung_views import AnomalySplit
from medical_gans.errors import InputError
from medical_gans.inference.anomaly.scores import FittedScore
from medical_gans.networks.anomaly_detector import AnomalyDetector
from medical_gans.weights import WeightsCard, load_weights

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
    network_def: Mapping[str, Any],
    normal_quantiles: Mapping[str, Sequence[float]],
    fitted: FittedScore | None = None,
) -> WeightsCard:
    """The card of a detector: networks, window, patches used, what scores are normal, and the fitted score."""
    spacing = [None if np.isnan(edge) else edge for edge in split.train.spacing]
    fingerprint: dict[str, Any] = {side: sorted(set(getattr(split, side).hashes())) for side in _SIDES}
    fingerprint["normal_quantiles"] = dict(normal_quantiles)
    fingerprint["fitted"] = None if fitted is None else dict(fitted.weights)
    return WeightsCard(
        spacing=spacing,
        network_def=dict(network_def),
        fingerprint=fingerprint,
        window=list(split.train.window),
        patch_size=list(split.train.hounsfield.shape[1:]),
    )


class LatentSearch:
    """Gradient descent in the latent space, all patches of a batch at once and each by itself.

    Loss of a patch: (1 - lambda) x mean |x - G(z)| + lambda x mean |f(x) - f(G(z))|, f the critic's features. Where the
    detector hides the centre, G(z) stands in for x there (as in the completion of Yeh et al. 2017), so that only what
    lies around it has to fit.

    Args:
        detector: generator and critic; the encoder is not used.
        steps: 500 as published.
        optimizer: makes the optimiser from a list of one tensor, the latent vectors; None is Adam at 0.02.
        weight: lambda, 0.1 as published.
        seed: of the first latent vectors; each patch gets the same whatever else is searched for.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        *,
        steps: int = 500,
        optimizer: Callable[..., Optimizer] | None = None,
        weight: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.detector = detector.eval()
        self.steps, self.optimizer, self.weight, self.seed = (
            steps,
            optimizer or partial(torch.optim.Adam, lr=0.02),
            weight,
            seed,
        )

    def __call__(self, image: Tensor, on_step: Callable[[], object] | None = None) -> Tensor:
        """The nearest images of the generator, ``(batch, 1, size, size)``.

        Args:
            image: ``(batch, 1, size, size)`` in [-1, 1].
            on_step: called after each step.
        """
        detector = self.detector
        detector.requires_grad_(False)
        start = torch.randn(detector.latent_size, generator=torch.Generator().manual_seed(self.seed))
        latent = start.repeat(len(image), 1).to(image.device).requires_grad_()
        optimiser = self.optimizer([latent])
        for _ in range(self.steps):
            made = detector.generator(latent)
            shown = torch.where(detector.hidden, made, image)
            residual = (shown - made).abs().flatten(1).mean(1)
            loss = (1 - self.weight) * residual + self.weight * detector.feature_residual(shown, made)
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()  # the sum: Adam scales each number by itself, so patches do not share a step size
            optimiser.step()
            if on_step is not None:
                on_step()
        with torch.no_grad():
            return detector.generator(latent.detach())


def reconstructed(
    detector: AnomalyDetector,
    images: Tensor,
    batch_size: int = 64,
    inferer: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Every patch as normal anatomy by the encoder, ``(n, 1, size, size)``.

    Args:
        detector: trained.
        images: ``(n, 1, size, size)`` in [-1, 1].
        batch_size: patches at once.
        inferer: of (patches, detector), such as MONAI's SimpleInferer, which is the default.
    """
    detector.eval()
    inferer = inferer or SimpleInferer()
    with torch.inference_mode():
        return torch.cat([inferer(part, detector) for part in images.split(batch_size)])
