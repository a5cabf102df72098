"""What an inference run of lung_nodule leaves: nodules as NIfTI files, and their classes in ``samples.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medical_gans.errors import InputError
from medical_gans.io.nodules.patch_files import read_patch
from medical_gans.io.tables import read_table

_TABLE = "samples.csv"


def read_samples_table(folder: str | Path) -> list[dict[str, str]]:
    """The rows of the table: ``file`` (below the folder), ``class``, and more.

    Raises:
        InputError: there is no table, or it lists no nodules.
    """
    table = Path(folder) / _TABLE
    if not table.is_file():
        raise InputError(f"{folder} holds no {_TABLE}. Give the output_dir of lung_nodule inference.")
    rows = read_table(table, ("file", "class"), "Run lung_nodule inference again.")
    if not rows:
        raise InputError(f"{table} lists no nodules with file and class. Run lung_nodule inference again.")
    return [dict(row.cells) for row in rows]


def read_samples(folder: str | Path, files: Sequence[str]) -> tuple[np.ndarray, tuple[float, ...]]:
    """Those nodules in HU, ``(n, *spatial)``, and their spacing in mm.

    Raises:
        InputError: a nodule cannot be read, or their grids differ.
    """
    found = [read_patch(Path(folder) / file) for file in tqdm(files, desc="generated nodules", leave=False)]
    grids = {(array.shape, tuple(np.round(spacing, 4))) for array, spacing in found}
    if len(grids) > 1:
        raise InputError(f"The nodules in {folder} differ in size or spacing. Give those of one inference run.")
    return np.stack([array for array, _ in found]), found[0][1]
