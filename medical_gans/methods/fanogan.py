"""Second half of f-AnoGAN: the encoder that finds the latent vector of a patch at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medical_gans.networks.anomaly_detector import AnomalyDetector
from medical_gans.training.parallel import average_gradients, share_weights
from medical_gans.training.schedules import flat_then_linear


class EncoderStep:
    """One update of the encoder, generator and critic as they are (izi_f, Schlegl et al. 2019, equation 5).

    Loss: mean squared difference of image and reconstruction, plus kappa times that of the critic's features.

    Args:
        detector: whose encoder learns.
        kappa: weight of the features.
        learning_rate: of RMSprop; 5e-5 as published.
        flat_epochs: epochs at the full learning rate.
        decay_epochs: epochs of linear decay that follow.
        device: where the networks are.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        *,
        kappa: float = 1.0,
        learning_rate: float = 5e-5,
        flat_epochs: int = 100,
        decay_epochs: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.detector = detector.to(self.device)
        self.kappa = kappa
        share_weights(self.detector.encoder)
        self.optimiser = torch.optim.RMSprop(self.detector.encoder.parameters(), learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda epoch: flat_then_linear(epoch, flat_epochs, decay_epochs)
        )
        self.images: dict[str, Tensor] = {}

    @property
    def shipped(self) -> AnomalyDetector:
        """Generator, encoder and critic."""
        return self.detector

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update once; the losses by name."""
        image = batch["image"].to(self.device, non_blocking=True)
        self.detector.eval()
        for network in (self.detector.generator, self.detector.critic):
            network.requires_grad_(False)
        made = self.detector.generator(self.detector.encode(image), None)
        in_image = (image - made).square().mean()
        in_features = self.detector.feature_residual(image, made, 2).mean()
        self.optimiser.zero_grad(set_to_none=True)
        (in_image + self.kappa * in_features).backward()
        average_gradients(list(self.detector.encoder.parameters()))
        self.optimiser.step()
        self.images = {"query": image, "reconstruction": made.detach()}
        return {"image": float(in_image.detach()), "features": float(in_features.detach())}

    def end_epoch(self) -> None:
        """Advance the learning-rate schedule."""
        self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; generator and critic are those of the first phase."""
        return {
            "detector": self.detector.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.detector.load_state_dict(state["detector"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
