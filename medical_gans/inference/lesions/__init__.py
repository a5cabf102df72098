"""Lesions found in whole volumes: label map, table and pictures, of one case or a cohort."""

from medical_gans.inference.lesions.cohort import LesionEvaluator
from medical_gans.inference.lesions.dicom_output import LesionDicom
from medical_gans.inference.lesions.lesions import larger_lesions, lesion_table
from medical_gans.inference.lesions.segmentation import (
    LesionSegmentation,
    Segmented,
    TrainedSegmenter,
    fitting_window,
    load_segmenter,
)
from medical_gans.inference.lesions.translation import SequenceTranslator

__all__ = [
    "LesionDicom",
    "LesionEvaluator",
    "LesionSegmentation",
    "Segmented",
    "SequenceTranslator",
    "TrainedSegmenter",
    "fitting_window",
    "larger_lesions",
    "lesion_table",
    "load_segmenter",
]
