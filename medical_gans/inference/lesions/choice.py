"""Which weights and which sequences, where the user names neither: by what the data set holds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from medical_gans.io import list_series
from medical_gans.io.formats import holds_dicom_images, image_stem, image_suffix, may_hold_dicom
from medical_gans.io.sequence_cases import holds_sequences
from medical_gans.weights import WeightsCard

SHIPPED = {("FLAIR",): "brain_lesion.pt", ("T1",): "brain_lesion_t1.pt"}
"""Weights by the sequences that they are for, the better ones first."""

Place = str | os.PathLike[str]

logger = logging.getLogger(__name__)


def channels_for(dataset_dir: Place | None, weights: Place | None = None) -> list[str]:
    """Sequences to segment: the first of those that the weights know and the data set holds.

    Args:
        dataset_dir: folder, case folder, image, DICOM series or data list.
        weights: file with a card, which is asked for the sequences it was adapted to, then for those it was trained
            on; None asks for those of the shipped weights, FLAIR first.
    """
    known = _known(weights)
    if dataset_dir is None or len(known) < 2:
        return known[0]
    place = Path(os.path.expanduser(dataset_dir))
    series = place.is_dir() and holds_dicom_images(place)
    image = place.is_file() and (image_suffix(place) or may_hold_dicom(place))
    if not (image or series):
        return next((names for names in known if holds_sequences(place, names)), known[0])
    named = _words(image_stem(place))
    if may_hold_dicom(place):
        named |= {word for one in list_series(place) for word in _words(one.description)}
    fitting = [names for names in known if len(names) == 1 and _words(names[0]) <= named]
    if not fitting:
        logger.warning(
            "Nothing says which sequence %s is; it is taken for %s. If it is another one, say so with channels.",
            place.name,
            known[0][0],
        )
    return (fitting or known)[0]


def weights_for(weights: Place | None, channels: Sequence[str], shipped: Place) -> str:
    """The file to load: `weights`, else the one for these sequences in the folder `shipped`, else that for FLAIR."""
    if weights is not None:
        return str(weights)
    wanted = tuple(name.casefold() for name in channels)
    names = (file for known, file in SHIPPED.items() if tuple(name.casefold() for name in known) == wanted)
    return str(Path(shipped) / next(names, next(iter(SHIPPED.values()))))


def _known(weights: Place | None) -> list[list[str]]:
    card = WeightsCard.of(Path(weights)) if weights is not None else None
    of_card = [list(names) for names in (card.target_channels, card.channels) if names] if card is not None else []
    return of_card or [list(names) for names in SHIPPED]


def _words(text: str) -> set[str]:
    return set(re.split(r"[\W_]+", text.casefold())) - {""}
