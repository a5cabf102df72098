"""Second half of f-AnoGAN: the encoder that finds the latent vector of a patch at once (Schlegl et al. 2019).

The first half is `gan.Gan` with Wasserstein's objective and a gradient penalty, on normal patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medical_gans.networks import AnomalyDetector
from medical_gans.training.player import Method, Player


class Encoder(Method):
    """Updates the encoder, generator and critic as they are: izi_f (equation 5).

    Loss: |x - G(E(x))|^2 + kappa |f(x) - f(G(E(x)))|^2, both as means, f the critic's last feature maps.

    Args:
        encoder: player with the network ``encoder``, which is that of the detector.
        detector: generator, encoder and critic.
        losses: ``image``, of (x, G(E(x))), and ``features``, of (f(x), f(G(E(x)))): means over batch and elements.
        weights: of ``image``, and of ``features``: kappa; 1 where not given.
    """

    def __init__(
        self,
        encoder: Player,
        detector: AnomalyDetector,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__({"encoder": encoder}, shipped=("encoder", "encoder"))
        self.detector = detector.to(encoder.device)
        self.losses = losses
        self.weights = {"image": 1.0, "features": 1.0, **(weights or {})}

    @property
    def shipped(self) -> AnomalyDetector:
        """Generator, encoder and critic."""
        return self.detector

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update once; the losses by name."""
        encoder, detector = self.players["encoder"], self.detector
        image = batch["image"].to(encoder.device, non_blocking=True)
        for network in (detector.generator, detector.critic):
            network.eval().requires_grad_(False)
        encoder.begin()
        with encoder.autocast():
            made = detector(image)
            terms = {
                "image": self.losses["image"](made, image),
                "features": self.losses["features"](detector.critic.features(made), detector.critic.features(image)),  # type: ignore[operator]
            }
            loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        encoder.descend(loss)
        self.images = {"query": image, "reconstruction": made.detach().float()}
        return {name: float(term.detach()) for name, term in terms.items()}
