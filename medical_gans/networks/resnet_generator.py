"""Residual image-to-image generator (Johnson et al. 2016; Zhu et al. 2017, appendix 7.2)."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.networks.layout import ResizeConvolution, RowConvolution

STRIDE = 4
"""Spatial sizes given to the generator must be multiples of this."""


_NORMS: dict[str, dict[int, type[nn.Module]]] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}


class ResidualBlock(nn.Module):
    """Two 3-wide convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, spatial_dims: int, channels: int, norm: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(spatial_dims, channels, channels, norm),
            nn.ReLU(inplace=True),
            *_convolution(spatial_dims, channels, channels, norm),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.branch(features)


class ResnetGenerator(nn.Module):
    """Stem, two strided convolutions, residual blocks, two upsamplings, and tanh.

    Without norm (the default) an output voxel depends on its neighbourhood alone: HU do not drift with the content of
    the slice, and tiles with a halo of `receptive_radius` equal the whole slice. Such a network trains stably when
    gradients are clipped. Upsampling by resize and convolution leaves no checkerboard (Odena et al. 2016).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input; adjacent slices in 2.5D.
        out_channels: channels of the output.
        width: channels of the stem; doubled twice on the way down.
        blocks: residual blocks at a quarter of the resolution (9 in the paper for 256 x 256).
        norm: ``"none"``, ``"instance"`` (the paper) or ``"batch"``.
        upsampling: ``"resize"`` or ``"transposed"`` (the paper).

    Shape:
        ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)`` in [-1, 1]; sizes are multiples of 4.

    Raises:
        SettingError: an argument is out of range.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 16,
        blocks: int = 6,
        norm: str = "none",
        upsampling: str = "resize",
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise SettingError(f"spatial_dims is {spatial_dims}; the generator works in 2 or 3 dimensions.")
        if norm != "none" and norm not in _NORMS:
            raise SettingError(f"norm is '{norm}'; choose none, instance or batch.")
        if upsampling not in ("resize", "transposed"):
            raise SettingError(f"upsampling is '{upsampling}'; choose resize or transposed.")
        if width < 1 or blocks < 0:
            raise SettingError(f"width is {width} and blocks is {blocks}; width must be at least 1, blocks at least 0.")
        self.stride = STRIDE
        self.receptive_radius = 3 + 1 + 2 + 2 * STRIDE * blocks + 4 + 2 + 3
        conv = Conv[Conv.CONV, spatial_dims]
        layers: list[nn.Module] = [
            conv(in_channels, width, 7, padding=3, padding_mode="reflect"),
            *_norm(spatial_dims, width, norm),
            nn.ReLU(inplace=True),
        ]
        for channels in (width, 2 * width):
            layers += [*_convolution(spatial_dims, channels, 2 * channels, norm, stride=2), nn.ReLU(inplace=True)]
        layers += [ResidualBlock(spatial_dims, STRIDE * width, norm) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [*_upsampling(spatial_dims, channels, channels // 2, norm, upsampling), nn.ReLU(inplace=True)]
        last = RowConvolution if spatial_dims == 2 and out_channels == 1 else conv
        layers += [last(width, out_channels, 7, padding=3, padding_mode="reflect"), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        _initialise(self, norm)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)`` in [-1, 1]."""
        return self.layers(image)


class ResidualGenerator(nn.Module):
    """Adds a change, made by a `ResnetGenerator`, to its input; at the start it changes nothing.

    For domains of one anatomy, where the way from noise to an image is long and that from one scanner's look to
    another's is short (residual CycleGAN, de Bel et al. 2021).

    Args:
        channels: of input and output.
        spatial_dims: 2 or 3.
        width: see `ResnetGenerator`.
        blocks: see `ResnetGenerator`.
        norm: see `ResnetGenerator`.

    Shapes:
        ``(batch, channels, *spatial)`` in [-1, 1] to the same; sizes are multiples of 4.

    Raises:
        SettingError: an argument is out of range.
    """

    def __init__(
        self, spatial_dims: int = 2, channels: int = 1, width: int = 16, blocks: int = 4, norm: str = "none"
    ) -> None:
        super().__init__()
        self.change = ResnetGenerator(spatial_dims, channels, channels, width, blocks, norm)
        head = self.change.layers[-2]
        nn.init.zeros_(head.weight)  # type: ignore[arg-type]
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate ``(batch, channels, *spatial)`` in [-1, 1]."""
        return (image + self.change(image)).clamp(-1.0, 1.0)


def _norm(spatial_dims: int, channels: int, norm: str) -> list[nn.Module]:
    if norm == "none":
        return []
    return [_NORMS[norm][spatial_dims](channels)]


def _convolution(spatial_dims: int, in_channels: int, out_channels: int, norm: str, stride: int = 1) -> list[nn.Module]:
    conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 3, stride=stride, padding=1)
    return [conv, *_norm(spatial_dims, out_channels, norm)]


def _upsampling(spatial_dims: int, in_channels: int, out_channels: int, norm: str, upsampling: str) -> list[nn.Module]:
    if upsampling == "resize":
        if spatial_dims == 2:  # the first place, once of an upsampling, keeps the names of stored weights
            resizing = ResizeConvolution(in_channels, out_channels, 3, padding=1)
            return [nn.Identity(), resizing, *_norm(spatial_dims, out_channels, norm)]
        return [nn.Upsample(scale_factor=2.0), *_convolution(spatial_dims, in_channels, out_channels, norm)]
    transposed = Conv[Conv.CONVTRANS, spatial_dims]
    return [
        transposed(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
        *_norm(spatial_dims, out_channels, norm),
    ]


def _initialise(generator: nn.Module, norm: str) -> None:
    """N(0, 0.02) as published when normalised; without norm He's, with residual branches and head that start small."""
    convolutions = [m for m in generator.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    for conv in convolutions:
        if norm == "none":
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        else:
            nn.init.normal_(conv.weight, 0.0, 0.02)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    if norm == "none":
        nn.init.normal_(convolutions[-1].weight, 0.0, 0.01)
        for module in generator.modules():
            if isinstance(module, ResidualBlock):
                # the branch begins as nothing, so that depth does not scale the features (Zhang et al. 2019, Fixup)
                last = module.branch[-1]
                assert isinstance(last, nn.modules.conv._ConvNd)
                nn.init.zeros_(last.weight)
