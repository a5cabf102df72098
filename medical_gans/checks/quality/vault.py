"""Checks of the skull and what it holds: holes, thickness, bone in the brain, a brain without spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medical_gans.checks.quality.checks import AMBER, GREEN, GREY, RED, Check
from medical_gans.metrics.vault import measure_vault

VAULT_LIMITS: Mapping[str, tuple[float, float, float, float]] = {
    "vault_closed": (0.95, 0.985, 1.0, 1.0),
    "vault_thickness_mm": (3.5, 5.0, 11.0, 14.0),
    "vault_largest_hu": (700.0, 900.0, 1500.0, 1900.0),
    "inner_bone": (0.0, 0.0, 0.002, 0.01),
    "brain_spread_hu": (2.0, 5.0, 20.0, 35.0),
}
"""[red below, amber below, amber above, red above]: what true heads show (closed 0.99 to 1.00, 6.5 to 10 mm, 955 to
1425 HU, 0.000, 8 to 17 HU), with room for children and for blur."""

_SHOWN = {
    "vault_closed": (
        "skull: closed",
        "{:.1%} of the rays meet 2 mm of skull",
        "{:.1%}",
        "Look for holes in the vault.",
    ),
    "vault_thickness_mm": ("skull: thickness", "median {:.1f} mm above 300 HU", "{:.1f} mm", "Compare it with the MR."),
    "vault_largest_hu": ("skull: largest HU", "median {:.0f} HU", "{:.0f} HU", "Bone is too soft or too hard."),
    "inner_bone": ("bone in the brain", "{:.2%} of the inner head above 150 HU", "{:.1%}", "No ray may begin in bone."),
    "brain_spread_hu": (
        "brain: spread of HU",
        "interquartile {:.0f} HU",
        "{:.0f} HU",
        "A brain is neither flat nor mottled.",
    ),
}


def vault_checks(
    hounsfield: np.ndarray, outline: np.ndarray, spacing: Sequence[float], limits: Mapping[str, Sequence[float]]
) -> list[Check]:
    """A check of each figure of `metrics.vault.measure_vault` that has limits.

    Args:
        hounsfield: synthetic CT in HU ``(x, y, z)``, canonical axes.
        outline: its body.
        spacing: mm.
        limits: as `VAULT_LIMITS`.
    """
    if not limits:
        return []
    vault = measure_vault(hounsfield, outline, spacing)
    if vault is None:
        reason = "the vault is not in the picture as a whole"
        return [Check(_SHOWN[name][0], GREY, reason) for name in _SHOWN if name in limits]
    figures = vault.figures()
    checks = []
    for name, (title, found, unit, advice) in _SHOWN.items():
        if name not in limits:
            continue
        lowest, low, high, highest = limits[name]
        value = figures[name]
        light = GREEN if low <= value <= high else AMBER if lowest <= value <= highest else RED
        ends = [unit.format(end) for end in (low, high, lowest, highest)]
        limit = f"green {ends[0]} to {ends[1]}, amber {ends[2]} to {ends[3]}"
        checks.append(Check(title, light, found.format(value), limit, advice))
    return checks
