"""Files in, files out. The names below are loaded on first use: `import medical_gans.io` costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "cases": ("Case", "TrainingCases", "find_cases", "find_training_cases"),
    "dicom.series": ("SeriesSummary", "list_series", "read_series"),
    "nodules": (
        "CLASSES",
        "NodulePatches",
        "read_lung_patches",
        "read_nodules",
        "require_classes",
        "split_by_patient",
    ),
    "volumes": ("Volume", "aligned_to", "check_same_grid", "read_label_map", "read_mask", "read_volume", "save_volume"),
    "writing": ("check_writable", "whole_file", "whole_folder"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
