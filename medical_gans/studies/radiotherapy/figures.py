"""From two doses to the figures that are read: DVH, signed differences, gamma."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medical_gans.io.writing import whole_file
from medical_gans.studies.radiotherapy.dvh import Figures, dose_mae, dvh_error, structure_figures, target_figures
from medical_gans.studies.radiotherapy.gamma import CRITERIA, gamma_pass_rate

DEFINITIONS = {
    "d98, d95, d50, d5, d2": "dose in Gy that at least 98, 95, 50, 5, 2 % of the structure receive",
    "mean": "mean dose in Gy",
    "homogeneity": "(D2 - D98) / D50 of the target (ICRU 83); 0 at best",
    "conformity": "square of the target volume in the 95 % isodose, over target volume x isodose volume (Paddick)",
    "gamma_A_B": "percent of voxels above the cutoff whose global gamma is at most 1 at A % of the prescription, B mm",
    "dose_mae": "mean absolute difference over the prescription, where the reference has 90 % of it (SynthRAD)",
    "dvh_error": "|dD98| / D98 + |dCI| / CI of the target + means of |dD2| / D2 + |dDmean| / Dmean over three organs "
    "with most dose at most (SynthRAD); without organs, the target's part only",
    "largest_difference": "largest absolute difference of a voxel in the body, percent of the prescription",
}
_IN_GY = ("d98", "d95", "d50", "d2", "mean")
_PLAIN = ("homogeneity", "conformity")


@dataclass(frozen=True)
class DoseFigures:
    """What one plan says about a case.

    Attributes:
        modality: of the plan.
        reference: figures of each structure on the true CT; the first is the target.
        synthetic: the same on the synthetic CT.
        compared: gamma pass rates in percent, ``dose_mae``, ``dvh_error``, ``largest_difference``.
    """

    modality: str
    reference: Mapping[str, Figures]
    synthetic: Mapping[str, Figures]
    compared: Mapping[str, float]

    @property
    def title(self) -> str:
        """Heading of the table."""
        gammas = ", ".join(f"({p:g} %, {d:g} mm) {self.compared[_gamma(p, d)]:.1f} %" for p, d in CRITERIA)
        others = ", ".join(f"{name.replace('_', ' ')} {self.compared[name]:.4f}" for name in ("dose_mae", "dvh_error"))
        return f"{self.modality} plan: gamma {gammas}; {others}"

    def rows(self, prescription: float) -> list[dict[str, str]]:
        """A row per structure and figure, for people: both values and the signed difference."""
        rows = []
        for structure, expected in self.reference.items():
            for name in (*_IN_GY, *_PLAIN):
                if name not in expected:
                    continue
                before, after = expected[name], self.synthetic[structure][name]
                in_gy = name in _IN_GY
                change = f"{100 * (after - before) / prescription:+.2f} %" if in_gy else f"{after - before:+.4f}"
                unit = " Gy" if in_gy else ""
                label = name.upper() if name[1:].isdigit() else name
                both = {"reference": f"{before:.4f}{unit}", "synthetic": f"{after:.4f}{unit}"}
                rows.append({"structure": structure, "figure": label, **both, "difference": change})
        return rows

    def key_figures(self, prescription: float) -> dict[str, float]:
        """The few that a cohort is judged by, named by modality; differences in percent of the prescription."""
        target = next(iter(self.reference))
        change = {
            name: 100 * (self.synthetic[target][name] - self.reference[target][name]) / prescription
            for name in ("d98", "mean")
        }
        shown = {f"target_{name}_difference": value for name, value in change.items()}
        shown |= {name: value for name, value in self.compared.items() if name != "largest_difference"}
        return {f"{self.modality}_{name}": value for name, value in shown.items() if np.isfinite(value)}

    def summary(self, prescription: float) -> str:
        """One line."""
        figures = self.key_figures(prescription)
        return "  ".join(
            [f"{self.modality:>7}", *(f"{n.removeprefix(self.modality + '_')} {v:.4g}" for n, v in figures.items())]
        )


def dose_figures(
    modality: str,
    doses: Mapping[str, np.ndarray],
    target: np.ndarray,
    organs: Mapping[str, np.ndarray],
    spacing: float,
    prescription: float,
    *,
    points: int,
    cutoff: float,
    seed: int,
) -> DoseFigures:
    """Compare two doses in Gy on one grid.

    Args:
        modality: of the plan.
        doses: ``reference`` and ``synthetic``, ``(x, y, z)``.
        target: boolean.
        organs: boolean masks by name.
        spacing: mm.
        prescription: Gy.
        points, cutoff, seed: see `gamma.gamma_pass_rate`.

    Raises:
        SettingError: pymedphys is not installed.
    """
    found = {
        name: {"target": target_figures(dose, target, prescription)}
        | {organ: structure_figures(dose, mask) for organ, mask in organs.items()}
        for name, dose in doses.items()
    }
    reference, synthetic = doses["reference"], doses["synthetic"]
    compared = {
        _gamma(*criterion): gamma_pass_rate(
            reference, synthetic, spacing, criterion, prescription, points=points, cutoff=cutoff, seed=seed
        )
        for criterion in CRITERIA
    }
    compared["dose_mae"] = dose_mae(reference, synthetic, prescription)
    compared["dvh_error"] = dvh_error(found["reference"], found["synthetic"], "target")
    compared["largest_difference"] = 100 * float(np.abs(synthetic - reference).max()) / prescription
    return DoseFigures(modality, found["reference"], found["synthetic"], compared)


def write_figures(folder: Path, found: Mapping[str, Sequence[DoseFigures]], prescription: float) -> None:
    """Write ``dose.csv`` and ``dose.json``.

    Raises:
        OutputError: a file cannot be written.
    """
    with whole_file(folder / "dose.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "modality", "structure", "figure", "reference", "synthetic", "difference"])
        for case, plans in found.items():
            for plan in plans:
                for structure, expected in plan.reference.items():
                    for name, before in expected.items():
                        after = plan.synthetic[structure][name]
                        values = (f"{value:.6g}" for value in (before, after, after - before))
                        writer.writerow([case, plan.modality, structure, name, *values])
                for name, value in plan.compared.items():
                    writer.writerow([case, plan.modality, "", name, "", "", f"{value:.6g}"])
    content = {
        "prescription_gy": prescription,
        "cases": {
            case: {
                plan.modality: {
                    "reference": _plain_all(plan.reference),
                    "synthetic": _plain_all(plan.synthetic),
                    "compared": _plain(plan.compared),
                }
                for plan in plans
            }
            for case, plans in found.items()
        },
        "definitions": DEFINITIONS,
    }
    with whole_file(folder / "dose.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _gamma(percent: float, distance: float) -> str:
    return f"gamma_{percent:g}_{distance:g}"


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(f"{value:.6g}") if np.isfinite(value) else None for name, value in figures.items()}


def _plain_all(structures: Mapping[str, Figures]) -> dict[str, dict[str, float | None]]:
    return {name: _plain(figures) for name, figures in structures.items()}
