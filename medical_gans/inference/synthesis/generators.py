"""Generators made ready to translate images of any size: padded, laid out, tiled where needed, timed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medical_gans.errors import SettingError
from medical_gans.inference.synthesis.cpu_layers import computes_in_bfloat16, with_fast_layers
from medical_gans.inference.synthesis.tiles import TiledGenerator
from medical_gans.networks.resnet_generator import STRIDE

_VOXELS_PER_PASS = {"cpu": 1 << 18, "cuda": 1 << 22}
"""Larger batches are no faster: on a CPU their activations fall out of the cache."""

_OF_OTHERS = 32  # voxels
_ALIVE = 3  # feature maps as large as that of the first layer which exist at the same time
_CPU_BYTES = 2 << 30  # memory for the activations of a volume


class Generators:
    """Copies of generators on a device, each with weights of its own.

    Args:
        generators: from ``(batch, channel, *spatial)`` to the same, in [-1, 1].
        device: where to compute.
        adjacent: channels that they take; None asks the generators.
        tile: edge of tiles in voxels; None translates whole slices, and volumes as far as the memory goes.
        amp: mixed precision, on a GPU (float16) and on a CPU that has instructions for it (bfloat16).
        inferer: applies a network to images, as those of MONAI do: ``inferer(images, network)``; None passes them on.

    Attributes:
        adjacent: channels that they take.
        dimensions: of their images; 2 where there is no convolution to tell.
        seconds: spent in them so far.

    Raises:
        SettingError: they take another number of channels, or cannot be tiled; or there is no such device.
    """

    def __init__(
        self,
        generators: Sequence[nn.Module],
        device: torch.device,
        adjacent: int | None = None,
        tile: int | None = None,
        amp: bool = False,
        inferer: Callable[..., Tensor] | None = None,
    ) -> None:
        if not generators:
            raise SettingError("There is no generator. Give at least one weights file.")
        first = next((m for m in generators[0].modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
        taken = first.in_channels if first is not None else 1
        self.adjacent = taken if adjacent is None else adjacent
        if first is not None and taken != self.adjacent:
            raise SettingError(
                f"adjacent is {adjacent}, but the generator takes {taken} channels. "
                "Set adjacent and network_def as they were in training."
            )
        if device.type == "cuda" and not torch.cuda.is_available():
            raise SettingError("device is cuda, but torch finds no usable GPU here. Set device to cpu.")
        self.device = device
        self.dimensions = 3 if isinstance(first, nn.Conv3d) else 2
        self.width = first.out_channels if first is not None else 1
        self.amp = amp and (device.type == "cuda" or (device.type == "cpu" and computes_in_bfloat16()))
        self.inferer = inferer or SimpleInferer()
        self.stride = max(_stride(generator) for generator in generators)
        self.seconds = 0.0
        self.networks = [copy.deepcopy(g).eval().requires_grad_(False).to(device) for g in generators]
        self._autocasts = self.amp
        if self.dimensions == 2:
            precision = torch.bfloat16 if self.amp else torch.float32
            for network in self.networks:
                if device.type == "cpu":
                    self._autocasts = not with_fast_layers(network, precision)
                # Convolutions of these widths run a third faster on a CPU when channels lie together.
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tile = tile
        self._tiled = [TiledGenerator(n, tile, self.stride) for n in self.networks] if tile else None

    def __len__(self) -> int:
        return len(self.networks)

    def batch(self, voxels: float) -> int:
        """Slices of so many voxels that are best translated together."""
        return max(1, int(_VOXELS_PER_PASS.get(self.device.type, _VOXELS_PER_PASS["cpu"]) // voxels))

    def translate(self, number: int, images: Tensor) -> Tensor:
        """Middle channel ``(batch, 1, *spatial)``, in [-1, 1], of what a generator makes of images."""
        sizes = images.shape[2:]
        beyond = [-size % self.stride for size in sizes]
        padding = [amount for size in reversed(beyond) for amount in (0, size)]
        reflects = all(size > amount for size, amount in zip(sizes, beyond, strict=True))
        begin = time.perf_counter()
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self._autocasts):
            padded = functional.pad(images, padding, mode="reflect" if reflects else "replicate")
            if self.dimensions == 2:
                padded = padded.contiguous(memory_format=torch.channels_last)
            made = self.inferer(padded, self._network(number, padded.shape[2:]))
            middle = made.shape[1] // 2
            inside = tuple(slice(0, size) for size in sizes)
            made = made[(slice(None), slice(middle, middle + 1), *inside)].float()
            if made.is_cuda:
                torch.cuda.synchronize(made.device)
        self.seconds += time.perf_counter() - begin
        return made

    def _network(self, number: int, sizes: Sequence[int]) -> nn.Module:
        if self._tiled is not None:
            return self._tiled[number]
        network = self.networks[number]
        if self.dimensions == 2:
            return network
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else _CPU_BYTES
        voxels = free // (4 * _ALIVE * self.width)
        radius = getattr(network, "receptive_radius", None)
        if math.prod(sizes) <= voxels or radius is None:
            return network
        core = int(voxels ** (1 / 3)) - 2 * radius
        return TiledGenerator(network, max(8 * self.stride, core // self.stride * self.stride), self.stride)


def _stride(network: nn.Module) -> int:
    """What the sizes of images must be multiples of; networks of MONAI halve them five times at most."""
    unknown = STRIDE if next(network.parameters(), None) is None else _OF_OTHERS
    return int(getattr(network, "stride", unknown))
