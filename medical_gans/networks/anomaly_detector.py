"""Generator, encoder and critic as one network: what is normal, and how a patch would look if it were."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AnomalyDetector(nn.Module):
    """f-AnoGAN (Schlegl et al. 2019): a patch and its reconstruction from normal anatomy.

    With `hidden_radius` the encoder does not see the middle of a patch, and has to say from what lies around it what
    normal lung would be there. A lesion then cannot explain itself away.

    Args:
        generator: of ``(latent (batch, latent_size), None)``, trained on normal patches.
        encoder: of ``(batch, 1, size, size)`` to latent vectors.
        critic: of the generator, with ``features``.
        hidden_radius: voxels about the centre that the encoder does not see; 0 for the method as published. It is kept
            with the weights, and loading them restores it.
    """

    hidden: Tensor

    def __init__(self, generator: nn.Module, encoder: nn.Module, critic: nn.Module, hidden_radius: float = 0.0) -> None:
        super().__init__()
        self.generator, self.encoder, self.critic = generator, encoder, critic
        size = int(generator.size)  # type: ignore[arg-type]
        self.size, self.latent_size = size, int(generator.latent_size)  # type: ignore[arg-type]
        self.register_buffer("hidden", distance_from_centre(size) < hidden_radius)

    def encode(self, image: Tensor) -> Tensor:
        """``(batch, 1, size, size)`` in [-1, 1] to ``(batch, latent_size)``."""
        return self.encoder(image.masked_fill(self.hidden, -1.0))

    def forward(self, image: Tensor) -> Tensor:
        """The patch as normal anatomy, ``(batch, 1, size, size)`` in [-1, 1]."""
        return self.generator(self.encode(image), None)

    def feature_residual(self, image: Tensor, reconstruction: Tensor, power: int = 1) -> Tensor:
        """Mean of |f(x) - f(G(z))|^power over the critic's features, ``(batch,)``."""
        difference = self.critic.features(image) - self.critic.features(reconstruction)  # type: ignore[operator]
        return difference.abs().pow(power).mean(1)

    def central_feature_residual(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """Mean of |f(x) - f(G(z))| over the places of the feature maps that are nearest to the centre, ``(batch,)``."""
        difference = self.critic.trunk(image) - self.critic.trunk(reconstruction)  # type: ignore[operator]
        edge = difference.shape[-1]
        middle = slice((edge - 1) // 2, edge // 2 + 1)
        return difference[..., middle, middle].abs().mean((1, 2, 3))


def distance_from_centre(size: int) -> Tensor:
    """Voxels between each place of a patch and its centre, ``(size, size)``."""
    along = torch.arange(size) - (size - 1) / 2
    return torch.hypot(along[:, None], along[None, :])
