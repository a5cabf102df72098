"""Tables of nodule positions in the form of LUNA16's annotations.csv."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medical_gans.errors import InputError
from medical_gans.io.formats import image_stem
from medical_gans.io.nodules.ct_patches import position_in_ras
from medical_gans.io.nodules.series import Marked
from medical_gans.io.tables import Row, columns_of, read_table
from medical_gans.io.volumes import Volume

COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ")
_NAMED = "annotations.csv"


def find_table(folder: Path) -> Path | None:
    """The table of positions in a folder: ``annotations.csv``, or the only CSV with its columns.

    Raises:
        InputError: several tables have the columns, and none is called annotations.csv.
    """
    places = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file())
    tables = [path for path in places if path.name.lower() == _NAMED or not _missing(path)]
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
    what = (
        f"A table of positions has {', '.join(COLUMNS)} in mm (LPS, as LUNA16), and malignancy and patient where known."
    )
    rows = read_table(table, COLUMNS, what)
    if not rows:
        raise InputError(f"{table} has columns but no nodules. Give at least one.")
    return [_marked(row) for row in rows]


def _marked(row: Row) -> Marked:
    series = image_stem(Path(row.text("seriesuid")))
    if not series:
        raise InputError(f"{row.where}: the seriesuid is empty. Correct the line.")
    position = [row.number(name) for name in COLUMNS[1:]]
    rating = row.number("malignancy", empty=0.0)
    if not (rating == 0 or 1 <= rating <= 5):
        raise InputError(f"{row.where}: malignancy is {rating:g}, out of range. Ratings are 1 to 5, and 0 for unknown.")
    return Marked(series, partial(_place, position), rating, row.text("patient") or None, row.where)


def _place(position: list[float], volume: Volume) -> NDArray[np.float64]:
    return position_in_ras(position, "LPS")


def _missing(table: Path) -> list[str]:
    """Columns that a table lacks."""
    header = columns_of(table, COLUMNS)
    return [name for name in COLUMNS if name.lower() not in header]
