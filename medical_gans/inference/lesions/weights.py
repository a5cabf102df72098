"""From a weights file to a segmenter, and what is known of its training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import InputError, SettingError
from medical_gans.networks import segmentation_network
from medical_gans.training.checkpoints import WeightsCard, load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainedSegmenter:
    """A segmenter with its weights.

    Attributes:
        network: in evaluation mode.
        file: its weights.
        spacing: voxel size of training in mm along the canonical axes; None where kept or not known.
        classes: their names, the background first.
        sequences: all names of sequences that the weights know, in training or adaptation.
        fingerprint: of the training images; None where the weights came without it.
        notes: sentences for the report.
        patch_size: voxels of a training patch along each axis; None where not known.
    """

    network: nn.Module
    file: Path
    spacing: Sequence[float | None] | None = None
    classes: Sequence[str] = ("background", "lesion")
    sequences: Sequence[str] = ()
    fingerprint: Fingerprint | None = None
    notes: tuple[str, ...] = ()
    patch_size: Sequence[int] | None = None


def load_segmenter(network: nn.Module, weights: str | Path, channels: Sequence[str]) -> TrainedSegmenter:
    """Load weights into the network that their card (`checkpoints.WeightsCard`) tells of.

    Args:
        network: taken where there is no card, or it tells of none.
        weights: file.
        channels: names of the sequences that are to be segmented, in the network's order.

    Raises:
        InputError: the file is missing, damaged, or does not fit the network.
        SettingError: the weights were trained on another number of sequences, or in another order.
    """
    file = Path(weights)
    card = WeightsCard.of(file)
    if card is None:
        loaded = load_weights(network, file)
        note = (
            f"{file.name} has no card ({file.with_suffix('.json').name}) beside it: at which voxel size and on which "
            "sequences it was trained is not known."
        )
        logger.warning(note)
        return TrainedSegmenter(loaded, file, notes=(note,))
    notes = _compare(channels, card, file)
    if card.network:
        network = _network(card.network, file)
    return TrainedSegmenter(
        load_weights(network, file),
        file,
        list(card.spacing) if any(card.spacing) else None,
        tuple(card.classes) or TrainedSegmenter.classes,
        tuple(dict.fromkeys([*card.channels, *card.target_channels])),
        Fingerprint.from_json(json.dumps(card.fingerprint)) if card.fingerprint else None,
        notes,
        list(card.patch_size) or None,
    )


def _network(arguments: Mapping[str, object], file: Path) -> nn.Module:
    try:
        return segmentation_network(**arguments)  # type: ignore[arg-type]
    except (TypeError, SettingError) as error:
        raise InputError(f"The card of {file} is of another kind of network: {error}") from error


def _compare(channels: Sequence[str], card: WeightsCard, file: Path) -> tuple[str, ...]:
    """Refuse sequences that cannot be right; say it where the weights do not know them."""
    known = [[name.casefold() for name in names] for names in (card.channels, card.target_channels) if names]
    given = [name.casefold() for name in channels]
    if not known or given in known:
        return ()
    trained = ", ".join(card.channels)
    adapted = f" and adapted to {', '.join(card.target_channels)}" if card.target_channels else ""
    same = next((names for names in known if sorted(names) == sorted(given)), None)
    if same is not None:
        order = card.channels if same is known[0] else card.target_channels
        raise SettingError(
            f"channels are {', '.join(channels)}, but {file.name} takes them in the order {', '.join(order)}. Set "
            "channels so."
        )
    if len(given) != len(known[0]):
        raise SettingError(
            f"channels names {len(given)} sequences ({', '.join(channels)}), but {file.name} was trained on {trained}"
            f"{adapted}. Set channels to {len(known[0])} sequences; those that your data lack go into missing as well."
        )
    return (
        f"The weights were trained on {trained}{adapted}. How well they do on {', '.join(channels)} is not known: "
        "look at every outline.",
    )
