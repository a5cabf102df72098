"""What happens to images between a file and a network, as YAML names it. What needs MONAI is loaded on first use."""

from typing import TYPE_CHECKING

from medical_gans.faces import face
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

if TYPE_CHECKING:
    from medical_gans.transforms.acquisition import RandSensitivityd, RandThickSlicesd
    from medical_gans.transforms.brain import FindBraind, WithinBraind
    from medical_gans.transforms.contrast import RandConvolutionContrastd, RandPaintRegionsd
    from medical_gans.transforms.discriminator_augmentation import DifferentiableAugmentation
    from medical_gans.transforms.grid import ToGridd, resize_in_plane
    from medical_gans.transforms.intensity import DenoiseHounsfieldd, EncodeHounsfieldd, NormaliseMRd
    from medical_gans.transforms.painting import Painter
    from medical_gans.transforms.random_fields import RandomFields, Window
    from medical_gans.transforms.reading import ReadImaged
    from medical_gans.transforms.sequence_grid import ResizeToSpacingd, ToSourceGridd
    from medical_gans.transforms.sequence_volume import read_sequence_case
    from medical_gans.transforms.sequences import (
        FindForegroundd,
        NormaliseForegroundd,
        ReadSequencesd,
        WithinForegroundd,
    )
    from medical_gans.transforms.tissues import CtTissues, label_tissues

_HOME = {
    "CtTissues": "tissues",
    "DenoiseHounsfieldd": "intensity",
    "DifferentiableAugmentation": "discriminator_augmentation",
    "EncodeHounsfieldd": "intensity",
    "FindBraind": "brain",
    "FindForegroundd": "sequences",
    "NormaliseForegroundd": "sequences",
    "NormaliseMRd": "intensity",
    "Painter": "painting",
    "RandomFields": "random_fields",
    "RandConvolutionContrastd": "contrast",
    "RandPaintRegionsd": "contrast",
    "RandSensitivityd": "acquisition",
    "RandThickSlicesd": "acquisition",
    "ReadImaged": "reading",
    "ReadSequencesd": "sequences",
    "ResizeToSpacingd": "sequence_grid",
    "ToGridd": "grid",
    "ToSourceGridd": "sequence_grid",
    "Window": "random_fields",
    "WithinBraind": "brain",
    "WithinForegroundd": "sequences",
    "label_tissues": "tissues",
    "read_sequence_case": "sequence_volume",
    "resize_in_plane": "grid",
}

__all__ = [
    "AIR_HU",
    "HOUNSFIELD_KNOTS",
    "MR_CEILING",
    "CtTissues",
    "DenoiseHounsfieldd",
    "DifferentiableAugmentation",
    "EncodeHounsfieldd",
    "FindBraind",
    "FindForegroundd",
    "NormaliseForegroundd",
    "NormaliseMRd",
    "Painter",
    "RandConvolutionContrastd",
    "RandPaintRegionsd",
    "RandSensitivityd",
    "RandThickSlicesd",
    "RandomFields",
    "ReadImaged",
    "ReadSequencesd",
    "ResizeToSpacingd",
    "ToGridd",
    "ToSourceGridd",
    "Window",
    "WithinBraind",
    "WithinForegroundd",
    "body_mask",
    "hounsfield_to_unit",
    "label_tissues",
    "mr_reference_intensity",
    "normalise_mr",
    "read_sequence_case",
    "resize_in_plane",
    "unit_to_hounsfield",
    "unit_to_window",
    "window_to_unit",
]

__getattr__, __dir__ = face(__name__, _HOME)
