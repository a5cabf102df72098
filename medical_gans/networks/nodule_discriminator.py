"""Residual discriminator of lung nodules that judges the class by projection (Miyato and Koyama 2018)."""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d
from torch.nn.functional import leaky_relu as leaky
from torch.nn.utils.parametrizations import spectral_norm as bounded

from medical_gans.networks.nodule_generator import HALVINGS, check_size, orthogonal


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
        check_size(size)
        self.size, self.num_classes = size, num_classes
        conv = Conv[Conv.CONV, spatial_dims]
        channels = [width * 2**n for n in range(HALVINGS + 1)]
        self.first = _bounded(conv(1, channels[1], 5, stride=2, padding=2), spectral_norm)
        self.blocks = nn.ModuleList(
            _Shrink(spatial_dims, narrow, wide, spectral_norm) for narrow, wide in pairwise(channels[1:])
        )
        self.last = _bounded(conv(channels[-1] + 1, channels[-1], 3, padding=1), spectral_norm)
        self.judge = _bounded(nn.Linear(channels[-1], 1), spectral_norm)
        self.classes = _bounded(nn.Embedding(num_classes, channels[-1]), spectral_norm) if num_classes else None
        orthogonal(self)

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


def _halve(image: Tensor) -> Tensor:
    pool = avg_pool2d if image.ndim == 4 else avg_pool3d
    return pool(image, 2)


def _bounded(layer: nn.Module, bound: bool) -> nn.Module:
    return bounded(layer) if bound else layer
