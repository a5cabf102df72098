"""A segmenter that adapts to a new scanner without its labels (Kamnitsas et al. 2017)."""

from medical_gans.adaptation.step import AdaptationStep, ramp
from medical_gans.adaptation.taps import FeatureTaps, domain_discriminator, feature_channels

__all__ = ["AdaptationStep", "FeatureTaps", "domain_discriminator", "feature_channels", "ramp"]
