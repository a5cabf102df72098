"""From weights files to generators, and what is known of their training."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import SettingError
from medical_gans.io import TrainingCases, read_volume
from medical_gans.weights import WeightsCard, check_network, load_network, load_weights

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
        plane: of the slices; several, with commas between them, are averaged at inference.
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
