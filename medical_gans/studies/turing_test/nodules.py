"""Which nodules a study shows: real ones of test patients, as many generated ones of each class, no telling trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.nodules.sampling import NoduleSampler
from medical_gans.io.nodules import CLASSES, NodulePatches
from medical_gans.io.nodules.patch_files import read_samples, read_samples_table

MALIGNANCIES = {"both": (0, 1), "benign": (0,), "malignant": (1,), "any": (None,)}
"""Setting -> labels in equal numbers; None stands for benign or malignant as it comes."""

_SAME_MM = 1e-3


@dataclass(frozen=True, eq=False)
class StudyNodules:
    """Nodules of one kind, real or generated.

    Attributes:
        hounsfield: ``(n, rows, columns)`` int16.
        malignancy: n names of classes, ``unknown`` for a generator without classes.
        source: n names under which each nodule is found, or made, again.
        spacing: mm along rows and columns.
    """

    hounsfield: np.ndarray
    malignancy: Sequence[str]
    source: Sequence[str]
    spacing: tuple[float, float]

    def __len__(self) -> int:
        return len(self.hounsfield)


def counts_by_label(number: int, malignancy: str) -> dict[int | None, int]:
    """How many nodules of each label make `number`, in equal parts; a first class gets one left over.

    Raises:
        SettingError: the name is unknown, or there are fewer nodules than classes.
    """
    if malignancy not in MALIGNANCIES:
        raise SettingError(f"malignancy is {malignancy!r}; choose {', '.join(MALIGNANCIES)}.")
    labels = MALIGNANCIES[malignancy]
    if number < len(labels):
        raise SettingError(f"A study needs at least {len(labels)} real and {len(labels)} generated nodules.")
    return {label: (number + len(labels) - 1 - place) // len(labels) for place, label in enumerate(labels)}


def choose_real(patches: NodulePatches, number: int, malignancy: str, rng: np.random.Generator) -> StudyNodules:
    """Draw real nodules, from as many patients as possible.

    Args:
        patches: of the patients that the generator never saw.
        number: of nodules.
        malignancy: see `MALIGNANCIES`.
        rng: draws.

    Raises:
        InputError: there are too few nodules of a class.
        SettingError: see `counts_by_label`.
    """
    chosen: list[int] = []
    for label, count in counts_by_label(number, malignancy).items():
        wanted = np.isin(patches.label, (0, 1)) if label is None else patches.label == label
        candidates = rng.permutation(np.flatnonzero(wanted))
        if len(candidates) < count:
            kind = "rated" if label is None else CLASSES[label]
            raise InputError(
                f"The study needs {count} {kind} nodules, but the chosen patients have {len(candidates)}. "
                "Set num_real lower, or split=all where the generator was not trained on these patients."
            )
        chosen += _from_most_patients(candidates, patches.patient, {str(patches.patient[i]) for i in chosen}, count)
    picked = patches.select(chosen)
    return StudyNodules(
        as_slices(picked.hounsfield),
        [CLASSES[label] for label in picked.label],
        [str(name) for name in picked.name],
        (float(picked.spacing[0]), float(picked.spacing[1])),
    )


def generate(
    sampler: NoduleSampler, number: int, malignancy: str, rng: np.random.Generator, truncation: float | None = None
) -> StudyNodules:
    """Make nodules with a trained generator.

    Args:
        sampler: the generator.
        number: of nodules.
        malignancy: see `MALIGNANCIES`; a generator without classes takes ``any`` only.
        rng: draws the latent seeds.
        truncation: see `NoduleSampler.latent`.

    Raises:
        SettingError: the generator has no such class.
    """
    if malignancy != "any" and not sampler.classes:
        raise SettingError(
            f"malignancy is {malignancy!r}, but the generator was trained without classes. Set malignancy to any."
        )
    names: list[str] = []
    for label, count in counts_by_label(number, malignancy).items():
        if label is not None:
            names += [CLASSES[label]] * count
        else:
            names += [str(name) for name in rng.choice(CLASSES[:2], count)] if sampler.classes else ["unknown"] * count
    seeds = [int(seed) for seed in rng.integers(2**62, size=number)]
    labels = [sampler.label_of(name) if sampler.classes else None for name in names]
    return StudyNodules(
        as_slices(sampler.generate(seeds, labels, truncation)),
        names,
        [f"seed {seed}" for seed in seeds],
        (float(sampler.spacing[0]), float(sampler.spacing[1])),
    )


def check_alike(real: StudyNodules, generated: StudyNodules) -> None:
    """Refuse nodules that a reader could tell apart by their frame.

    Raises:
        InputError: they differ in size or spacing, the spacing is not known, or one nodule is there twice.
    """
    if not np.isfinite(real.spacing).all():
        raise InputError("The voxel size of the real nodules is not known. Set spacing to that of the generator.")
    sizes = real.hounsfield.shape[1:], generated.hounsfield.shape[1:]
    if sizes[0] != sizes[1] or not np.allclose(real.spacing, generated.spacing, rtol=0, atol=_SAME_MM):
        described = [
            f"{size[0]} x {size[1]} pixels of {spacing[0]:g} x {spacing[1]:g} mm"
            for size, spacing in zip(sizes, (real.spacing, generated.spacing), strict=True)
        ]
        raise InputError(
            f"Real nodules have {described[0]} but generated ones {described[1]}: readers would see it. "
            "Set size and spacing to those of the generator."
        )
    both = np.concatenate([real.hounsfield, generated.hounsfield])
    if len(np.unique(both.reshape(len(both), -1), axis=0)) < len(both):
        raise InputError("Two nodules of the study are the same image, which readers would notice. Give others.")


def _from_most_patients(candidates: np.ndarray, patient: np.ndarray, used: set[str], count: int) -> list[int]:
    """The first candidate of each patient not yet used, then whoever comes."""
    first: list[int] = []
    further: list[int] = []
    for index in candidates:
        name = str(patient[index])
        (further if name in used else first).append(int(index))
        used.add(name)
    return (first + further)[:count]


def as_slices(hounsfield: np.ndarray) -> np.ndarray:
    """Patches ``(n, rows, columns)``; of cubes the middle slice."""
    return hounsfield if hounsfield.ndim == 3 else hounsfield[..., hounsfield.shape[3] // 2]


def choose_generated(folder: str | Path, number: int, malignancy: str, rng: np.random.Generator) -> StudyNodules:
    """Draw nodules from those that an inference run wrote: NIfTI files, and their classes in ``samples.csv``.

    Args:
        folder: output folder of the run.
        number: of nodules.
        malignancy: see `nodules.MALIGNANCIES`.
        rng: draws.

    Raises:
        InputError: the folder or its table is missing, a nodule cannot be read, their grids differ, or there are too
            few of a class.
        SettingError: see `nodules.counts_by_label`.
    """
    rows = read_samples_table(folder)
    classes = np.array([row["class"] if row["class"] in CLASSES else "unknown" for row in rows])
    chosen: list[int] = []
    for label, count in counts_by_label(number, malignancy).items():
        wanted = classes != CLASSES[2] if label is None else classes == CLASSES[label]
        candidates = np.flatnonzero(wanted)
        if len(candidates) < count:
            kind = "" if label is None else f"{CLASSES[label]} "
            raise InputError(
                f"The study needs {count} generated {kind}nodules, but {folder} has {len(candidates)}. "
                "Set num_generated lower, or generate more."
            )
        chosen += rng.permutation(candidates)[:count].tolist()
    files = [rows[index]["file"] for index in chosen]
    hounsfield, spacing = read_samples(folder, files)
    return StudyNodules(
        as_slices(np.rint(hounsfield).astype(np.int16)),
        [str(name) for name in classes[chosen]],
        files,
        (spacing[0], spacing[1]),
    )


_TELLING = 0.85
"""AUC of a single trace from which on the study is about it."""
_CHANCE = 0.001


def telling_artefacts(real: np.ndarray, generated: np.ndarray) -> list[str]:
    """Sentences on each trace by which alone most images can be told apart.

    Args:
        real: ``(n, rows, columns)`` grey values as the page shows them.
        generated: the same.
    """
    sentences = []
    found_in_generated = _traces(generated)
    for name, values in _traces(real).items():
        test = mannwhitneyu(values, found_in_generated[name])
        wins = test.statistic / (len(real) * len(generated))
        auc = max(wins, 1 - wins)
        if auc >= _TELLING and test.pvalue < _CHANCE:
            sentences.append(
                f"Real and generated images can be told apart by {name} alone (AUC {auc:.2f}). Readers may see it: "
                "improve the generator before they spend their time."
            )
    return sentences


def _traces(grey: np.ndarray) -> dict[str, np.ndarray]:
    """One number per image for each trace."""
    images = grey.astype(np.float64)
    across, down = np.abs(np.diff(images, axis=2)), np.abs(np.diff(images, axis=1))
    at_edge = sum(one.mean(axis=1) for one in (across[:, :, 0], across[:, :, -1], down[:, 0], down[:, -1])) / 4
    inside = (across.mean(axis=(1, 2)) + down.mean(axis=(1, 2))) / 2
    bends = [np.abs(np.diff(images, n=2, axis=axis)) for axis in (2, 1)]
    even = bends[0][:, :, ::2].mean(axis=(1, 2)) + bends[1][:, ::2].mean(axis=(1, 2))
    odd = bends[0][:, :, 1::2].mean(axis=(1, 2)) + bends[1][:, 1::2].mean(axis=(1, 2))
    return {
        "a frame along the edge": (at_edge + 1) / (inside + 1),
        "a grid of every second pixel": (even + 1) / (odd + 1),
        "fine noise": (bends[0].mean(axis=(1, 2)) + 1) / (inside + 1),
        "black of the window": (grey == 0).mean(axis=(1, 2)),
        "white of the window": (grey == 255).mean(axis=(1, 2)),
    }
