"""A U-Net whose last layer tells bone from the rest: HU = (1 - p) soft + p bone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from medical_gans.errors import SettingError


class BranchedGenerator(nn.Module):
    """U-Net (Ronneberger et al. 2015) of residual blocks without norm, with a bone branch.

    L1 returns the median, so that a cortex of which the network is not sure vanishes: where P(bone) < 0.5 the median is soft
    tissue. Here the network says how probable bone is and what HU bone and soft tissue would have, each learnt where it
    holds, and gives the mixture (Xin 2026 trains segmentation and HU together).

    The way down reaches far enough to see on which side of the skull a dark rim lies. Without norm, HU do not drift with the
    content of the slice.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input; adjacent slices in 2.5D.
        out_channels: images that come out; each has its three branches.
        widths: channels of each level; each level halves the resolution.
        blocks: residual blocks of each level but the first, on the way down and on the way up.

    Shape:
        ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)`` in [-1, 1]; any size.

    Raises:
        SettingError: an argument is out of range.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128, 160),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise SettingError(f"spatial_dims is {spatial_dims}; the generator works in 2 or 3 dimensions.")
        if len(widths) < 2 or min(widths) < 1 or blocks < 0:
            raise SettingError(f"widths is {list(widths)} and blocks is {blocks}; give two levels and 0 blocks at least.")
        conv = Conv[Conv.CONV, spatial_dims]
        self.stride = 2 ** (len(widths) - 1)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.stem = conv(in_channels, widths[0], 5, padding=2)
        self.first = _Residual(conv, widths[0])
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = nn.ModuleList(
            nn.Sequential(conv(a, b, 3, stride=2, padding=1), *(_Residual(conv, b) for _ in range(blocks)))
            for a, b in pairs
        )
        self.up = nn.ModuleList(conv(b, a, 3, padding=1) for a, b in pairs)
        self.joined = nn.ModuleList(
            nn.Sequential(*(_Residual(conv, a) for _ in range(max(blocks, 1) if level else 1)))
            for level, (a, _) in enumerate(pairs)
        )
        self.head = conv(widths[0], 3 * out_channels, 3, padding=1)
        nn.init.normal_(self.head.weight, 0.0, 0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Translate ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)`` in [-1, 1]."""
        return self.mixed(self.branches(image))

    def branches(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Soft tissue and bone in [-1, 1], and the logit of bone, each ``(batch, out_channels, *spatial)``."""
        sizes = image.shape[2:]
        beyond = [amount for size in reversed(sizes) for amount in (0, -size % self.stride)]
        levels = [self.first(self.stem(functional.pad(image, beyond, mode="replicate") if any(beyond) else image))]
        for down in self.down:
            levels.append(down(levels[-1]))
        features = levels.pop()
        for up, joined in zip(reversed(self.up), reversed(self.joined), strict=True):
            features = up(functional.leaky_relu(features, 0.1))
            features = functional.interpolate(features, scale_factor=2.0, mode=self.mode) + levels.pop()
            features = joined(features)
        made = self.head(functional.leaky_relu(features, 0.1))[(..., *(slice(0, size) for size in sizes))].float()
        soft, bone, logit = made.chunk(3, dim=1)
        return torch.tanh(soft), torch.tanh(bone), logit

    @staticmethod
    def mixed(branches: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The mixture of the branches."""
        soft, bone, logit = branches
        probability = torch.sigmoid(logit)
        return (1 - probability) * soft + probability * bone


class _Residual(nn.Module):
    """Two convolutions after their activations, and a shortcut (He et al. 2016b); the branch begins as nothing."""

    def __init__(self, conv: type[nn.Module], channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels, 3, padding=1)
        self.second = conv(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        inner = self.first(functional.leaky_relu(features, 0.1))
        return features + self.second(functional.leaky_relu(inner, 0.1))
