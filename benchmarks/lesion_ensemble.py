"""One weights file of several segmenters: their mean, on both sides, and a threshold (docs/models/brain_lesion.md).

    python benchmarks/lesion_ensemble.py --weights a/model.pt b/model.pt --threshold 0.8 --output model.pt

The files must come from trainings of one network on one grid, as their cards tell.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, replace
from pathlib import Path

from medical_gans.errors import InputError
from medical_gans.networks import Ensemble
from medical_gans.weights import WeightsCard, load_network, save_weights

_SAME = ("network_def", "spacing", "classes", "channels", "patch_size")


def gathered(weights: list[Path], threshold: float) -> tuple[Ensemble, WeightsCard]:
    """An ensemble, which sees both sides, and its card.

    Args:
        weights: files with their cards.
        threshold: probability from which the classes after the first are believed.
    """
    cards = [WeightsCard.of(file) for file in weights]
    for file, card in zip(weights, cards, strict=True):
        if card is None:
            raise InputError(f"{file} has no card beside it. Copy the one that training wrote.")
        other = [name for name in _SAME if asdict(card)[name] != asdict(cards[0])[name]]
        if other:
            raise InputError(f"{file} and {weights[0]} differ in {other[0]}. Give weights of one kind of training.")
    first = cards[0]
    lesions = len(first.classes) - 1
    settings = {"mirrored": True, "offsets": [0.0] + [math.log((1 - threshold) / threshold)] * lesions}
    network = Ensemble([load_network(file) for file in weights], **settings).eval()
    members = [dict(first.network_def)] * len(weights)
    network_def = {"_target_": "medical_gans.networks.Ensemble", "members": members, **settings}
    return network, replace(first, network_def=network_def)


def main() -> None:
    """Write the file and its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--threshold", type=float, default=0.5, help="probability from which there is a lesion")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    if not 0 < given.threshold < 1:
        parser.error(f"--threshold is {given.threshold}; give a probability between 0 and 1.")
    network, card = gathered(given.weights, given.threshold)
    save_weights(given.output, network)
    card.save(given.output)


if __name__ == "__main__":
    main()
