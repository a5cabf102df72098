"""The DCGAN of Chuquicusma et al. 2018: 7 -> 14 -> 28 -> 56 in the generator, 56 -> 28 -> 14 -> dense to judge."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medical_gans.errors import SettingError


class DcganGenerator(nn.Module):
    """Three strided transposed convolutions with batch norm, ReLU and a final tanh (Radford et al. 2016, section 3).

    Args:
        spatial_dims: 2 or 3.
        size: voxels along each edge, a multiple of 8.
        latent_size: 100 in the paper.
        width: channels before the last layer; 64 for the paper.

    Raises:
        SettingError: `size` is not a multiple of 8.
    """

    num_classes = 0

    def __init__(self, spatial_dims: int = 2, size: int = 56, latent_size: int = 100, width: int = 64) -> None:
        super().__init__()
        if size < 8 or size % 8:
            raise SettingError(f"size is {size}; give a multiple of 8, such as 56.")
        self.size, self.latent_size, self.spatial_dims = size, latent_size, spatial_dims
        grow, norm = Conv[Conv.CONVTRANS, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.start_edge = size // 8
        self.start = nn.Linear(latent_size, 4 * width * self.start_edge**spatial_dims)
        self.body = nn.Sequential(
            norm(4 * width),
            nn.ReLU(),
            grow(4 * width, 2 * width, 5, stride=2, padding=2, output_padding=1),
            norm(2 * width),
            nn.ReLU(),
            grow(2 * width, width, 5, stride=2, padding=2, output_padding=1),
            norm(width),
            nn.ReLU(),
            grow(width, 1, 5, stride=2, padding=2, output_padding=1),
        )
        _small_gaussian(self)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """``(batch, latent_size)`` to ``(batch, 1, *spatial)`` in [-1, 1]; a class is not used."""
        start = self.start(latent)
        return torch.tanh(self.body(start.reshape(len(start), -1, *[self.start_edge] * self.spatial_dims)))


class DcganDiscriminator(nn.Module):
    """Two strided convolutions and a dense layer, leaky ReLU 0.2, batch norm but on the input.

    Args:
        spatial_dims: 2 or 3.
        size: voxels along each edge, a multiple of 4.
        width: channels of the first layer; 64 for the paper.
    """

    num_classes = 0

    def __init__(self, spatial_dims: int = 2, size: int = 56, width: int = 64) -> None:
        super().__init__()
        self.size = size
        conv = Conv[Conv.CONV, spatial_dims]
        self.body = nn.Sequential(
            conv(1, width, 5, stride=2, padding=2),
            nn.LeakyReLU(0.2),
            conv(width, 2 * width, 5, stride=2, padding=2),
            Norm[Norm.BATCH, spatial_dims](2 * width),
            nn.LeakyReLU(0.2),
        )
        self.judge = nn.Linear(2 * width * (size // 4) ** spatial_dims, 1)
        _small_gaussian(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """``(batch, 1, *spatial)`` to logits ``(batch, 1)``; a class is not used."""
        return self.judge(self.body(image).flatten(1))

    def features(self, image: Tensor) -> Tensor:
        """``(batch, features)``: the last feature maps, averaged over space."""
        return self.body(image).flatten(2).mean(2)


def _small_gaussian(network: nn.Module) -> None:
    """N(0, 0.02) weights (Radford et al. 2016, section 4); batch norm keeps 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
