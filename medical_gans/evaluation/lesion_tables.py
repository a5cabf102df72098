"""Tables of an evaluation of lesions, for people and for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medical_gans.evaluation.lesion_features import FeaturePicture
from medical_gans.evaluation.lesion_figures import DEFINITIONS, TERMS, Bootstrap, Comparison, Estimate, Scores
from medical_gans.evaluation.lesion_methods import shown_file
from medical_gans.io.writing import whole_file
from medical_gans.report import Table
from medical_gans.report.redaction import publishable

_TITLES = {
    "dice": ("Dice", ".3f"),
    "hausdorff_95_mm": ("HD95 mm", ".1f"),
    "sensitivity": ("sensitivity", ".3f"),
    "precision": ("precision", ".3f"),
    "lesion_f1": ("lesion F1", ".3f"),
    "volume_error_ml": ("volume error ml", "+.2f"),
    "absolute_volume_error_ml": ("|volume error| ml", ".2f"),
}


def comparison_table(heading: str, found: Mapping[str, Comparison]) -> Table:
    """The table that matters: Dice, what is gained over source only, and the share of the gap closed."""
    rows = []
    for method, one in found.items():
        better = "-" if one.better is None else f"{one.better[0]} of {one.better[1]}"
        by_seed = ", ".join(f"{100 * share:.0f} %" for share in one.of_each_seed)
        closed = "-" if one.closed is None else _percent(one.closed)
        gain = "-" if one.gain is None else _cell(one.gain, "+.3f")
        rows.append([method, _cell(one.dice, ".3f"), gain, better, closed, by_seed, one.words])
    columns = ["", "Dice (95 %)", "less source only (95 %)", "patients above it", "gap closed (95 %)", "by seed", ""]
    kept = [place for place in range(len(columns)) if place < 5 or any(row[place] for row in rows)]
    return Table(heading, [columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


def figures_table(heading: str, bootstrap: Bootstrap, *, intervals: bool) -> Table:
    """Mean of every figure, a row for each method."""
    rows = []
    for method in bootstrap.scores.values:
        estimates = {name: bootstrap.estimate(method, name) for name in DEFINITIONS}
        shown = {name: one if intervals else Estimate(one.value) for name, one in estimates.items()}
        rows.append([method, *(_cell(shown[name], form) for name, (_, form) in _TITLES.items())])
    return Table(heading, ["", *(title for title, _ in _TITLES.values())], rows)


def patients_table(heading: str, scores: Scores, roles: Mapping[str, str]) -> Table:
    """Dice of each patient by each method, and what the patient was used for."""
    rows = [
        [case, roles[case], *(f"{scores.figure(method, 'dice')[:, place].mean():.3f}" for method in scores.values)]
        for place, case in enumerate(scores.cases)
    ]
    return Table(heading, ["patient", "used", *scores.values], rows)


def domains_table(pictures: Sequence[FeaturePicture]) -> Table:
    """How well a fresh classifier tells the domains apart by the features."""
    rows = []
    for one in pictures:
        told = "fewer than 2 in a domain" if one.accuracy.by_patient is None else f"{one.accuracy.by_patient:.3f}"
        seen = f"{one.patients[0]} + {one.patients[1]}"
        rows.append([one.method, told, f"{one.accuracy.by_patch:.3f}", seen, str(len(one.domain))])
    heading = "Domain classifier on the features: balanced accuracy (0.5: indistinguishable)"
    return Table(heading, ["", "on new patients", "on new patches", "patients, source + target", "patches"], rows)


def write_csv(
    path: Path, scores: Mapping[str, Scores], roles: Mapping[str, str], files: Mapping[str, Sequence[Path]]
) -> Path:
    """One line per case, class, method and seed.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "used", "class", "method", "seed", "file", *DEFINITIONS])
        for name, found in scores.items():
            for place, case in enumerate(found.cases):
                for method, values in found.values.items():
                    for seed, origin in enumerate(files[method]):
                        figures = [f"{value:.6g}" for value in values[seed, place]]
                        writer.writerow([case, roles[case], name, method, seed, shown_file(origin), *figures])
    return path


def write_json(
    path: Path,
    scores: Mapping[str, Scores],
    bootstraps: Mapping[str, Bootstrap],
    comparisons: Mapping[str, Mapping[str, Mapping[str, Comparison]]],
    pictures: Sequence[FeaturePicture],
    **about: Any,
) -> Path:
    """Figures by class and case, summaries with intervals, comparisons by class and group, with the definitions.

    Raises:
        OutputError: the file cannot be written.
    """
    content: dict[str, Any] = {
        **about,
        "figures": {
            name: {
                case: {
                    method: [dict(zip(DEFINITIONS, map(_rounded, row[place]), strict=True)) for row in values]
                    for method, values in found.values.items()
                }
                for place, case in enumerate(found.cases)
            }
            for name, found in scores.items()
        },
        "summary": {
            name: {
                method: {figure: _plain(bootstrap.estimate(method, figure)) for figure in DEFINITIONS}
                for method in bootstrap.scores.values
            }
            for name, bootstrap in bootstraps.items()
        },
        "comparison": {
            name: {
                group: {method: _plain_comparison(one) for method, one in found.items()}
                for group, found in groups.items()
            }
            for name, groups in comparisons.items()
        },
        "domain_classifier": {
            one.method: {**vars(one.accuracy), "patients": list(one.patients), "patches": len(one.domain)}
            for one in pictures
        },
        "definitions": DEFINITIONS | TERMS,
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(publishable(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _cell(one: Estimate, form: str) -> str:
    between = "" if one.interval is None else f" ({one.interval[0]:{form}} to {one.interval[1]:{form}})"
    return f"{one.value:{form}}{between}"


def _percent(one: Estimate) -> str:
    between = "" if one.interval is None else f" ({100 * one.interval[0]:.0f} to {100 * one.interval[1]:.0f} %)"
    return f"{100 * one.value:.0f} %{between}"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _plain(one: Estimate | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "mean": _rounded(one.value),
        "interval_95": None if one.interval is None else [*map(_rounded, one.interval)],
    }


def _plain_comparison(one: Comparison) -> dict[str, Any]:
    return {
        "dice": _plain(one.dice),
        "less_source_only": _plain(one.gain),
        "patients_above_source_only": None if one.better is None else list(one.better),
        "gap_closed": _plain(one.closed),
        "gap_closed_by_seed": [_rounded(share) for share in one.of_each_seed],
        "note": one.words,
    }
