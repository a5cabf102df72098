"""Lesions found in whole volumes: label map, table and pictures, of one case or a cohort."""

from medical_gans.inference.lesions.cohort import LesionEvaluator
from medical_gans.inference.lesions.dicom_output import LesionDicom
from medical_gans.inference.lesions.lesions import larger_lesions, lesion_table
from medical_gans.inference.lesions.predictor import LesionSegmentation, label_map
from medical_gans.inference.lesions.weights import TrainedSegmenter, load_segmenter

__all__ = [
    "LesionDicom",
    "LesionEvaluator",
    "LesionSegmentation",
    "TrainedSegmenter",
    "label_map",
    "larger_lesions",
    "lesion_table",
    "load_segmenter",
]
