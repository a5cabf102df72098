"""Patches as NIfTI files, in an orientation in which viewers show them as they were in the CT.

One by one, or all that an inference run of lung_nodule left: nodules, and their classes in ``samples.csv``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medical_gans.errors import InputError
from medical_gans.io.formats import check_spacing
from medical_gans.io.tables import read_table
from medical_gans.io.volumes import save_volume


def save_patch(path: str | os.PathLike[str], hounsfield: np.ndarray, spacing: Sequence[float]) -> Path:
    """Write a patch as int16 NIfTI ``(columns, rows, slices)`` with the affine diag(-spacing, -spacing, spacing).

    Args:
        path: file ending in .nii.gz or .nii.
        hounsfield: ``(rows, columns)``, stored as one slice as thick as its pixels are wide, or
            ``(rows, columns, slices)``.
        spacing: mm along the axes of the patch.

    Raises:
        OutputError: it cannot be written.
    """
    volume = hounsfield[..., None] if hounsfield.ndim == 2 else hounsfield
    row, column, thickness = spacing if len(spacing) == 3 else (*spacing, spacing[1])
    affine = np.diag([-column, -row, thickness, 1.0])
    return save_volume(path, np.ascontiguousarray(volume.transpose(1, 0, 2)).astype(np.int16), affine)


def read_patch(path: str | os.PathLike[str]) -> tuple[np.ndarray, tuple[float, ...]]:
    """Read a patch that `save_patch` wrote, or any NIfTI of one in its orientation.

    Returns:
        HU ``(rows, columns)`` where there is one slice, else ``(rows, columns, slices)``, and mm along these axes.

    Raises:
        InputError: the file is missing or damaged, lies otherwise, or holds no HU.
    """
    import nibabel as nib

    place = Path(path)
    try:
        image: Any = nib.load(place)
        array, affine = np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel raises what its many readers raise
        raise InputError(
            f"{place} cannot be read as the NIfTI of a patch. Give a nodule of lung_nodule inference."
        ) from error
    if array.ndim != 3 or min(array.shape[:2]) < 8:
        raise InputError(f"{place} has the shape {array.shape}; (columns, rows, slices) of at least 8 x 8 is needed.")
    if not np.isfinite(array).all() or array.min() >= 0:
        raise InputError(f"{place} is no patch in HU: lung is near -800. Give a nodule of lung_nodule inference.")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    check_spacing(spacing, place)
    if np.abs(affine[:3, :3] - np.diag(spacing * (-1, -1, 1))).max() > 1e-3 * spacing.max():
        raise InputError(
            f"{place} does not lie as patches do (columns to the patient's left, rows to the back, slices upward). "
            "Give a nodule of lung_nodule inference, or one reoriented to LPS."
        )
    patch = array.transpose(1, 0, 2)
    column, row, thickness = (float(edge) for edge in spacing)
    return (patch[..., 0], (row, column)) if patch.shape[2] == 1 else (patch, (row, column, thickness))


_TABLE = "samples.csv"


def read_samples_table(folder: str | Path) -> list[dict[str, str]]:
    """The rows of the table: ``file`` (below the folder), ``class``, and more.

    Raises:
        InputError: there is no table, or it lists no nodules.
    """
    table = Path(folder) / _TABLE
    if not table.is_file():
        raise InputError(f"{folder} holds no {_TABLE}. Give the output_dir of lung_nodule inference.")
    what = "It lists nodules with file and class, as lung_nodule inference writes it."
    rows = read_table(table, ("file", "class"), what)
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
