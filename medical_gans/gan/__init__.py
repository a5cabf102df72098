"""Adversarial training of a generator from noise (Goodfellow et al. 2014; Chuquicusma et al. 2018 for lung nodules)."""

from medical_gans.gan.augmentation import DifferentiableAugmentation
from medical_gans.gan.step import AdversarialStep

__all__ = ["AdversarialStep", "DifferentiableAugmentation"]
