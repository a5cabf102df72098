"""Dose-volume figures of structures, on arrays of dose in Gy and boolean masks of equal voxels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ISODOSE = 0.95  # of the prescription: the dose to which a plan should conform
_JUDGED_DOSE = 0.9  # of the prescription: where SynthRAD takes the mean absolute error
_ORGANS = 3  # with most dose, that SynthRAD's DVH figure counts

Figures = dict[str, float]


def dose_to_volume(dose: np.ndarray, structure: np.ndarray, percent: float) -> float:
    """D_v: the dose in Gy that at least `percent` of a structure receives (linear between voxels)."""
    return float(np.percentile(dose[structure], 100 - percent))


def structure_figures(dose: np.ndarray, structure: np.ndarray) -> Figures:
    """``d98``, ``d95``, ``d50``, ``d5``, ``d2`` and ``mean`` in Gy of a structure with at least one voxel."""
    found = {f"d{percent}": dose_to_volume(dose, structure, percent) for percent in (98, 95, 50, 5, 2)}
    return {**found, "mean": float(dose[structure].mean(dtype=np.float64))}


def target_figures(dose: np.ndarray, target: np.ndarray, prescription: float) -> Figures:
    """`structure_figures` with homogeneity and conformity.

    ``homogeneity`` is (D2 - D98) / D50 (ICRU Report 83), 0 at best. ``conformity`` is the square of the
    target volume within the 95 % isodose over the product of target and isodose volume (Paddick 2000), 1 at
    best.
    """
    figures = structure_figures(dose, target)
    isodose = dose >= ISODOSE * prescription
    covered, treated = np.count_nonzero(isodose & target), np.count_nonzero(isodose)
    figures["homogeneity"] = (figures["d2"] - figures["d98"]) / figures["d50"] if figures["d50"] else float("nan")
    figures["conformity"] = covered**2 / (np.count_nonzero(target) * treated) if treated else 0.0
    return figures


def dose_mae(reference: np.ndarray, synthetic: np.ndarray, prescription: float) -> float:
    """Mean absolute dose difference over the prescription, where the reference has 90 % of that (SynthRAD).

    ``nan`` where no voxel has so much.
    """
    judged = reference >= _JUDGED_DOSE * prescription
    if not judged.any():
        return float("nan")
    return float(np.abs(synthetic[judged] - reference[judged]).mean(dtype=np.float64) / prescription)


def dvh_error(
    reference: Mapping[str, Mapping[str, float]], synthetic: Mapping[str, Mapping[str, float]], target: str
) -> float:
    """SynthRAD's DVH figure: relative differences of D98 and conformity of the target, D2 and mean of organs.

    |dD98| / D98 + |dCI| / CI, plus the means of |dD2| / D2 and |dDmean| / Dmean over at most three organs, those
    with the largest mean of D5 and Dmean on the reference. Denominators are those of the reference.

    Args:
        reference: figures by structure of the dose on the reference CT.
        synthetic: the same of the dose on the synthetic CT.
        target: name of the target; all others are organs.
    """

    def relative(name: str, figure: str) -> float:
        expected = reference[name][figure]
        return abs(synthetic[name][figure] - expected) / expected if expected else float("nan")

    organs = sorted(
        (name for name in reference if name != target),
        key=lambda name: reference[name]["d5"] + reference[name]["mean"],
        reverse=True,
    )[:_ORGANS]
    total = relative(target, "d98") + relative(target, "conformity")
    if organs:
        total += float(np.mean([relative(name, "d2") + relative(name, "mean") for name in organs]))
    return float(total)


def dvh_curve(dose: np.ndarray, structure: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Cumulative DVH: percent of a structure that receives at least each of `levels` (Gy, ascending)."""
    values = np.sort(dose[structure])
    return 100 * (1 - np.searchsorted(values, levels, side="left") / values.size)
