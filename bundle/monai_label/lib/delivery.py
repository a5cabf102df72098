"""A volume in the format that a client asks for: the same voxels, the same grid."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from medical_gans.errors import SettingError
from medical_gans.io.formats import lps_to_ras

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def deliver(made: Path, suffix: str, name: str) -> str:
    """Copy a .nii.gz file to a temporary one, which MONAI Label sends and deletes.

    Args:
        made: the volume.
        suffix: of the copy.
        name: how the copy's name begins.

    Raises:
        SettingError: the suffix is none of those known.
    """
    if suffix not in _SUFFIXES:
        raise SettingError(f"result_extension is {suffix!r}; choose {', '.join(_SUFFIXES)}.")
    handle, target = tempfile.mkstemp(prefix=f"{name}_", suffix=suffix)
    os.close(handle)
    if suffix == ".nii.gz":
        shutil.copyfile(made, target)
    elif suffix == ".nii":
        with gzip.open(made) as packed, open(target, "wb") as plain:
            shutil.copyfileobj(packed, plain)
    else:
        sitk.WriteImage(_as_itk(made), target, useCompression=True)
    return target


def _as_itk(made: Path) -> sitk.Image:
    """Not by ITK's own reader, which refuses the affine of a tilted stack."""
    image = nibabel.load(made)
    stored = sitk.GetImageFromArray(np.asarray(image.dataobj).T)  # type: ignore[attr-defined]
    affine = lps_to_ras(image.affine)  # type: ignore[attr-defined]  # the way back is the same
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    stored.SetSpacing(spacing.tolist())
    stored.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    stored.SetOrigin(affine[:3, 3].tolist())
    return stored
