"""A small network that tells malignant from benign nodules, and whose features judge generated ones."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medical_gans.errors import SettingError


class NoduleClassifier(nn.Module):
    """Convolutions, pooling over the whole patch and over its middle, a narrow layer of features, linear outputs.

    The features come from a norm without scale: over the training patches each has mean 0 and variance 1, so that
    distances between them need no further scaling.

    Args:
        spatial_dims: 2 or 3.
        width: channels of the first layer; doubled by each of the next two.
        num_features: length of the features.
        num_measures: further outputs beside malignancy, such as radiomic measures.

    Attributes:
        arguments: those it was made with, for the card of its weights.

    Raises:
        SettingError: `spatial_dims` is neither 2 nor 3.
    """

    def __init__(self, spatial_dims: int = 2, width: int = 16, num_features: int = 32, num_measures: int = 0) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise SettingError(f"spatial_dims is {spatial_dims}; nodules have 2 or 3 dimensions.")
        self.arguments: dict[str, int] = {
            "spatial_dims": spatial_dims,
            "width": width,
            "num_features": num_features,
            "num_measures": num_measures,
        }
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        layers: list[nn.Module] = []
        channels = 1
        for out_channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (4 * width, 2)):
            layers += [
                conv(channels, out_channels, 3, stride=stride, padding=1, bias=False),
                norm(out_channels),
                nn.LeakyReLU(0.1, inplace=True),
            ]
            channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.narrow = nn.Linear(3 * channels, num_features, bias=False)
        self.standardise = nn.BatchNorm1d(num_features, affine=False)
        self.outputs = nn.Linear(num_features, 1 + num_measures)

    def features(self, image: Tensor) -> Tensor:
        """``(batch, 1, *spatial)`` in [-1, 1] to standardised features ``(batch, num_features)``."""
        maps = self.layers(image)
        middle = maps[(..., *(slice(edge // 4, edge - edge // 4) for edge in maps.shape[2:]))]
        pooled = torch.cat([maps.flatten(2).mean(2), middle.flatten(2).mean(2), middle.flatten(2).amax(2)], 1)
        return self.standardise(self.narrow(pooled))

    def forward(self, image: Tensor) -> Tensor:
        """``(batch, 1, *spatial)`` in [-1, 1] to ``(batch, 1 + num_measures)``: logit of malignancy, measures."""
        return self.outputs(self.features(image))
