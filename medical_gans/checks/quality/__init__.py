"""A gate for synthetic CTs without a true CT: traffic lights that say how usual an image is."""

from __future__ import annotations

from medical_gans.checks.quality.critic_training import CtSlices, train_critic
from medical_gans.checks.quality.gate import QualityGate, Verdict, load_gate
from medical_gans.checks.quality.limits import QualityLimits
from medical_gans.checks.quality.measuring import measure_limits
from medical_gans.checks.quality.realism import RealismCritic

__all__ = [
    "CtSlices",
    "QualityGate",
    "QualityLimits",
    "RealismCritic",
    "Verdict",
    "load_gate",
    "measure_limits",
    "train_critic",
]
