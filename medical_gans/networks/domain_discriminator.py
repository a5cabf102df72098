"""What an adversary on the layers of a segmenter is made of: the features of named layers of any network, and the
classifier of domains that sees several of them at once ("multi-connected", Kamnitsas et al. 2017)."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medical_gans.errors import SettingError

_MOST_NAMES = 30


class FeatureTaps:
    """Keeps what named layers of a network gave in its last pass.

    Args:
        network: any network whose named layers give one tensor ``(batch, channel, *spatial)``.
        layers: names as in ``network.named_modules()``.

    Raises:
        SettingError: no layers, or a name that does not exist; those that do are listed.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        modules = dict(network.named_modules())
        known = [name for name in modules if name]
        if not layers:
            raise SettingError(f"adversarial_layers is empty; name layers, such as {', '.join(known[-1:])}.")
        for name in layers:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
                listed = ", ".join(known[:_MOST_NAMES]) + (", ..." if len(known) > _MOST_NAMES else "")
                guess = f" (did you mean '{near[0]}'?)" if near else ""
                raise SettingError(f"The network has no layer '{name}'{guess}. It has {listed}.")
        self.layers = tuple(layers)
        self._seen: dict[str, Tensor] = {}
        for name in layers:
            modules[name].register_forward_hook(self._keep(name))

    def _keep(self, name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, given: tuple, made: Any) -> None:
            self._seen[name] = made

        return hook

    def __call__(self) -> list[Tensor]:
        """Features of the last pass, in the order of `layers`; they are forgotten then.

        Raises:
            SettingError: a layer gave something else than one tensor, or nothing.
        """
        for name in self.layers:
            if not isinstance(self._seen.get(name), Tensor):
                raise SettingError(
                    f"The layer '{name}' gives {type(self._seen.get(name)).__name__}, and an adversary needs a tensor. "
                    "Name another one in adversarial_layers."
                )
        features = [self._seen[name] for name in self.layers]
        self._seen = {}
        return features


def feature_channels(
    network: nn.Module, layers: Sequence[str], in_channels: int, patch_size: Sequence[int]
) -> list[int]:
    """Channels of each named layer, seen by one pass of zeros ``(1, in_channels, *patch_size)``.

    Raises:
        SettingError: as `FeatureTaps`.
    """
    probe = copy.deepcopy(network).cpu().eval()
    taps = FeatureTaps(probe, layers)
    with torch.no_grad():
        probe(torch.zeros(1, in_channels, *patch_size))
    return [feature.shape[1] for feature in taps()]


def domain_discriminator(
    network: nn.Module,
    layers: Sequence[str],
    in_channels: int,
    patch_size: Sequence[int],
    *,
    width: int = 32,
    depth: int = 2,
    crop: int = 2,
) -> DomainDiscriminator:
    """The discriminator that fits the features of these layers of a network.

    Args:
        network: the segmenter.
        layers: names of its layers.
        in_channels: sequences that it takes.
        patch_size: voxels of a patch along each axis.
        width: channels of each of the discriminator's layers.
        depth: its convolutions of 3 voxels.
        crop: voxels of the common grid left out at each border.

    Raises:
        SettingError: as `FeatureTaps`.
    """
    channels = feature_channels(network, layers, in_channels, patch_size)
    return DomainDiscriminator(channels, len(patch_size), width, depth, crop)


class DomainDiscriminator(nn.Module):
    """Feature maps of several layers to a logit of the source domain for each place (Kamnitsas et al. 2017).

    The maps are brought to the finest of their grids and concatenated; what the segmenter's padding has touched is
    cropped. The first convolution has kernels of one voxel, so that it is done on each map before its resampling:
    the same result, at the price of the coarse grids.

    Args:
        feature_channels: channels of each map, in the order in which they are given.
        spatial_dims: 2 or 3.
        width: channels of each layer.
        layers: convolutions of 3 voxels between the first and the last; the first of them halves the grid.
        crop: voxels of the common grid left out at each border.

    Raises:
        SettingError: no feature maps, or no layers.
    """

    def __init__(
        self, feature_channels: Sequence[int], spatial_dims: int = 3, width: int = 32, layers: int = 2, crop: int = 2
    ) -> None:
        super().__init__()
        if not feature_channels or layers < 1:
            raise SettingError("The domain discriminator needs at least one feature map and one layer.")
        self.crop = crop
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.mix = nn.ModuleList(conv(channels, width, 1, bias=False) for channels in feature_channels)
        made: list[nn.Module] = [norm(width), nn.LeakyReLU(0.2)]
        for number in range(layers):
            made += [conv(width, width, 3, stride=2 if number == 0 else 1, padding=1), norm(width), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*made, conv(width, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps ``(batch, channel, *spatial)`` of one batch to logits ``(batch, 1, *half the common grid)``."""
        common = max((map_.shape[2:] for map_ in features), key=lambda size: tuple(size))
        crop = self.crop if min(common) > 2 * self.crop else 0
        by_grid: dict[torch.Size, Tensor] = {}
        for mix, map_ in zip(self.mix, features, strict=True):
            grid = map_.shape[2:]
            if grid == common and crop:
                inside: tuple = tuple(slice(crop, edge - crop) for edge in common)
                map_ = map_[(..., *inside)]
            mixed = mix(map_)
            by_grid[grid] = by_grid[grid] + mixed if grid in by_grid else mixed
        finest = by_grid.pop(common)
        seen = sum((_resampled(mixed, common, crop) for mixed in by_grid.values()), start=finest)
        return self.body(seen)


def _resampled(map_: Tensor, size: Sequence[int], crop: int) -> Tensor:
    """As `interpolate` with its border left out, one axis after the other: much less work for a CPU in 3D."""
    for axis, edge in enumerate(size, start=2):
        each = torch.eye(map_.shape[axis], dtype=map_.dtype, device=map_.device)
        weights = interpolate(each[None], size=edge, mode="linear")[0][:, crop : edge - crop]
        map_ = (map_.movedim(axis, -1) @ weights).movedim(-1, axis)
    return map_
