"""Files in, files out. The names below are loaded on first use: `import medical_gans.io` costs nothing."""

from typing import TYPE_CHECKING

from medical_gans.faces import face

if TYPE_CHECKING:
    from medical_gans.io.cases import Case, TrainingCases, find_cases, find_training_cases
    from medical_gans.io.dicom.series import SeriesSummary, list_series, read_series
    from medical_gans.io.nodules import (
        CLASSES,
        NodulePatches,
        read_lung_patches,
        read_nodules,
        require_classes,
        split_by_patient,
    )
    from medical_gans.io.volumes import (
        Volume,
        aligned_to,
        check_same_grid,
        read_label_map,
        read_mask,
        read_volume,
        save_volume,
    )
    from medical_gans.io.writing import check_writable, whole_file, whole_folder

_HOME = {
    "CLASSES": "nodules",
    "Case": "cases",
    "NodulePatches": "nodules",
    "SeriesSummary": "dicom.series",
    "TrainingCases": "cases",
    "Volume": "volumes",
    "aligned_to": "volumes",
    "check_same_grid": "volumes",
    "check_writable": "writing",
    "find_cases": "cases",
    "find_training_cases": "cases",
    "list_series": "dicom.series",
    "read_label_map": "volumes",
    "read_lung_patches": "nodules",
    "read_mask": "volumes",
    "read_nodules": "nodules",
    "read_series": "dicom.series",
    "read_volume": "volumes",
    "require_classes": "nodules",
    "save_volume": "volumes",
    "split_by_patient": "nodules",
    "whole_file": "writing",
    "whole_folder": "writing",
}

__all__ = [
    "CLASSES",
    "Case",
    "NodulePatches",
    "SeriesSummary",
    "TrainingCases",
    "Volume",
    "aligned_to",
    "check_same_grid",
    "check_writable",
    "find_cases",
    "find_training_cases",
    "list_series",
    "read_label_map",
    "read_lung_patches",
    "read_mask",
    "read_nodules",
    "read_series",
    "read_volume",
    "require_classes",
    "save_volume",
    "split_by_patient",
    "whole_file",
    "whole_folder",
]

__getattr__, __dir__ = face(__name__, _HOME)
