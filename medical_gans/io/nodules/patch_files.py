"""One patch as a NIfTI file, in an orientation in which viewers show it as it was in the CT."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.grid import check_spacing
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
