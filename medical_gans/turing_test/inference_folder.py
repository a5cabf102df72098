"""Generated nodules from the output folder of an inference run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.nodules import CLASSES
from medical_gans.io.nodules.patch_files import read_patch
from medical_gans.turing_test.nodules import StudyNodules, as_slices, counts_by_label

TABLE = "samples.csv"


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
    rows = _rows(Path(folder))
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
    found = [read_patch(Path(folder) / rows[index]["file"]) for index in chosen]
    grids = {(array.shape, tuple(np.round(spacing, 4))) for array, spacing in found}
    if len(grids) > 1:
        raise InputError(f"The nodules in {folder} differ in size or spacing. Give those of one inference run.")
    spacing = found[0][1]
    return StudyNodules(
        as_slices(np.rint([array for array, _ in found]).astype(np.int16)),
        [str(name) for name in classes[chosen]],
        [rows[index]["file"] for index in chosen],
        (spacing[0], spacing[1]),
    )


def _rows(folder: Path) -> list[dict[str, str]]:
    table = folder / TABLE
    if not table.is_file():
        raise InputError(f"{folder} holds no {TABLE}. Give the output_dir of lung_nodule inference.")
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "class"} <= set(rows[0]):
        raise InputError(f"{table} lists no nodules with file and class. Run lung_nodule inference again.")
    return rows
