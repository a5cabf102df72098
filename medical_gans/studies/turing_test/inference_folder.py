"""Generated nodules from the output folder of an inference run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.nodules import CLASSES
from medical_gans.io.nodules.generated import read_samples, read_samples_table
from medical_gans.studies.turing_test.nodules import StudyNodules, as_slices, counts_by_label


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
