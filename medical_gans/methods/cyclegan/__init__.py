"""MR to CT by CycleGAN on unpaired data (Wolterink et al. 2017), and its paired rival (Isola et al. 2017).

Both are a *step*: an object that holds networks and optimisers, takes a batch
``{"mr": (batch, channel, *spatial), "ct": ...}`` in unit space, updates everything once and says how it went. Files,
epochs and configs are the business of others. `SequenceTranslation` is the same between two sets of MR sequences.
"""

from medical_gans.methods.cyclegan.image_pool import ImagePool
from medical_gans.methods.cyclegan.painted import PaintedTranslation
from medical_gans.methods.cyclegan.sequences import SequenceTranslation, SequenceTranslator
from medical_gans.methods.cyclegan.step import TranslationStep
from medical_gans.methods.cyclegan.translation import CycleGan, PairedTranslation, translation_step

__all__ = [
    "CycleGan",
    "ImagePool",
    "PaintedTranslation",
    "PairedTranslation",
    "SequenceTranslation",
    "SequenceTranslator",
    "TranslationStep",
    "translation_step",
]
