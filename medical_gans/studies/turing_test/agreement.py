"""Agreement between readers on real or generated, beyond what their habits alone would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medical_gans.studies.turing_test.figures import Figure, bootstrap_interval, image_replicates


@dataclass(frozen=True)
class Agreement:
    """Kappa of some readers, by ``Cohen`` for two and ``Fleiss`` for more, over the images that all of them judged."""

    readers: Sequence[str]
    method: str
    kappa: Figure


def cohen_kappa(first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Kappa of two readers (Cohen 1960).

    Args:
        first: ``(images,)`` 0 or 1.
        second: the same.
        weights: ``(replicates, images)``; None counts each image once.

    Returns:
        ``(replicates,)``, or ``(1,)``; NaN where both readers always gave one and the same answer.
    """
    counts = np.ones((1, len(first))) if weights is None else weights
    with np.errstate(invalid="ignore"):
        total = counts.sum(axis=1)
        a, b = counts @ first / total, counts @ second / total
        return _beyond_chance(counts @ (first == second) / total, a * b + (1 - a) * (1 - b))


def fleiss_kappa(answers: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Kappa of any number of readers who judged the same images (Fleiss 1971).

    Args:
        answers: ``(readers, images)`` 0 or 1.
        weights: as in `cohen_kappa`.

    Returns:
        As `cohen_kappa`.
    """
    readers, images = answers.shape
    counts = np.ones((1, images)) if weights is None else weights
    ones = answers.sum(axis=0)
    agreeing_pairs = (ones * (ones - 1) + (readers - ones) * (readers - ones - 1)) / (readers * (readers - 1))
    with np.errstate(invalid="ignore"):
        total = counts.sum(axis=1)
        share = counts @ ones / (total * readers)
        return _beyond_chance(counts @ agreeing_pairs / total, share**2 + (1 - share) ** 2)


def agreements(readers: Sequence[str], rating: np.ndarray, is_real: np.ndarray, seed: int) -> list[Agreement]:
    """Of each pair of readers and, from three readers on, of all together.

    Args:
        readers: names.
        rating: ``(readers, images)``, NaN where there is no answer.
        is_real: ``(images,)`` bool.
        seed: of the bootstrap over images.
    """
    groups = [list(pair) for pair in combinations(range(len(readers)), 2)]
    if len(readers) > 2:
        groups.append(list(range(len(readers))))
    weights = image_replicates(is_real, seed)
    return [_agreement([readers[i] for i in group], rating[group], weights) for group in groups]


def _agreement(readers: Sequence[str], rating: np.ndarray, weights: np.ndarray) -> Agreement:
    known = np.isfinite(rating).all(axis=0)
    answers = (rating[:, known] > 0).astype(float)
    kappa, replicates = (
        cohen_kappa(answers[0], answers[1], drawn) if len(readers) == 2 else fleiss_kappa(answers, drawn)
        for drawn in (None, weights[:, known])
    )
    value = float(kappa[0])
    low, high = bootstrap_interval(replicates) if math.isfinite(value) else (math.nan, math.nan)
    return Agreement(readers, "Cohen" if len(readers) == 2 else "Fleiss", Figure(value, low, high, int(known.sum())))


def _beyond_chance(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
