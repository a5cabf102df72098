"""How near generated nodules are to real ones, measured again and again on random halves of the test patients.

Every figure depends on the number of samples. So in each repetition one half of the patients is the reference, and
the other half (the floor), training patients and generated nodules are judged against it, as many of each class as the
halves have, so that a generator without classes meets the mix that it learned.
Drawing halves keeps the samples apart: with replacement a sample would be its own nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from medical_gans.errors import InputError, SettingError
from medical_gans.evaluation.nodule_sources import JUDGED
from medical_gans.metrics.distribution import (
    frechet_distance,
    kernel_distance,
    memorisation_ratio,
    ms_ssim_diversity,
    nearest,
    precision_recall_density_coverage,
)

_LEAST = 10
FLOOR = "real"
"""Name of the test patients of the other half."""
GROUPS: dict[str, tuple[int, ...]] = {"both": tuple(JUDGED)} | {name: (label,) for label, name in JUDGED.items()}
"""Classes that are judged together; ``both`` has them in the mix of the test patients."""
DEFINITIONS = {
    "frechet": "Frechet distance of the features (Heusel et al. 2017); falls with n",
    "frechet_ratio": "frechet over that of real against real",
    "kernel": "kernel distance (Binkowski et al. 2018): squared maximum mean discrepancy, cubic kernel, unbiased",
    "precision": "share of the samples within the manifold of the real half (Kynkaanniemi et al. 2019)",
    "recall": "share of the real half within the manifold of the samples",
    "density": "real neighbourhoods that hold a sample, over k (Naeem et al. 2020)",
    "coverage": "share of real neighbourhoods that hold a sample",
    "ms_ssim": "MS-SSIM of random pairs of one class, at full, half and quarter size: above that of real ones there is "
    "less variety",
    "memorisation": "median distance of the features to the nearest training patch, over that of the real half: below "
    "1 the samples are nearer to the training patches than new patients are",
    "memorisation_pixels": "the same for the voxels in HU, mirrored training patches included; smooth images are near "
    "to everything",
}


@dataclass(frozen=True, eq=False)
class Samples:
    """Images with their features.

    Attributes:
        images: ``(n, *spatial)`` in HU.
        label: ``(n,)``, -1 without classes.
        features: by name, ``(n, features)``.
        to_training: by name of the features, and ``pixels``: ``(n,)`` distance to the nearest training patch.
    """

    images: np.ndarray
    label: np.ndarray
    features: Mapping[str, np.ndarray]
    to_training: Mapping[str, np.ndarray]

    @property
    def has_classes(self) -> bool:
        """Whether benign and malignant ones are told apart."""
        return bool((self.label >= 0).any())


@dataclass(frozen=True)
class Figure:
    """Mean over the repetitions, and between which values 95 % of them lie.

    A half of the patients has twice the variance of all of them, and that is the variance between random halves: the
    interval is that of the delete-half jackknife (Shao and Wu 1989).
    """

    value: float
    low: float
    high: float
    n: int


Figures = dict[tuple[str, str, str], dict[str, Figure]]
"""(group, features, samples) -> figure -> value."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Random halves of the test patients for one group of classes.

    Attributes:
        labels: of the group.
        halves: for each repetition two lists of indices ``(m,)`` of the test samples, one array for each label.
        numbers: samples of each label that are taken of every set.
    """

    labels: tuple[int, ...]
    halves: list[tuple[list[np.ndarray], list[np.ndarray]]]
    numbers: list[int]


def plan_halves(
    label: np.ndarray,
    patient: np.ndarray,
    candidates: Mapping[str, np.ndarray],
    *,
    k: int = 5,
    repeats: int = 100,
    seed: int = 0,
) -> dict[str, Plan]:
    """Draw the halves of the patients for each of `GROUPS`, and see that there are samples enough.

    Args:
        label: ``(n,)`` of the test samples.
        patient: ``(n,)`` of each.
        candidates: labels of training patients and generators, by name; -1 throughout without classes.
        k: neighbours that make a manifold.
        repeats: random halves.
        seed: of the halves.

    Raises:
        InputError: too few samples of a class.
        SettingError: k or repeats are too small.
    """
    if k < 1 or repeats < 2:
        raise SettingError(f"k is {k} and repeats is {repeats}; give k of 1 or more and repeats of 2 or more.")
    plans = {}
    for place, (group, labels) in enumerate(GROUPS.items()):
        rng = np.random.default_rng((seed, place))
        halves = [_halves(label, patient, labels, rng) for _ in range(repeats)]
        judged = {name: one for name, one in candidates.items() if (one >= 0).any() or len(labels) == len(JUDGED)}
        plans[group] = Plan(labels, halves, _numbers(halves, judged, labels, least=max(k + 1, _LEAST)))
    return plans


def judge(
    real: Samples,
    candidates: Mapping[str, Samples],
    plans: Mapping[str, Plan],
    *,
    data_range: float,
    k: int = 5,
    seed: int = 0,
) -> Figures:
    """All figures of all candidates, and the floor.

    Args:
        real: test patients.
        candidates: training patients and generators, by name. One without classes is judged for both together.
        plans: halves of the test patients, by group.
        data_range: HU, width of the window.
        k: neighbours that make a manifold.
        seed: of the samples drawn from the halves and the candidates.
    """
    figures: Figures = {}
    for place, (group, plan) in enumerate(plans.items()):
        judged = {name: one for name, one in candidates.items() if one.has_classes or len(plan.labels) == len(JUDGED)}
        rows: dict[tuple[str, str], list[dict[str, float]]] = {}
        bar = tqdm(plan.halves, desc=f"figures of {group}", unit="split", leave=False)
        for repetition, halves in enumerate(bar):
            own_seed = (seed, place, repetition)
            for key, found in _repetition(real, halves, judged, plan, data_range, k, own_seed).items():
                rows.setdefault(key, []).append(found)
        summaries = {key: _summary(found, n=sum(plan.numbers)) for key, found in rows.items()}
        for (features, name), summary in summaries.items():
            # a ratio of means: the mean of ratios is larger, by the spread of the floor
            ratio = summary["frechet"].value / summaries[features, FLOOR]["frechet"].value
            summary["frechet_ratio"] = replace(summary["frechet_ratio"], value=ratio)
            figures[group, features, name] = summary
    return figures


def distances_to_training(
    images: np.ndarray,
    features: Mapping[str, np.ndarray],
    training_images: np.ndarray,
    training_features: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Distance to the nearest training patch, and its index, in each kind of features and in ``pixels`` (RMS, HU).

    Args:
        images: ``(n, *spatial)`` in HU.
        features: by name, ``(n, features)``.
        training_images: ``(m, *spatial)``; their mirror images count as well, as in training.
        training_features: as `features`.
    """
    found = {name: nearest(values, training_features[name]) for name, values in features.items()}
    (plain, plain_index), (mirrored, mirrored_index) = (
        nearest(images, training) for training in (training_images, training_images[:, :, ::-1])
    )
    rms = np.minimum(plain, mirrored) / np.sqrt(images[0].size)
    found["pixels"] = rms, np.where(plain <= mirrored, plain_index, mirrored_index)
    return {kind: pair[0] for kind, pair in found.items()}, {kind: pair[1] for kind, pair in found.items()}


