"""The segmenter of Kamnitsas et al. 2017: a pathway at normal resolution beside one at low resolution, joined late."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d, interpolate

from medical_gans.errors import SettingError


class _Layer(nn.Sequential):
    """Batch norm, PReLU, convolution, in the order of the paper's network."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, kernel: int, first: bool) -> None:
        convolution = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(convolution.weight)
        before = [] if first else [Norm[Norm.BATCH, spatial_dims](in_channels), nn.PReLU(in_channels)]
        super().__init__(*before, convolution)


class _Pathway(nn.ModuleList):
    """Layers in a row; the input of a residual block of two is added to its output, as far as its channels go."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int], residual: Sequence[int]) -> None:
        incoming = [in_channels, *channels[:-1]]
        super().__init__(
            _Layer(spatial_dims, before, after, 3, first=number == 0)
            for number, (before, after) in enumerate(zip(incoming, channels, strict=True))
        )
        self.residual = tuple(residual)

    def forward(self, image: Tensor) -> Tensor:
        block_input = image
        for number, layer in enumerate(self, start=1):
            previous = image
            image = layer(image)
            if number in self.residual:
                kept = min(block_input.shape[1], image.shape[1])
                image = torch.cat([image[:, :kept] + block_input[:, :kept], image[:, kept:]], 1)
            block_input = previous
        return image


class MultiScaleSegmenter(nn.Module):
    """Two pathways of eight layers of 3^3 kernels, and two layers that join them (Kamnitsas et al. 2017).

    Layers are named for a domain discriminator: ``normal.0`` ... ``normal.7``, ``low.0`` ... ``low.7``, ``joint.0``,
    ``joint.1``. Convolutions are padded, so that the output has the size of the input; the paper's were not.

    Args:
        in_channels: sequences.
        out_channels: classes, background included.
        spatial_dims: 2 or 3.
        channels: of the layers of each pathway.
        joint_channels: of the layers that join them.
        low_scale: how much coarser the low-resolution pathway sees.
        residual: layers, counted from 1, that get the input of the two layers up to them added.
        dropout: share of the joint channels left out in training.

    Raises:
        SettingError: a residual layer that does not exist.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        channels: Sequence[int] = (30, 30, 40, 40, 40, 40, 50, 50),
        joint_channels: Sequence[int] = (150, 150),
        low_scale: int = 3,
        residual: Sequence[int] = (4, 6, 8),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if any(not 2 <= layer <= len(channels) for layer in residual):
            raise SettingError(f"residual is {list(residual)}; give layers from 2 to {len(channels)}.")
        self.low_scale = low_scale
        self.normal = _Pathway(spatial_dims, in_channels, channels, residual)
        self.low = _Pathway(spatial_dims, in_channels, channels, residual)
        widths = [2 * channels[-1], *joint_channels]
        kernels = [3] + [1] * (len(joint_channels) - 1)
        self.joint = nn.Sequential(
            *(
                nn.Sequential(
                    _Layer(spatial_dims, before, after, kernel, first=False),
                    nn.Dropout(dropout),
                )
                for before, after, kernel in zip(widths[:-1], widths[1:], kernels, strict=True)
            )
        )
        self.classify = _Layer(spatial_dims, widths[-1], out_channels, 1, first=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(batch, channel, *spatial)`` to logits ``(batch, class, *spatial)``."""
        pool = avg_pool3d if image.ndim == 5 else avg_pool2d
        # counting what lies outside as absent keeps the coarse border as bright as the rest
        coarse = pool(image, self.low_scale, ceil_mode=True, count_include_pad=False)
        mode = "trilinear" if image.ndim == 5 else "bilinear"
        context = interpolate(self.low(coarse), scale_factor=float(self.low_scale), mode=mode)
        inside: tuple = tuple(slice(0, edge) for edge in image.shape[2:])
        context = context[(..., *inside)]
        return self.classify(self.joint(torch.cat([self.normal(image), context], 1)))
