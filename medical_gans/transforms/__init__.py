"""What happens to images between a file and a network, as YAML names it."""

from medical_gans.transforms.augmentation import translation_augmentation
from medical_gans.transforms.discriminator_augmentation import DifferentiableAugmentation
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

__all__ = [
    "AIR_HU",
    "HOUNSFIELD_KNOTS",
    "MR_CEILING",
    "CtTissues",
    "DifferentiableAugmentation",
    "Painter",
    "RandomFields",
    "Window",
    "body_mask",
    "hounsfield_to_unit",
    "label_tissues",
    "mr_reference_intensity",
    "normalise_mr",
    "resize_in_plane",
    "translation_augmentation",
    "unit_to_hounsfield",
    "unit_to_window",
    "window_to_unit",
]
