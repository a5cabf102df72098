"""Whole-volume inference, one case or a cohort."""

from medical_gans.synthesis.volume import SliceSynthesis, SyntheticCT

__all__ = ["SliceSynthesis", "SyntheticCT"]
