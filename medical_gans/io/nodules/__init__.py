"""Lung nodules as patches in HU, from an npz, CT series with a table of positions, or LIDC-IDRI through pylidc."""

from medical_gans.io.nodules.archive import read_lung_patches
from medical_gans.io.nodules.patches import CLASSES, NodulePatches, require_classes, split_by_patient
from medical_gans.io.nodules.sources import read_nodules

__all__ = ["CLASSES", "NodulePatches", "read_lung_patches", "read_nodules", "require_classes", "split_by_patient"]
