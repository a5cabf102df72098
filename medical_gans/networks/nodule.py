"""Generator and discriminator of lung nodules: the paper's DCGAN, and a small class-conditional residual pair.

The residual pair follows BigGAN (Brock et al. 2019) in what pays on a few hundred images: the latent vector and the
class reach every normalisation of the generator, the discriminator is bounded by spectral norm and judges the class by
projection (Miyato and Koyama 2018). Upsampling stands behind the first convolution of a block: half the cost.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.functional import leaky_relu as leaky
from torch.nn.utils.parametrizations import spectral_norm as bounded

from medical_gans.errors import SettingError
from medical_gans.networks.dcgan import DcganDiscriminator, DcganGenerator

PRESETS = ("resnet", "dcgan")
_HALVINGS = 3


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
        _check_size(size)
        if upsampling not in ("linear", "nearest"):
            raise SettingError(f"upsampling is '{upsampling}'; choose linear or nearest.")
        self.size, self.latent_size, self.num_classes, self.spatial_dims = size, latent_size, num_classes, spatial_dims
        self.classes = nn.Embedding(num_classes, 32) if num_classes else None
        condition_size = latent_size + (32 if num_classes else 0)
        channels = [width * 2**n for n in reversed(range(_HALVINGS + 1))]
        self.start_edge = size // 2**_HALVINGS
        self.start = nn.Linear(condition_size, channels[0] * self.start_edge**spatial_dims)
        grain = [
            LatentNoise(spatial_dims, size // 2**level, wide, latent_size, condition_size) if noise else None
            for level, wide in zip(reversed(range(_HALVINGS)), channels[1:], strict=True)
        ]
        self.blocks = nn.ModuleList(
            _Grow(spatial_dims, wide, narrow, condition_size, upsampling == "linear", added)
            for (wide, narrow), added in zip(pairwise(channels), grain, strict=True)
        )
        self.norm = Norm[Norm.BATCH, spatial_dims](width)
        self.last = Conv[Conv.CONV, spatial_dims](width, 1, 3, padding=1)
        _orthogonal(self)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """``(batch, latent_size)`` and classes ``(batch,)`` to ``(batch, 1, *spatial)`` in [-1, 1]."""
        condition = latent
        if self.classes is not None:
            if label is None:
                raise ValueError("This generator needs the class of each image.")
            condition = torch.cat([latent, self.classes(label)], 1)
        image = self.start(condition)
        image = image.reshape([image.shape[0], -1] + [self.start_edge] * self.spatial_dims)  # TorchScript
        for block in self.blocks:
            image = block(image, latent, condition)
        return torch.tanh(self.last(leaky(self.norm(image), 0.2)))


class _Shrink(nn.Module):
    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, bound: bool) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.first = _bounded(conv(in_channels, in_channels, 3, padding=1), bound)
        self.second = _bounded(conv(in_channels, out_channels, 3, padding=1), bound)
        self.shortcut = _bounded(conv(in_channels, out_channels, 1), bound)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(_halve(leaky(self.first(leaky(image, 0.2)), 0.2))) + self.shortcut(_halve(image))


class NoduleDiscriminator(nn.Module):
    """Patch and class to a logit.

    The last layers see one more channel, the mean standard deviation over the batch (Karras et al. 2018, section 3),
    by which a collapse gives itself away; `features` does not contain it.

    Args:
        spatial_dims: 2 or 3.
        size: voxels along each edge, a multiple of 8.
        num_classes: 0 for a discriminator without classes.
        width: the first layer halves the patch and has twice as many channels; they double with each halving.
        spectral_norm: bound each layer (Miyato et al. 2018).
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        size: int = 56,
        num_classes: int = 3,
        width: int = 16,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        _check_size(size)
        self.size, self.num_classes = size, num_classes
        conv = Conv[Conv.CONV, spatial_dims]
        channels = [width * 2**n for n in range(_HALVINGS + 1)]
        self.first = _bounded(conv(1, channels[1], 5, stride=2, padding=2), spectral_norm)
        self.blocks = nn.ModuleList(
            _Shrink(spatial_dims, narrow, wide, spectral_norm) for narrow, wide in pairwise(channels[1:])
        )
        self.last = _bounded(conv(channels[-1] + 1, channels[-1], 3, padding=1), spectral_norm)
        self.judge = _bounded(nn.Linear(channels[-1], 1), spectral_norm)
        self.classes = _bounded(nn.Embedding(num_classes, channels[-1]), spectral_norm) if num_classes else None
        _orthogonal(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """``(batch, 1, *spatial)`` and classes ``(batch,)`` to logits ``(batch, 1)``."""
        seen = self._trunk(image)
        # the variance of one image is 0: it would divide by zero in the derivative of the root
        spread = (seen.var(0, unbiased=False) + 1e-8).sqrt().mean().expand(len(seen), 1, *seen.shape[2:])
        seen = leaky(self.last(leaky(torch.cat([seen, spread], 1), 0.2)), 0.2).flatten(2).mean(2)
        logits = self.judge(seen)
        if self.classes is None:
            return logits
        if label is None:
            raise ValueError("This discriminator needs the class of each image.")
        return logits + (self.classes(label) * seen).sum(1, keepdim=True)

    def features(self, image: Tensor) -> Tensor:
        """``(batch, features)``, each image by itself."""
        return leaky(self._trunk(image), 0.2).flatten(2).mean(2)

    def _trunk(self, image: Tensor) -> Tensor:
        seen = self.first(image)
        for block in self.blocks:
            seen = block(seen)
        return seen


def nodule_generator(
    preset: str = "resnet",
    spatial_dims: int = 2,
    size: int = 56,
    latent_size: int = 128,
    num_classes: int = 3,
    width: int = 16,
    upsampling: str = "nearest",
    noise: bool = False,
) -> nn.Module:
    """Generator of a preset: ``"resnet"`` (`NoduleGenerator`) or ``"dcgan"`` (`DcganGenerator`, the paper's plan).

    Raises:
        SettingError: unknown preset or upsampling, a size that is not a multiple of 8, or classes for the preset
            that has none.
    """
    _check_preset(preset, num_classes)
    if preset == "dcgan":
        return DcganGenerator(spatial_dims, size, latent_size, width)
    return NoduleGenerator(spatial_dims, size, latent_size, num_classes, width, upsampling, noise)


def nodule_discriminator(
    preset: str = "resnet",
    spatial_dims: int = 2,
    size: int = 56,
    num_classes: int = 3,
    width: int = 16,
    spectral_norm: bool = True,
) -> nn.Module:
    """Discriminator of a preset; `spectral_norm` is for the residual one, the paper's keeps batch norm.

    Raises:
        SettingError: as `nodule_generator`.
    """
    _check_preset(preset, num_classes)
    if preset == "dcgan":
        return DcganDiscriminator(spatial_dims, size, width)
    return NoduleDiscriminator(spatial_dims, size, num_classes, width, spectral_norm)


def _check_preset(preset: str, num_classes: int) -> None:
    if preset not in PRESETS:
        raise SettingError(f"preset is '{preset}'; choose {' or '.join(PRESETS)}.")
    if preset == "dcgan" and num_classes:
        raise SettingError(
            f"The dcgan preset has no classes, num_classes is {num_classes}. Set num_classes to 0, "
            "and malignancy to the class to be learned; or choose preset resnet."
        )


def _check_size(size: int) -> None:
    if size < 2**_HALVINGS or size % 2**_HALVINGS:
        raise SettingError(f"size is {size}; give a multiple of {2**_HALVINGS}, such as 56.")


def _double(image: Tensor, smooth: bool) -> Tensor:
    mode = "nearest" if not smooth else "bilinear" if image.ndim == 4 else "trilinear"
    return interpolate(image, scale_factor=2.0, mode=mode)


def _like_image(values: Tensor, axes: int) -> Tensor:
    """``(batch, channel)`` with as many axes as the image."""
    while values.dim() < axes:
        values = values.unsqueeze(-1)
    return values


def _halve(image: Tensor) -> Tensor:
    pool = nn.functional.avg_pool2d if image.ndim == 4 else nn.functional.avg_pool3d
    return pool(image, 2)


def _bounded(layer: nn.Module, bound: bool) -> nn.Module:
    return bounded(layer) if bound else layer


def _orthogonal(network: nn.Module) -> None:
    """Orthogonal weights (Brock et al. 2019, appendix C) where no other initialisation was chosen."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and not hasattr(module, "parametrizations"):
            nn.init.orthogonal_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
