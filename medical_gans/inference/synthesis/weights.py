"""From weights files to generators, and what is known of their training."""

from __future__ import annotations

import copy
import json
import logging
import pydoc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import SettingError
from medical_gans.io import TrainingCases, read_volume
from medical_gans.training.checkpoints import WeightsCard, load_weights

logger = logging.getLogger(__name__)

_TRUSTED = ("medical_gans.networks.", "monai.networks.nets.")
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
    network: nn.Module, weights: str | Path | Sequence[str | Path], adjacent: int = 1
) -> TrainedGenerators:
    """Load one or several weights files into copies of a network.

    Args:
        network: of the architecture of all files.
        weights: files, each with its card (`checkpoints.WeightsCard`) beside it where there is one.
        adjacent: slices stacked as channels.

    Raises:
        InputError: a file is missing, damaged, or does not fit the network.
        SettingError: no file, or files trained at different spacings, on different planes, or on another
            number of adjacent slices.
    """
    files = [Path(weights)] if isinstance(weights, str | Path) else [Path(file) for file in weights]
    if not files:
        raise SettingError("weights is empty. Give at least one weights file.")
    cards = {file: card for file in files if (card := WeightsCard.of(file)) is not None}
    _check_alike(cards, adjacent)
    generators = [load_weights(_network(cards.get(file), network), file) for file in files]
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


def _network(card: WeightsCard | None, configured: nn.Module) -> nn.Module:
    """The network that a card describes, or a copy of the configured one where it names no class."""
    if card is None or "target" not in card.network:
        return copy.deepcopy(configured)
    arguments = dict(card.network)
    target = str(arguments.pop("target"))
    if not target.startswith(_TRUSTED):
        raise SettingError(f"The card names the network {target}; only classes of {', '.join(_TRUSTED)} are built.")
    built = pydoc.locate(target)
    if built is None:
        raise SettingError(f"The card names the network {target}, which is not installed here.")
    return built(**arguments)  # type: ignore[operator]


def _check_alike(cards: Mapping[Path, WeightsCard], adjacent: int) -> None:
    for file, card in cards.items():
        first, other = next(iter(cards.items()))
        if (list(card.spacing), card.plane) != (list(other.spacing), other.plane):
            raise SettingError(
                f"{first} and {file} were trained at different spacings or on different planes. "
                "Average weights of one kind only."
            )
        if card.adjacent != adjacent:
            raise SettingError(
                f"adjacent is {adjacent}, but {file} was trained on {card.adjacent} adjacent slices. "
                f"Set adjacent to {card.adjacent}."
            )


def training_card(
    cases: TrainingCases,
    *,
    anatomy: str,
    spacing: Sequence[float | None],
    plane: str,
    adjacent: int,
    network: Mapping[str, Any],
) -> WeightsCard:
    """The card of weights in training: settings that inference needs, and the fingerprint of the training MRs.

    Args:
        cases: the training set.
        anatomy: site in plain words, such as ``head``.
        spacing: voxel size of training in mm.
        plane: of the slices; several, with commas between them, are averaged at inference.
        adjacent: slices stacked as channels.
        network: arguments of the network.
    """
    drawn = cases.mr[:: -(-len(cases.mr) // _MEASURED)]
    volumes = (read_volume(case.mr) for case in drawn if case.mr is not None)
    fingerprint = Fingerprint.from_volumes(((v.array, v.spacing) for v in volumes), anatomy=anatomy)
    return WeightsCard(spacing, plane, adjacent, network, json.loads(fingerprint.to_json()))
