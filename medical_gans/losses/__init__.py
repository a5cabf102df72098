"""Losses as pure functions of tensors: adversarial objectives, gradient penalties, structure terms."""

from medical_gans.losses.adversarial import AdversarialObjective, adversarial_objective, fooling_loss, judging_loss
from medical_gans.losses.bone import bone_terms, nearest_shift, tissue_cross_entropy, weighted_l1
from medical_gans.losses.f_divergence import F_DIVERGENCES, FDivergence
from medical_gans.losses.penalties import (
    R1,
    R1R2,
    GradientPenalty,
    Penalty,
    consensus_regulariser,
    discriminator_penalty,
    gradient_penalty,
    r1_penalty,
    r2_penalty,
)
from medical_gans.losses.structure import gradient_correlation_loss, mind_descriptor, mind_loss, structure_loss

__all__ = [
    "F_DIVERGENCES",
    "R1",
    "R1R2",
    "AdversarialObjective",
    "FDivergence",
    "GradientPenalty",
    "Penalty",
    "adversarial_objective",
    "bone_terms",
    "consensus_regulariser",
    "discriminator_penalty",
    "fooling_loss",
    "gradient_correlation_loss",
    "gradient_penalty",
    "judging_loss",
    "mind_descriptor",
    "mind_loss",
    "nearest_shift",
    "r1_penalty",
    "r2_penalty",
    "structure_loss",
    "tissue_cross_entropy",
    "weighted_l1",
]
