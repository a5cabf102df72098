"""Tables of nodule positions in the form of LUNA16's annotations.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medical_gans.errors import InputError
from medical_gans.io.nodules.ct_patches import position_in_ras
from medical_gans.io.nodules.series import Marked
from medical_gans.io.volumes import Volume

COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ")
_NAMED = "annotations.csv"


def find_table(folder: Path) -> Path | None:
    """The table of positions in a folder: ``annotations.csv``, or the only CSV with its columns.

    Raises:
        InputError: several tables have the columns, and none is called annotations.csv.
    """
    tables = [path for path in sorted(folder.glob("*.csv")) if not _missing(path)]
    named = [path for path in tables if path.name.lower() == _NAMED]
    if len(tables) > 1 and not named:
        raise InputError(
            f"{folder} holds {len(tables)} tables of positions ({', '.join(path.name for path in tables)}). "
            f"Give the path of one as dataset_dir, or call it {_NAMED}."
        )
    return next(iter(named or tables), None)


def read_positions(table: Path) -> list[Marked]:
    """Nodules of a table with the columns `COLUMNS`; malignancy (1 to 5, 0 or empty: unknown) and patient are optional.

    Coordinates are LPS world mm, as in LUNA16 and ITK.

    Raises:
        InputError: columns are missing, a line is no number, or the table is empty.
    """
    if missing := _missing(table):
        raise InputError(
            f"{table} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. A table of positions has "
            f"{', '.join(COLUMNS)} in mm (LPS, as LUNA16), and malignancy and patient where known."
        )
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = [
            {name.strip().lower(): (value or "").strip() for name, value in row.items() if name is not None}
            for row in csv.DictReader(stream)
        ]
    if not rows:
        raise InputError(f"{table} has columns but no nodules. Give at least one.")
    return [_marked(row, f"{table.name}, line {number}") for number, row in enumerate(rows, start=2)]


def _marked(row: Mapping[str, str], where: str) -> Marked:
    try:
        position = [float(row[name.lower()]) for name in COLUMNS[1:]]
        rating = float(row.get("malignancy") or 0)
    except ValueError as error:
        raise InputError(f"{where}: coordinates and malignancy must be numbers.") from error
    if not all(math.isfinite(value) for value in (*position, rating)) or not row["seriesuid"]:
        raise InputError(f"{where}: the seriesuid is empty, or a coordinate is not finite. Correct the line.")
    if not (rating == 0 or 1 <= rating <= 5):
        raise InputError(f"{where}: malignancy is {rating:g}, out of range. Ratings are 1 to 5, and 0 for unknown.")
    return Marked(row["seriesuid"], partial(_place, position), rating, row.get("patient") or None, where)


def _place(position: list[float], volume: Volume) -> NDArray[np.float64]:
    return position_in_ras(position, "LPS")


def _missing(table: Path) -> list[str]:
    """Columns that a table lacks."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            header = {name.strip().lower() for name in next(csv.reader(stream), [])}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as CSV. Save it as comma-separated text.") from error
    return [name for name in COLUMNS if name.lower() not in header]
