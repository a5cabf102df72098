"""The features of named layers of any network."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medical_gans.errors import SettingError
from medical_gans.networks import DomainDiscriminator

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
        def hook(module: nn.Module, given: tuple, made: Tensor) -> None:
            self._seen[name] = made

        return hook

    def __call__(self) -> list[Tensor]:
        """Features of the last pass, in the order of `layers`; they are forgotten then."""
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
    import copy

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
