"""Figures by which the weights of a run are chosen."""

from medical_gans.validation.generation import GenerationValidation, generation_validation
from medical_gans.validation.translation import TranslationValidation, translation_validation

__all__ = ["GenerationValidation", "TranslationValidation", "generation_validation", "translation_validation"]
