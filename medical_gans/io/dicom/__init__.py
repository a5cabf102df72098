"""DICOM in and out: strict intake, CT series, segmentations, structure sets, sending. Names are loaded on first use."""

from typing import TYPE_CHECKING

from medical_gans.faces import face

if TYPE_CHECKING:
    from medical_gans.io.dicom.attributes import check_source
    from medical_gans.io.dicom.carrying import carry_structure_set, find_structure_sets
    from medical_gans.io.dicom.ct import CtSeries, write_ct_series
    from medical_gans.io.dicom.masks import dicom_structure_names, read_dicom_structure
    from medical_gans.io.dicom.segmentation import read_segmentation, write_segmentation
    from medical_gans.io.dicom.series import SeriesSummary, list_series, read_series
    from medical_gans.io.dicom.structure_set import (
        Structure,
        StructureVolume,
        read_structure_set,
        structure_from_mask,
        structure_mask,
        write_structure_set,
    )
    from medical_gans.io.dicom.uids import NewUIDs

_HOME = {
    "CtSeries": "ct",
    "NewUIDs": "uids",
    "SeriesSummary": "series",
    "Structure": "structure_set",
    "StructureVolume": "structure_set",
    "carry_structure_set": "carrying",
    "check_source": "attributes",
    "dicom_structure_names": "masks",
    "find_structure_sets": "carrying",
    "list_series": "series",
    "read_dicom_structure": "masks",
    "read_segmentation": "segmentation",
    "read_series": "series",
    "read_structure_set": "structure_set",
    "structure_from_mask": "structure_set",
    "structure_mask": "structure_set",
    "write_ct_series": "ct",
    "write_segmentation": "segmentation",
    "write_structure_set": "structure_set",
}

__all__ = [
    "CtSeries",
    "NewUIDs",
    "SeriesSummary",
    "Structure",
    "StructureVolume",
    "carry_structure_set",
    "check_source",
    "dicom_structure_names",
    "find_structure_sets",
    "list_series",
    "read_dicom_structure",
    "read_segmentation",
    "read_series",
    "read_structure_set",
    "structure_from_mask",
    "structure_mask",
    "write_ct_series",
    "write_segmentation",
    "write_structure_set",
]

__getattr__, __dir__ = face(__name__, _HOME)
