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
        amp: automatic mixed precision; acts on a GPU only.
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
        self.amp = amp and device.type == "cuda"
        self.inferer = inferer or SimpleInferer()
        self.stride = max(_stride(generator) for generator in generators)
        self.seconds = 0.0
        self.networks = [copy.deepcopy(g).eval().requires_grad_(False).to(device) for g in generators]
        if self.dimensions == 2:
            for network in self.networks:
                if device.type == "cpu":
                    with_narrow_convolutions(network)
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
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.amp):
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


class NarrowConvolution(nn.Module):
    """A 2D convolution to a single channel, equal to the given one up to rounding, and faster on a CPU.

    CPU kernels work on many output channels at a time, so that one alone leaves them idle. Here each row of the
    kernel makes a channel of its own, and the channels are added, each moved by its row.

    Args:
        convolution: from any number of channels to one, without stride, dilation or groups.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert isinstance(convolution.padding, tuple)
        rows, columns = convolution.padding
        self.padding = [columns, columns, rows, rows]
        self.mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
        self.bias = convolution.bias
        self.rows = nn.Parameter(convolution.weight.detach()[0].transpose(0, 1)[:, :, None], requires_grad=False)

    @staticmethod
    def replaces(convolution: nn.Conv2d) -> bool:
        """Whether a convolution is of that kind."""
        return (
            (convolution.out_channels, convolution.groups) == (1, 1)
            and convolution.kernel_size[0] > 1
            and (convolution.stride, convolution.dilation) == ((1, 1), (1, 1))
            and not isinstance(convolution.padding, str)
        )

    def forward(self, features: Tensor) -> Tensor:
        by_row = functional.conv2d(functional.pad(features, self.padding, self.mode), self.rows)
        height = by_row.shape[2] - len(self.rows) + 1
        image: Tensor = sum(  # type: ignore[assignment]
            by_row[:, row : row + 1, row : row + height] for row in range(len(self.rows))
        )
        return image if self.bias is None else image + self.bias


def with_narrow_convolutions(network: nn.Module) -> nn.Module:
    """Replace, in place, every convolution that has a faster form."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and NarrowConvolution.replaces(child):
                setattr(parent, name, NarrowConvolution(child))
    return network
