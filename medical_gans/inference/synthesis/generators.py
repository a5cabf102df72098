"""From weights files to generators that translate images of any size: padded, laid out, tiled where needed, timed."""

from __future__ import annotations

import copy
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import SettingError
from medical_gans.inference.synthesis.cpu_layers import with_fast_layers
from medical_gans.inference.synthesis.side_by_side import passes_beside
from medical_gans.inference.synthesis.tiles import TiledGenerator
from medical_gans.io import TrainingCases, read_volume
from medical_gans.networks.freed_memory import keep_freed_memory
from medical_gans.networks.layout import computes_in_bfloat16
from medical_gans.networks.resnet_generator import STRIDE
from medical_gans.weights import WeightsCard, check_network, load_network, load_weights

_VOXELS_PER_PASS = {"cpu": 1 << 18, "cuda": 1 << 22}
"""Larger batches are no faster: on a CPU their activations fall out of the cache."""

_COUNTING = threading.Lock()
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
        beside: passes that run beside each other now, see `side_by_side`.
        seconds: spent in them so far; where passes run beside each other, each counts its share.

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
        self.beside = 1
        self.seconds = 0.0
        self.networks = [copy.deepcopy(g).eval().requires_grad_(False).to(device) for g in generators]
        if device.type == "cpu":
            keep_freed_memory()
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
        unmixed = {number: _Unmixed(n) for number, n in enumerate(self.networks) if hasattr(n, "parts")}
        self._unmixed: dict[int, nn.Module] = {
            number: TiledGenerator(n, tile, self.stride) if tile else n for number, n in unmixed.items()
        }

    def __len__(self) -> int:
        return len(self.networks)

    def batch(self, voxels: float) -> int:
        """Slices of so many voxels that are best translated at a time."""
        return max(1, int(_VOXELS_PER_PASS.get(self.device.type, _VOXELS_PER_PASS["cpu"]) // voxels))

    def passes(self, slices: int) -> int:
        """Passes of so many slices that are best made beside each other: one where more are not safe, or no faster."""
        whole_slices = self.dimensions == 2 and not self.tile and type(self.inferer) is SimpleInferer
        return passes_beside(slices) if whole_slices and self.device.type == "cpu" else 1

    def translate(self, number: int, images: Tensor) -> Tensor:
        """Middle channel ``(batch, 1, *spatial)``, in [-1, 1], of what a generator makes of images."""
        made = self._made(self._network(number, images.shape[2:]), images)
        middle = made.shape[1] // 2
        return made[:, middle : middle + 1]

    def parts(self, number: int, images: Tensor) -> Tensor:
        """All channels of it, ``(batch, channel, part, *spatial)``: means over estimates are made of these.

        A generator with branches (`networks.BoneGenerator.parts`) gives them before it mixes them: the mean of a sure
        and an unsure estimate is a probability, where that of their HU would be a tissue that neither has seen. Others
        have one part, the image.
        """
        if number not in self._unmixed:
            return self._made(self._network(number, images.shape[2:]), images).unsqueeze(2)
        return self._made(self._unmixed[number], images).unflatten(1, (-1, _Unmixed.count))

    def mixed(self, number: int, parts: Tensor) -> Tensor:
        """The image of parts, ``(batch, 1, part, *spatial)`` to ``(batch, 1, *spatial)``, in [-1, 1]."""
        network: Any = self.networks[number]
        with torch.inference_mode():
            return network.mixed(parts) if number in self._unmixed else parts.squeeze(2)

    def _made(self, network: nn.Module, images: Tensor) -> Tensor:
        sizes = images.shape[2:]
        beyond = [-size % self.stride for size in sizes]
        padding = [amount for size in reversed(beyond) for amount in (0, size)]
        reflects = all(size > amount for size, amount in zip(sizes, beyond, strict=True))
        begin = time.perf_counter()
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self._autocasts):
            padded = functional.pad(images, padding, mode="reflect" if reflects else "replicate")
            if self.dimensions == 2:
                padded = padded.contiguous(memory_format=torch.channels_last)
            made = self.inferer(padded, network)
            made = made[(slice(None), slice(None), *(slice(0, size) for size in sizes))].float()
            if made.is_cuda:
                torch.cuda.synchronize(made.device)
        spent = (time.perf_counter() - begin) / self.beside
        with _COUNTING:
            self.seconds += spent
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


class _Unmixed(nn.Module):
    """A generator up to its mixture: ``(batch, channel * part, *spatial)``."""

    count = 3  # parts

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.receptive_radius = generator.receptive_radius

    def forward(self, images: Tensor) -> Tensor:
        generator: Any = self.generator
        parts: Tensor = generator.parts(images)
        return parts.flatten(1, 2)


def _stride(network: nn.Module) -> int:
    """What the sizes of images must be multiples of; networks of MONAI halve them five times at most."""
    unknown = STRIDE if next(network.parameters(), None) is None else _OF_OTHERS
    return int(getattr(network, "stride", unknown))


logger = logging.getLogger(__name__)

_MEASURED = 200
"""MRs at most that a fingerprint is taken of, evenly drawn from larger cohorts."""


@dataclass(frozen=True, eq=False)
class TrainedGenerators:
    """Generators of one architecture, each with its weights.

    Attributes:
        generators: in evaluation mode.
        files: their weights files.
        spacing: voxel size of training in mm along the canonical axes; None where kept or not known.
        plane: of the training slices; several with commas between them.
        fingerprint: of the training images; None where the weights came without it.
    """

    generators: Sequence[nn.Module]
    files: Sequence[Path]
    spacing: Sequence[float | None] = (None, None, None)
    plane: str = "axial"
    fingerprint: Fingerprint | None = None


def load_generators(
    weights: str | Path | Sequence[str | Path], network: nn.Module | Callable[[], nn.Module] | None = None
) -> TrainedGenerators:
    """Load one or several weights files, each into the network that its card tells of.

    Args:
        weights: files, each with its card (`weights.WeightsCard`) beside it.
        network: of the first file, and of those that have no card; or what makes it. None asks the cards.

    Raises:
        InputError: a file is missing, damaged, or does not fit the network.
        SettingError: no file, or files trained at different spacings, on different planes, or on another
            number of adjacent slices.
    """
    files = _files(weights)
    cards = {file: card for file in files if (card := WeightsCard.of(file)) is not None}
    _check_alike(cards)
    if network is not None and not isinstance(network, nn.Module):
        network = network()
    generators = []
    for file in files:
        asks_card = network is None or (file != files[0] and file in cards)
        generators.append(load_network(file) if asks_card else load_weights(copy.deepcopy(network), file))  # type: ignore[arg-type]
    if not cards:
        logger.warning(
            "%s has no card (%s) beside it: at which voxel size and on what images it was trained "
            "is not known, so the input is neither resampled nor checked.",
            files[0].name,
            files[0].with_suffix(".json").name,
        )
        return TrainedGenerators(generators, files)
    card = next(iter(cards.values()))
    fingerprint = Fingerprint.from_json(json.dumps(card.fingerprint)) if card.fingerprint else None
    return TrainedGenerators(generators, files, card.spacing, card.plane, fingerprint)


def translation_card(weights: str | Path | Sequence[str | Path]) -> WeightsCard:
    """What is known of weights: the first card there is, or one that leaves everything as it comes.

    Raises:
        InputError: a card cannot be read.
        SettingError: no file.
    """
    found = (WeightsCard.of(file) for file in _files(weights))
    return next((card for card in found if card is not None), WeightsCard([None, None, None]))


def _files(weights: str | Path | Sequence[str | Path]) -> list[Path]:
    files = [Path(weights)] if isinstance(weights, str | Path) else [Path(file) for file in weights]
    if not files:
        raise SettingError("weights is empty. Give at least one weights file.")
    return files


def _check_alike(cards: Mapping[Path, WeightsCard]) -> None:
    for file, card in cards.items():
        first, other = next(iter(cards.items()))
        if (list(card.spacing), card.plane) != (list(other.spacing), other.plane):
            raise SettingError(
                f"{first} and {file} were trained at different spacings or on different planes. "
                "Average weights of one kind only."
            )
        if card.adjacent != other.adjacent:
            raise SettingError(
                f"{first} was trained on {other.adjacent} adjacent slices, {file} on {card.adjacent}. "
                "Average weights of one kind only."
            )


def training_card(
    cases: TrainingCases,
    *,
    anatomy: str,
    spacing: Sequence[float | None],
    plane: str,
    adjacent: int,
    network_def: Mapping[str, Any],
) -> WeightsCard:
    """The card of weights in training: settings that inference needs, and the fingerprint of the training MRs.

    Args:
        cases: the training set.
        anatomy: site in plain words, such as ``head``.
        spacing: voxel size of training in mm.
        plane: of the slices; several, with commas between them, are put together at inference.
        adjacent: slices stacked as channels.
        network_def: the network as it is configured.

    Raises:
        SettingError: weights of such a network could not be used, see `weights.check_network`.
    """
    check_network(network_def)
    drawn = cases.mr[:: -(-len(cases.mr) // _MEASURED)]
    volumes = (read_volume(case.mr, modality="MR") for case in drawn if case.mr is not None)
    fingerprint = Fingerprint.from_volumes(((v.array, v.spacing) for v in volumes), anatomy=anatomy)
    facts = json.loads(fingerprint.to_json())
    return WeightsCard(spacing, plane, adjacent, network_def=network_def, fingerprint=facts)
