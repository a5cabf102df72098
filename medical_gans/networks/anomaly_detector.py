"""f-AnoGAN: critic and encoder, and generator, encoder and critic as one network: how a patch would look if normal.

A gradient penalty belongs to one image, so nothing may mix the images of a batch (Gulrajani et al. 2017, section 4):
critic and encoder have no normalisation. Strided convolutions at once keep both small enough for hours of a CPU to be
minutes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from medical_gans.errors import SettingError

_HALVINGS = 3


class _Shrinking(nn.Module):
    """Three strided convolutions: ``(batch, 1, size, size)`` to ``(batch, 4 width, size / 8, size / 8)``."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 2**_HALVINGS or size % 2**_HALVINGS:
            raise SettingError(f"size is {size}; give a multiple of {2**_HALVINGS}, such as 48.")
        self.size = size
        self.flat_features = 4 * width * (size // 2**_HALVINGS) ** 2
        channels = (1, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(_halving(before, after) for before, after in pairwise(channels))

    def trunk(self, image: Tensor) -> Tensor:
        for layer in self.layers:
            image = leaky_relu(layer(image), 0.2)
        return image


class PatchCritic(_Shrinking):
    """Patch to a logit; its last feature maps are the f of AnoGAN's feature residual.

    Args:
        size: voxels along each edge, a multiple of 8.
        width: channels after the first layer; doubled twice.
    """

    num_classes = 0

    def __init__(self, size: int = 48, width: int = 24) -> None:
        super().__init__(size, width)
        self.judge = nn.Linear(self.flat_features, 1)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """``(batch, 1, size, size)`` to logits ``(batch, 1)``; a class is not used."""
        return self.judge(self.trunk(image).flatten(1))

    def features(self, image: Tensor) -> Tensor:
        """``(batch, features)``: the last feature maps, their places kept."""
        return self.trunk(image).flatten(1)


class PatchEncoder(_Shrinking):
    """Patch to the latent vector that makes it.

    Args:
        size: voxels along each edge, a multiple of 8.
        latent_size: of the generator.
        width: channels after the first layer; doubled twice.
    """

    def __init__(self, size: int = 48, latent_size: int = 64, width: int = 24) -> None:
        super().__init__(size, width)
        self.latent = nn.Linear(self.flat_features, latent_size)

    def forward(self, image: Tensor) -> Tensor:
        """``(batch, 1, size, size)`` to ``(batch, latent_size)``."""
        return self.latent(self.trunk(image).flatten(1))


def _halving(before: int, after: int) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, 4, stride=2, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class AnomalyDetector(nn.Module):
    """f-AnoGAN (Schlegl et al. 2019): a patch and its reconstruction from normal anatomy.

    With `hidden_radius` the encoder does not see the middle of a patch, and has to say from what lies around it what
    normal lung would be there. A lesion then cannot explain itself away.

    Args:
        generator: of ``latent (batch, latent_size)``, trained on normal patches.
        encoder: of ``(batch, 1, size, size)`` to latent vectors.
        critic: of the generator, with ``features``.
        hidden_radius: voxels about the centre that the encoder does not see; 0 for the method as published. It is kept
            with the weights, and loading them restores it.
        size: voxels along each edge of a patch; None takes the generator's own.
        latent_size: numbers that a patch is made from; None takes the generator's own.
    """

    hidden: Tensor

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        critic: nn.Module,
        hidden_radius: float = 0.0,
        size: int | None = None,
        latent_size: int | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.encoder, self.critic = generator, encoder, critic
        self.size = int(generator.size if size is None else size)  # type: ignore[arg-type]
        self.latent_size = int(generator.latent_size if latent_size is None else latent_size)  # type: ignore[arg-type]
        self.register_buffer("hidden", distance_from_centre(self.size) < hidden_radius)

    def encode(self, image: Tensor) -> Tensor:
        """``(batch, 1, size, size)`` in [-1, 1] to ``(batch, latent_size)``."""
        return self.encoder(image.masked_fill(self.hidden, -1.0))

    def forward(self, image: Tensor) -> Tensor:
        """The patch as normal anatomy, ``(batch, 1, size, size)`` in [-1, 1]."""
        return self.generator(self.encode(image))

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
