"""Whole-volume inference, of one case or a cohort."""

from medical_gans.inference.synthesis.cohort import CaseEvaluator
from medical_gans.inference.synthesis.dicom_output import DicomOutput
from medical_gans.inference.synthesis.volume import (
    SliceSynthesis,
    SynthesisInferer,
    SyntheticCT,
    translation_preprocessing,
)
from medical_gans.inference.synthesis.weights import (
    TrainedGenerators,
    load_generators,
    training_card,
    translation_card,
)

__all__ = [
    "CaseEvaluator",
    "DicomOutput",
    "SliceSynthesis",
    "SynthesisInferer",
    "SyntheticCT",
    "TrainedGenerators",
    "load_generators",
    "training_card",
    "translation_card",
    "translation_preprocessing",
]
