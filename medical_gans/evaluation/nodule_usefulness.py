"""Whether a classifier learns as much from generated nodules as from real ones, tested on real patients never used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from medical_gans.data.patches import Transform, images_of
from medical_gans.errors import SettingError
from medical_gans.evaluation.nodule_classification import Budget, malignancy_logits, train_classifier
from medical_gans.metrics.roc import area_under_curve, patient_bootstrap

REAL = "real"
_BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Usefulness:
    """What classifiers reach.

    Attributes:
        auc: by what they learned from: area under the ROC curve, mean over trainings.
        difference: by the same, but for real: auc minus that of real.
        by_training: AUC of each training.
        trained_on: number of nodules that each learned from.
        logits: ``(trainings, test nodules)``.
        malignant: ``(test nodules,)`` truth.
        patients: number of test patients.
    """

    auc: Mapping[str, Interval]
    difference: Mapping[str, Interval]
    by_training: Mapping[str, Sequence[float]]
    trained_on: Mapping[str, int]
    logits: Mapping[str, np.ndarray]
    malignant: np.ndarray
    patients: int


@dataclass(frozen=True, eq=False)
class Labelled:
    """Nodules ``(n, *spatial)`` in HU, and whether each is malignant ``(n,)``."""

    hounsfield: np.ndarray
    malignant: np.ndarray


def usefulness(
    real: Labelled,
    generated: Mapping[str, Labelled],
    test: Labelled,
    patient: np.ndarray,
    *,
    preprocessing: Transform,
    budget: Budget,
    trainings: int = 3,
    classifier: Callable[[], nn.Module],
    seed: int = 0,
    device: str = "cpu",
) -> Usefulness:
    """Train on real, on each set of generated, and on both together, with one budget, and compare.

    The bootstrap draws test patients, and trainings, anew with replacement.

    Args:
        real: training patients.
        generated: by name of the generator.
        test: other patients.
        patient: ``(n,)`` of each test nodule.
        preprocessing: from HU to what the classifiers see.
        budget: of each training.
        trainings: from different initial weights.
        classifier: makes one, untrained.
        seed: of the trainings and the bootstrap.
        device: where to train.

    Raises:
        SettingError: `trainings` is below 1.
        InputError: a class is missing among the nodules to learn from.
    """
    if trainings < 1:
        raise SettingError(f"trainings is {trainings}; give 1 or more.")
    lessons = {REAL: real}
    for name, nodules in generated.items():
        lessons[name] = nodules
        lessons[f"{REAL} + {name}"] = Labelled(
            np.concatenate([real.hounsfield, nodules.hounsfield]),
            np.concatenate([real.malignant, nodules.malignant]),
        )
    tested = images_of(test.hounsfield, preprocessing)
    logits: dict[str, np.ndarray] = {}
    with tqdm(total=len(lessons) * trainings, desc="classifiers", unit="training", leave=False) as bar:
        for name, lesson in lessons.items():
            images = images_of(lesson.hounsfield, preprocessing)
            found = []
            for number in range(trainings):
                network = _made(classifier, seed + number)
                train_classifier(network, images, lesson.malignant, budget=budget, seed=seed + number, device=device)
                found.append(malignancy_logits(network, tested, device))
                bar.update()
            logits[name] = np.stack(found)
    auc, difference = auc_intervals(logits, test.malignant, patient, seed)
    by_training = {
        name: [float(area_under_curve(row, test.malignant)[0]) for row in rows] for name, rows in logits.items()
    }
    counts = {name: len(lesson.malignant) for name, lesson in lessons.items()}
    return Usefulness(auc, difference, by_training, counts, logits, test.malignant, len(np.unique(patient)))


def auc_intervals(
    logits: Mapping[str, np.ndarray], malignant: np.ndarray, patient: np.ndarray, seed: int
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Mean AUC over the trainings ``(trainings, n)`` of each name, and how much it is above that of ``real``."""
    rng = np.random.default_rng(seed)
    weights = patient_bootstrap(patient, _BOOTSTRAPS, rng).astype(np.float64)
    means, drawn = {}, {}
    for name, rows in logits.items():
        means[name] = float(np.mean([area_under_curve(row, malignant) for row in rows]))
        trainings = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_BOOTSTRAPS)
        areas = np.stack([area_under_curve(row, malignant, weights) for row in rows], axis=1)
        drawn[name] = (areas * trainings).sum(1) / len(rows)
    auc = {name: _interval(means[name], drawn[name]) for name in logits}
    difference = {
        name: _interval(means[name] - means[REAL], drawn[name] - drawn[REAL]) for name in logits if name != REAL
    }
    return auc, difference


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def _made(classifier: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return classifier()