def _numbers(
    splits: Sequence[tuple[list[np.ndarray], list[np.ndarray]]],
    candidates: Mapping[str, np.ndarray],
    labels: Sequence[int],
    least: int,
) -> list[int]:
    """Samples of each class that every half has, all reduced by one factor where a candidate has fewer."""
    halves = [min(len(side[place]) for split in splits for side in split) for place in range(len(labels))]
    supply = {"half of the test patients": halves}
    for name, given in candidates.items():
        if (given >= 0).any():
            supply[name] = [int((given == label).sum()) for label in labels]
        else:
            supply[name] = [len(given) * n // max(sum(halves), 1) for n in halves]
    for where, counts in supply.items():
        for label, count in zip(labels, counts, strict=True):
            if count < least:
                raise InputError(
                    f"There are only {count} {JUDGED[label]} nodules in {where}; the figures need {least} or more. "
                    "Give more nodules, or a larger share of test patients in split_fractions."
                )
    share = min(count / n for counts in supply.values() for count, n in zip(counts, halves, strict=True))
    return [max(least, int(share * n + 1e-9)) for n in halves]


def _repetition(
    real: Samples,
    halves: tuple[list[np.ndarray], list[np.ndarray]],
    candidates: Mapping[str, Samples],
    plan: Plan,
    data_range: float,
    k: int,
    seed: Sequence[int],
) -> dict[tuple[str, str], dict[str, float]]:
    """Figures by (features, samples), one half of the patients being the reference.

    Each set is drawn with the same random numbers, so that the figures of one do not depend on the others.
    """
    rng = np.random.default_rng(seed)
    reference, other = (
        np.concatenate([rng.permutation(one)[:n] for one, n in zip(side, plan.numbers, strict=True)]) for side in halves
    )
    drawn = {FLOOR: (real, other)}
    for name, samples in candidates.items():
        drawn[name] = samples, _draw(samples, plan, np.random.default_rng(seed))
    found = {}
    for name, (samples, index) in drawn.items():
        rng = np.random.default_rng(seed)
        parts = np.split(index, np.cumsum(plan.numbers)[:-1])
        similar = float(np.mean([ms_ssim_diversity(samples.images[part], data_range, rng) for part in parts]))
        for features, values in real.features.items():
            ours, theirs = values[reference], samples.features[features][index]
            found[features, name] = {
                "frechet": frechet_distance(ours, theirs),
                "kernel": kernel_distance(ours, theirs),
                **precision_recall_density_coverage(ours, theirs, k),
                "ms_ssim": similar,
                **{
                    figure: memorisation_ratio(samples.to_training[kind][index], real.to_training[kind][other])
                    for figure, kind in (("memorisation", features), ("memorisation_pixels", "pixels"))
                },
            }
    for (features, _), figures in found.items():
        figures["frechet_ratio"] = figures["frechet"] / found[features, FLOOR]["frechet"]
    return found


def _halves(
    label: np.ndarray, patient: np.ndarray, labels: Sequence[int], rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Indices by class of two random halves of the patients; each patient goes where samples like theirs are fewer."""
    sides: tuple[list[list[int]], list[list[int]]] = ([[] for _ in labels], [[] for _ in labels])
    for name in rng.permutation(np.unique(patient[np.isin(label, labels)])):
        own = [np.flatnonzero((patient == name) & (label == one)).tolist() for one in labels]
        excess = sum(len(new) * (len(a) - len(b)) for new, a, b in zip(own, *sides, strict=True))
        side = sides[0] if excess < 0 or (excess == 0 and rng.random() < 0.5) else sides[1]
        for held, new in zip(side, own, strict=True):
            held += new
    first, second = ([np.array(held, dtype=np.int64) for held in side] for side in sides)
    return first, second


def _draw(samples: Samples, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """Random samples, so many of each class, one class after the other."""
    if not samples.has_classes:
        return rng.permutation(len(samples.label))[: sum(plan.numbers)]
    drawn = []
    for label, number in zip(plan.labels, plan.numbers, strict=True):
        drawn.append(rng.permutation(np.flatnonzero(samples.label == label))[:number])
    return np.concatenate(drawn)


def _summary(rows: Sequence[Mapping[str, float]], n: int) -> dict[str, Figure]:
    figures = {}
    for name in DEFINITIONS:
        values = np.array([row[name] for row in rows])
        low, high = np.percentile(values, (2.5, 97.5))
        figures[name] = Figure(float(values.mean()), float(low), float(high), n)
    return figures
