"""A gate for synthetic CTs without a true CT: traffic lights that say how usual an image is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medical_gans.checks.quality.gate import QualityGate, Verdict
from medical_gans.checks.quality.limits import QualityLimits
from medical_gans.checks.quality.measuring import measure_limits
from medical_gans.checks.quality.realism import RealismCritic

__all__ = ["QualityGate", "QualityLimits", "RealismCritic", "Verdict", "load_gate", "measure_limits"]


def load_gate(weights: str | Path | Sequence[str | Path]) -> QualityGate:
    """The gate of a weights file; of the first one where several are averaged.

    Raises:
        InputError: the limits or the critic beside the weights are damaged.
    """
    first = weights if isinstance(weights, str | Path) else next(iter(weights), "")
    return QualityGate.beside(Path(first))
