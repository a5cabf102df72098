"""The classifier of domains that sees several layers of a segmenter at once ("multi-connected")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medical_gans.errors import SettingError


class DomainDiscriminator(nn.Module):
    """Feature maps of several layers to a logit of the source domain for each place (Kamnitsas et al. 2017).

    The maps are resampled to the coarsest of their grids, cropped of what the segmenter's padding has touched, and
    concatenated.

    Args:
        feature_channels: channels of each map, in the order in which they are given.
        spatial_dims: 2 or 3.
        width: channels of each layer.
        layers: convolutions before the last.
        crop: voxels of the common grid left out at each border.

    Raises:
        SettingError: no feature maps, or no layers.
    """

    def __init__(
        self, feature_channels: Sequence[int], spatial_dims: int = 3, width: int = 64, layers: int = 4, crop: int = 1
    ) -> None:
        super().__init__()
        if not feature_channels or layers < 1:
            raise SettingError("The domain discriminator needs at least one feature map and one layer.")
        self.crop = crop
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        made: list[nn.Module] = []
        channels = sum(feature_channels)
        for number in range(layers):
            kernel = 3 if number < layers // 2 else 1
            made += [conv(channels, width, kernel, padding=kernel // 2), norm(width), nn.LeakyReLU(0.2)]
            channels = width
        self.body = nn.Sequential(*made, conv(channels, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps ``(batch, channel, *spatial)`` of one batch to logits ``(batch, 1, *common grid)``."""
        common = min((map_.shape[2:] for map_ in features), key=lambda size: tuple(size))
        mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[features[0].ndim]
        maps = [m if m.shape[2:] == common else interpolate(m, size=common, mode=mode) for m in features]
        seen = torch.cat(maps, 1)
        if self.crop and min(common) > 2 * self.crop:
            inside: tuple = tuple(slice(self.crop, edge - self.crop) for edge in common)
            seen = seen[(..., *inside)]
        return self.body(seen)
