"""Masks to and from DICOM: structure sets (RTSTRUCT) and segmentations (SEG)."""

from medical_gans.io.dicom_contours.carrying import carry_structure_set, find_structure_sets
from medical_gans.io.dicom_contours.masks import dicom_structure_names, read_dicom_structure
from medical_gans.io.dicom_contours.segmentations import read_segmentation, write_segmentation
from medical_gans.io.dicom_contours.structure_sets import (
    Structure,
    StructureVolume,
    read_structure_set,
    structure_from_mask,
    structure_mask,
    write_structure_set,
)

__all__ = [
    "Structure",
    "StructureVolume",
    "carry_structure_set",
    "dicom_structure_names",
    "find_structure_sets",
    "read_dicom_structure",
    "read_segmentation",
    "read_structure_set",
    "structure_from_mask",
    "structure_mask",
    "write_segmentation",
    "write_structure_set",
]
