"""Whole-volume inference, of one case or a cohort."""

from medical_gans.inference.synthesis.generators import (
    TrainedGenerators,
    load_generators,
    training_card,
    translation_card,
)
from medical_gans.inference.synthesis.one_case import CaseEvaluator, DicomOutput
from medical_gans.inference.synthesis.volume import (
    SliceSynthesis,
    SynthesisInferer,
    SyntheticCT,
    translation_preprocessing,
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
