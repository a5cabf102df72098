"""Figures of a reader study, with intervals that respect who read what; agreement between readers.

The rating of an image runs from -5 (certainly generated) to 5 (certainly real). Intervals of one reader come from
closed forms, where images are independent: Wilson (1927) for shares, DeLong et al. (1988) for the AUC. Several readers
judge the same images, so intervals over readers come from a bootstrap of images, real and generated apart. Agreement
is measured beyond what the readers' habits alone would give.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import binomtest, norm

DEFINITIONS = {
    "frr": "false real rate: share of generated images judged real",
    "trr": "true real rate: share of real images judged real",
    "accuracy": "share of images judged rightly; 0.5 is guessing where half are real",
    "auc": "area under the ROC curve of judgement and confidence: how often a real image is rated more real than a "
    "generated one; 0.5 where readers cannot tell them apart; over readers, the mean of their areas",
    "d_prime": "sensitivity, z(trr) - z(frr), each share with half an answer added to both sides (Hautus 1995); 0 "
    "where readers cannot tell",
    "bias": "-(z(trr) + z(frr)) / 2: above 0 the reader tends to say generated, below 0 real. It moves frr and trr "
    "together, which is why frr alone says little",
    "malignancy_real": "share of real images whose class (benign or malignant) was judged as rated",
    "malignancy_generated": "share of generated images whose class was judged as asked from the generator",
    "seconds": "median time per image on the screen",
}
REPLICATES = 2000


@dataclass(frozen=True)
class Figure:
    """A value, its 95 % interval where there is one, and the number of answers behind it."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0


def reader_figures(
    rating: np.ndarray,
    is_real: np.ndarray,
    seconds: np.ndarray,
    is_class_right: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Figure]:
    """Figures of one reader or of several together.

    Args:
        rating: ``(readers, images)``, NaN where there is no answer.
        is_real: ``(images,)`` bool.
        seconds: ``(readers, images)``.
        is_class_right: ``(readers, images)``, 1 where benign or malignant was judged rightly, NaN where not asked.
        seed: of the bootstrap.
    """
    judged_real = np.where(np.isnan(rating), np.nan, rating > 0)
    is_right = np.where(np.isnan(rating), np.nan, (rating > 0) == is_real)
    weights = image_replicates(is_real, seed) if len(rating) > 1 else None
    figures = {
        "accuracy": _share(is_right, np.ones_like(is_real), weights),
        "auc": auc(rating, is_real, weights),
        "frr": _share(judged_real, ~is_real, weights),
        "trr": _share(judged_real, is_real, weights),
        **_signal_detection(judged_real, is_real),
    }
    if is_class_right is not None:
        figures["malignancy_real"] = _share(is_class_right, is_real, weights)
        figures["malignancy_generated"] = _share(is_class_right, ~is_real, weights)
    known = seconds[np.isfinite(seconds)]
    figures["seconds"] = Figure(float(np.median(known)) if known.size else math.nan, n=known.size)
    return figures


def image_replicates(is_real: np.ndarray, seed: int) -> np.ndarray:
    """``(replicates, images)``: how often each image is drawn, real and generated in the numbers of the study."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((REPLICATES, len(is_real)))
    for group in (np.flatnonzero(is_real), np.flatnonzero(~is_real)):
        if group.size:
            weights[:, group] = rng.multinomial(group.size, np.full(group.size, 1 / group.size), size=REPLICATES)
    return weights


def bootstrap_interval(replicates: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval (Efron 1979); none where fewer than two values differ."""
    known = replicates[np.isfinite(replicates)]
    if known.size < 2 or known.min() == known.max():
        return math.nan, math.nan
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def auc(rating: np.ndarray, is_real: np.ndarray, weights: np.ndarray | None = None) -> Figure:
    """Area under the ROC curve, ties counted half; of several readers the mean.

    Args:
        rating: ``(readers, images)``, NaN where there is no answer.
        is_real: ``(images,)`` bool.
        weights: see `image_replicates`; None for the interval of DeLong et al. (1988), of one reader.
    """
    areas, replicates, low, high = [], [], math.nan, math.nan
    for one in rating:
        real, generated = np.flatnonzero(is_real & ~np.isnan(one)), np.flatnonzero(~is_real & ~np.isnan(one))
        if not real.size or not generated.size:
            continue
        wins = 0.5 + 0.5 * np.sign(one[real][:, None] - one[generated])
        areas.append(wins.mean())
        if weights is not None:
            replicates.append(_weighted_means(wins, weights[:, real], weights[:, generated]))
        elif min(wins.shape) > 1:
            variance = wins.mean(1).var(ddof=1) / real.size + wins.mean(0).var(ddof=1) / generated.size
            if variance > 0:  # at an area of 0 or 1 the method knows no interval
                reach = norm.ppf(0.975) * math.sqrt(variance)
                low, high = max(0.0, areas[-1] - reach), min(1.0, areas[-1] + reach)
    if weights is not None and replicates:
        low, high = bootstrap_interval(np.mean(replicates, axis=0))
    return Figure(float(np.mean(areas)) if areas else math.nan, low, high, int(np.isfinite(rating).sum()))


def roc_points(rating: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false real rate, true real rate) of one reader at every threshold of the rating, from (0, 0) to (1, 1).

    Both are empty where the reader has not judged images of both kinds.
    """
    known = ~np.isnan(rating)
    if len(np.unique(is_real[known])) < 2:
        return np.empty(0), np.empty(0)
    thresholds = np.array([np.inf, *range(5, 0, -1), *range(-1, -6, -1)])
    above = rating[known][None] >= thresholds[:, None]
    real = is_real[known]
    return above[:, ~real].mean(axis=1), above[:, real].mean(axis=1)


def _share(values: np.ndarray, chosen: np.ndarray, weights: np.ndarray | None) -> Figure:
    """Mean of 0 and 1 over all answers to the chosen images."""
    answered = ~np.isnan(values) & chosen.astype(bool)
    n = int(answered.sum())
    if n == 0:
        return Figure(math.nan)
    hits = np.where(answered, values, 0.0).sum(axis=0)
    share = float(hits.sum() / n)
    if weights is not None and 0 < share < 1:
        with np.errstate(invalid="ignore"):
            low, high = bootstrap_interval((weights @ hits) / (weights @ answered.sum(axis=0)))
        return Figure(share, low, high, n)
    # Several readers who all agree tell no more than the images allow.
    images = int(answered.any(axis=0).sum())
    interval = binomtest(round(share * images), images).proportion_ci(method="wilson")
    return Figure(share, float(interval.low), float(interval.high), n)


def _weighted_means(wins: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        sums = np.einsum("bi,ij,bj->b", rows, wins, columns, optimize=True)
        return np.asarray(sums / (rows.sum(axis=1) * columns.sum(axis=1)))


def _signal_detection(judged_real: np.ndarray, is_real: np.ndarray) -> Mapping[str, Figure]:
    """d' and criterion; over readers, the mean of theirs."""
    found = []
    for one in judged_real:
        known = ~np.isnan(one)
        real, generated = one[known & is_real], one[known & ~is_real]
        if real.size and generated.size:
            hit, false_alarm = (norm.ppf((group.sum() + 0.5) / (group.size + 1)) for group in (real, generated))
            found.append((hit - false_alarm, -(hit + false_alarm) / 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the mean of nothing
        d_prime, bias = np.mean(np.array(found).reshape(-1, 2), axis=0)
    n = int(np.isfinite(judged_real).sum())
    return {"d_prime": Figure(float(d_prime), n=n), "bias": Figure(float(bias), n=n)}


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
