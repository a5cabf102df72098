"""Class-conditional residual generator of lung nodules.

It follows BigGAN (Brock et al. 2019) in what pays on a few hundred images: the latent vector and the class reach every
normalisation. Upsampling stands behind the first convolution of a block: half the cost.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.functional import leaky_relu as leaky

from medical_gans.errors import SettingError

HALVINGS = 3
"""Between the patch and the coarsest maps."""


class ConditionalNorm(nn.Module):
    """Batch norm whose scale and shift come from a condition (de Vries et al. 2017; Brock et al. 2019).

    Args:
        spatial_dims: 2 or 3.
        channels: of the image.
        condition_size: length of the condition.
    """

    def __init__(self, spatial_dims: int, channels: int, condition_size: int) -> None:
        super().__init__()
        self.norm = Norm[Norm.BATCH, spatial_dims](channels, affine=False)
        self.scale_and_shift = nn.Linear(condition_size, 2 * channels)
        nn.init.normal_(self.scale_and_shift.weight, std=0.02)
        nn.init.zeros_(self.scale_and_shift.bias)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        scale, shift = _like_image(self.scale_and_shift(condition), image.dim()).chunk(2, 1)
        return self.norm(image) * (1 + scale) + shift


class LatentNoise(nn.Module):
    """Adds noise that follows from the latent vector, at a level that the condition sets (after Karras et al. 2019).

    Each pixel is the sine of its own random projection of the latent vector. Projections are some ten radians wide, so
    that pixels, and neighbouring latent vectors, are as good as independent; yet the same vector gives the same noise.

    Args:
        spatial_dims: 2 or 3.
        size: voxels along each edge.
        channels: of the image.
        latent_size: length of the latent vector.
        condition_size: length of the condition.
    """

    def __init__(self, spatial_dims: int, size: int, channels: int, latent_size: int, condition_size: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(size)
        projection = torch.randn(latent_size, size**spatial_dims, generator=draw) * (10.0 / latent_size**0.5)
        self.register_buffer("projection", projection)
        self.shape = [1, *[size] * spatial_dims]
        self.level = nn.Linear(condition_size, channels)
        nn.init.zeros_(self.level.weight)
        nn.init.normal_(self.level.bias, std=0.1)

    def forward(self, image: Tensor, latent: Tensor, condition: Tensor) -> Tensor:
        noise = (2.0**0.5) * torch.sin(latent @ self.projection)  # type: ignore[operator]
        level = _like_image(self.level(condition), image.dim())
        return image + level * noise.reshape([image.shape[0]] + self.shape)  # noqa: RUF005  # TorchScript


class _Grow(nn.Module):
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        condition_size: int,
        smooth: bool,
        noise: LatentNoise | None,
    ) -> None:
        super().__init__()
        self.smooth = smooth
        self.noise = noise
        conv = Conv[Conv.CONV, spatial_dims]
        self.first_norm = ConditionalNorm(spatial_dims, in_channels, condition_size)
        self.first = conv(in_channels, out_channels, 3, padding=1)
        self.second_norm = ConditionalNorm(spatial_dims, out_channels, condition_size)
        self.second = conv(out_channels, out_channels, 3, padding=1)
        self.shortcut = conv(in_channels, out_channels, 1)

    def forward(self, image: Tensor, latent: Tensor, condition: Tensor) -> Tensor:
        grown = _double(self.first(leaky(self.first_norm(image, condition), 0.2)), self.smooth)
        if self.noise is not None:
            grown = self.noise(grown, latent, condition)
        grown = self.second(leaky(self.second_norm(grown, condition), 0.2))
        return grown + _double(self.shortcut(image), self.smooth)


class NoduleGenerator(nn.Module):
    """Latent vector and class to patch.

    Args:
        spatial_dims: 2 or 3.
        size: voxels along each edge, a multiple of 8.
        latent_size: length of the latent vector.
        num_classes: 0 for a generator without classes.
        width: channels at full size; they double with each halving.
        upsampling: ``"linear"`` or ``"nearest"``; the latter leaves blocks until late in training.
        noise: add `LatentNoise` in each block: the grain of a CT need not be made from smooth maps then.

    Raises:
        SettingError: `size` is not a multiple of 8, or `upsampling` is unknown.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        size: int = 56,
        latent_size: int = 128,
        num_classes: int = 3,
        width: int = 16,
        upsampling: str = "nearest",
        noise: bool = False,
    ) -> None:
        super().__init__()
        check_size(size)
        if upsampling not in ("linear", "nearest"):
            raise SettingError(f"upsampling is '{upsampling}'; choose linear or nearest.")
        self.size, self.latent_size, self.num_classes, self.spatial_dims = size, latent_size, num_classes, spatial_dims
        self.classes = nn.Embedding(num_classes, 32) if num_classes else None
        condition_size = latent_size + (32 if num_classes else 0)
        channels = [width * 2**n for n in reversed(range(HALVINGS + 1))]
        self.start_edge = size // 2**HALVINGS
        self.start = nn.Linear(condition_size, channels[0] * self.start_edge**spatial_dims)
        grain = [
            LatentNoise(spatial_dims, size // 2**level, wide, latent_size, condition_size) if noise else None
            for level, wide in zip(reversed(range(HALVINGS)), channels[1:], strict=True)
        ]
        self.blocks = nn.ModuleList(
            _Grow(spatial_dims, wide, narrow, condition_size, upsampling == "linear", added)
            for (wide, narrow), added in zip(pairwise(channels), grain, strict=True)
        )
        self.norm = Norm[Norm.BATCH, spatial_dims](width)
        self.last = Conv[Conv.CONV, spatial_dims](width, 1, 3, padding=1)
        orthogonal(self)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Patches ``(batch, 1, *spatial)`` in [-1, 1].

        Args:
            latent: ``(batch, latent_size)``; without `label` a generator with classes takes a number for each class
                behind them, the largest of which tells the class, as ONNX, TorchScript and MONAI's checks need it.
            label: classes ``(batch,)``.

        Raises:
            ValueError: the class is told in neither way.
        """
        condition = latent
        if self.classes is not None:
            if label is None:
                if latent.shape[1] != self.latent_size + self.num_classes:
                    raise ValueError("This generator needs the class of each image.")
                label = latent[:, self.latent_size :].argmax(1)
            latent = latent[:, : self.latent_size]
            condition = torch.cat([latent, self.classes(label)], 1)
        image = self.start(condition)
        image = image.reshape([image.shape[0], -1] + [self.start_edge] * self.spatial_dims)  # TorchScript
        for block in self.blocks:
            image = block(image, latent, condition)
        return torch.tanh(self.last(leaky(self.norm(image), 0.2)))


def check_size(size: int) -> None:
    """Refuse a size that cannot be halved often enough.

    Raises:
        SettingError: `size` is not a multiple of 8.
    """
    if size < 2**HALVINGS or size % 2**HALVINGS:
        raise SettingError(f"size is {size}; give a multiple of {2**HALVINGS}, such as 56.")


def _double(image: Tensor, smooth: bool) -> Tensor:
    mode = "nearest" if not smooth else "bilinear" if image.ndim == 4 else "trilinear"
    return interpolate(image, scale_factor=2.0, mode=mode)


def _like_image(values: Tensor, axes: int) -> Tensor:
    """``(batch, channel)`` with as many axes as the image."""
    while values.dim() < axes:
        values = values.unsqueeze(-1)
    return values


def orthogonal(network: nn.Module) -> None:
    """Orthogonal weights (Brock et al. 2019, appendix C) where no other initialisation was chosen."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and not hasattr(module, "parametrizations"):
            nn.init.orthogonal_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
