"""What happens to images between a file and a network, as YAML names it. What needs MONAI is loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medical_gans.transforms.augmentation import translation_augmentation
from medical_gans.transforms.grid import resize_in_plane
from medical_gans.transforms.intensity import (
    AIR_HU,
    HOUNSFIELD_KNOTS,
    MR_CEILING,
    body_mask,
    hounsfield_to_unit,
    mr_reference_intensity,
    normalise_mr,
    unit_to_hounsfield,
    unit_to_window,
    window_to_unit,
)
from medical_gans.transforms.painting import Painter
from medical_gans.transforms.random_fields import RandomFields, Window
from medical_gans.transforms.tissues import CtTissues, label_tissues

if TYPE_CHECKING:
    from medical_gans.transforms.sequence_grid import ResizeToSpacingd, ToSourceGridd
    from medical_gans.transforms.sequences import (
        FindForegroundd,
        NormaliseForegroundd,
        ReadSequencesd,
        WithinForegroundd,
        read_sequence_case,
    )

_HOME = {
    "FindForegroundd": "sequences",
    "NormaliseForegroundd": "sequences",
    "ReadSequencesd": "sequences",
    "ResizeToSpacingd": "sequence_grid",
    "ToSourceGridd": "sequence_grid",
    "WithinForegroundd": "sequences",
    "read_sequence_case": "sequences",
}

__all__ = [
    "AIR_HU",
    "HOUNSFIELD_KNOTS",
    "MR_CEILING",
    "CtTissues",
    "FindForegroundd",
    "NormaliseForegroundd",
    "Painter",
    "RandomFields",
    "ReadSequencesd",
    "ResizeToSpacingd",
    "ToSourceGridd",
    "Window",
    "WithinForegroundd",
    "body_mask",
    "hounsfield_to_unit",
    "label_tissues",
    "mr_reference_intensity",
    "normalise_mr",
    "read_sequence_case",
    "resize_in_plane",
    "translation_augmentation",
    "unit_to_hounsfield",
    "unit_to_window",
    "window_to_unit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
