"""Critic and encoder of f-AnoGAN: strided convolutions without normalisation.

A gradient penalty belongs to one image, so nothing may mix the images of a batch (Gulrajani et al. 2017, section 4).
Strided convolutions at once keep both small enough for hours of a CPU to be minutes.
"""

from __future__ import annotations

from itertools import pairwise

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
