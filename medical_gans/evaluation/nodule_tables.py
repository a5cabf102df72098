"""Tables of an evaluation of generated nodules, for people and for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medical_gans.evaluation.nodule_figures import DEFINITIONS, FLOOR, Figures
from medical_gans.evaluation.nodule_usefulness import REAL, Usefulness
from medical_gans.io.writing import whole_file
from medical_gans.report import Table
from medical_gans.report.page import publishable

TITLES = {
    "frechet": "Frechet",
    "frechet_ratio": "/ floor",
    "kernel": "kernel",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "ms_ssim": "MS-SSIM",
    "memorisation": "memor.",
    "memorisation_pixels": "in voxels",
}
_FORMS = {"frechet": ".2f", "frechet_ratio": ".2f"}
FRECHET_RATIO_WANTED, SHARE_WANTED, MS_SSIM_WANTED, MEMORISATION_WANTED, AUC_WANTED = 2.0, 0.7, 0.05, 0.9, 0.07


def figure_tables(figures: Figures, *, intervals: bool) -> list[Table]:
    """A table for each kind of features and group, a row for each set of samples."""
    tables: dict[tuple[str, str], list[list[str]]] = {}
    numbers: dict[tuple[str, str], int] = {}
    for (group, features, name), found in figures.items():
        cells = []
        for figure in TITLES:
            form, one = _FORMS.get(figure, ".3f"), found[figure]
            interval = f" ({one.low:{form}} to {one.high:{form}})" if intervals else ""
            cells.append(f"{one.value:{form}}{interval}")
        tables.setdefault((features, group), []).append([shown(name), *cells])
        numbers[features, group] = one.n
    return [
        Table(
            f"{features.capitalize()} features, {group if group != 'both' else 'benign and malignant'}, "
            f"n = {numbers[features, group]} against {numbers[features, group]}",
            ["", *TITLES.values()],
            rows,
        )
        for (features, group), rows in tables.items()
    ]


def usefulness_table(found: Usefulness) -> Table:
    """AUC by what the classifier learned from."""
    rows = []
    for name, auc in found.auc.items():
        less = found.difference.get(name)
        difference = "" if less is None else f"{less.value:+.3f} ({less.low:+.3f} to {less.high:+.3f})"
        single = f"{min(found.by_training[name]):.3f} to {max(found.by_training[name]):.3f}"
        area = f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
        rows.append([name, str(found.trained_on[name]), area, difference, single])
    heading = f"Classifiers, tested on {len(found.malignant)} real nodules of {found.patients} patients never used"
    return Table(heading, ["learned from", "nodules", "AUC (95 %)", "less real (95 %)", "single trainings"], rows)


def targets_table(figures: Figures, features: str, useful: Usefulness | None, generators: Sequence[str]) -> Table:
    """What a generator is wanted to reach, and whether it does."""
    rows = []
    for name in generators:
        for what, value, wanted, met in _targets(figures, features, useful, name):
            rows.append([name, what, value, wanted, "yes" if met else "NO"])
    return Table(f"Wanted ({features} features, both classes)", ["generator", "figure", "value", "wanted", "met"], rows)


def shown(name: str) -> str:
    """A set of samples as the tables call it."""
    return "real, other half (floor)" if name == FLOOR else name


def write_csv(path: Path, figures: Figures, useful: Usefulness | None) -> Path:
    """One line per figure: features, group, samples, figure, value, interval, n.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["samples", "classes", "features", "figure", "value", "low", "high", "n"])
        for (group, features, name), found in figures.items():
            for figure, one in found.items():
                numbers = [f"{value:.6g}" for value in (one.value, one.low, one.high)]
                writer.writerow([name, group, features, figure, *numbers, one.n])
        for kind in ("auc", "difference") if useful else ():
            for name, interval in getattr(useful, kind).items():
                numbers = [f"{value:.6g}" for value in (interval.value, interval.low, interval.high)]
                figure = "auc" if kind == "auc" else "auc_less_real"
                writer.writerow([f"classifier of {name}", "both", "images", figure, *numbers, len(useful.malignant)])  # type: ignore[union-attr]
    return path


def write_json(path: Path, figures: Figures, useful: Usefulness | None, **about: Any) -> Path:
    """The same as nested entries, with the definitions.

    Raises:
        OutputError: the file cannot be written.
    """
    nested: dict[str, Any] = {}
    for (group, features, name), found in figures.items():
        place = nested.setdefault(name, {}).setdefault(features, {}).setdefault(group, {})
        place.update({figure: _plain(one) | {"n": one.n} for figure, one in found.items()})
    content: dict[str, Any] = {**about, "figures": nested}
    if useful is not None:
        content["classifiers"] = {
            name: {
                "trained_on": useful.trained_on[name],
                "auc": _plain(auc),
                "auc_of_each_training": list(useful.by_training[name]),
                **({"auc_less_real": _plain(useful.difference[name])} if name in useful.difference else {}),
            }
            for name, auc in useful.auc.items()
        }
        content["tested_on"] = {"nodules": len(useful.malignant), "patients": useful.patients}
    content["definitions"] = DEFINITIONS
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(publishable(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _plain(one: Any) -> dict[str, float]:
    return {name: float(f"{getattr(one, name):.6g}") for name in ("value", "low", "high")}


def _targets(
    figures: Figures, features: str, useful: Usefulness | None, name: str
) -> Iterator[tuple[str, str, str, bool]]:
    """(figure, value, what is wanted, whether it is met)."""
    found, floor = figures["both", features, name], figures["both", features, FLOOR]
    ratio = found["frechet_ratio"].value
    yield "Frechet over floor", f"{ratio:.2f}", f"at most {FRECHET_RATIO_WANTED:g}", ratio <= FRECHET_RATIO_WANTED
    for figure in ("precision", "recall"):
        share = found[figure].value / floor[figure].value
        yield f"{figure}, share of floor", f"{share:.2f}", f"at least {SHARE_WANTED:g}", share >= SHARE_WANTED
    excess = found["ms_ssim"].value - floor["ms_ssim"].value
    yield "MS-SSIM above real", f"{excess:+.3f}", f"at most {MS_SSIM_WANTED:g}", excess <= MS_SSIM_WANTED
    ratio = found["memorisation"].value
    yield "memorisation ratio", f"{ratio:.2f}", f"at least {MEMORISATION_WANTED:g}", ratio >= MEMORISATION_WANTED
    if useful is not None and name in useful.difference:
        less = -useful.difference[name].value
        yield "AUC lost against real", f"{less:.3f}", f"at most {AUC_WANTED:g}", less <= AUC_WANTED
        both = useful.difference[f"{REAL} + {name}"]
        value = f"{both.value:+.3f} ({both.low:+.3f} to {both.high:+.3f})"
        yield "AUC of both, less real", value, "interval reaches 0", both.high >= 0
