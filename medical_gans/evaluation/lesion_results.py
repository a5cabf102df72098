"""What an evaluation of lesions leaves behind: tables for people and programs, pictures, and a page of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medical_gans.evaluation.lesion_features import FeaturePicture
from medical_gans.evaluation.lesion_figures import (
    DEFINITIONS,
    TERMS,
    Bootstrap,
    Comparison,
    Estimate,
    Scores,
    lost_words,
)
from medical_gans.evaluation.lesion_methods import TESTING_ONLY, shown_file
from medical_gans.evaluation.lesion_pictures import dice_of_patients, feature_spaces
from medical_gans.io.writing import whole_file
from medical_gans.report import Manifest, Table, write_results_page
from medical_gans.report.page import publishable

PICTURES = "pictures"
ALL = "all patients"
_FEATURES_CAPTION = (
    "Patches of the brain, of source and target, by the features of each network's named layers. The axes are found "
    "for each network by itself: compare how mixed the domains are, not where they lie."
)
_TITLES = {
    "dice": ("Dice", ".3f"),
    "hausdorff_95_mm": ("HD95 mm", ".1f"),
    "sensitivity": ("sensitivity", ".3f"),
    "precision": ("precision", ".3f"),
    "lesion_f1": ("lesion F1", ".3f"),
    "volume_error_ml": ("volume error ml", "+.2f"),
    "absolute_volume_error_ml": ("|volume error| ml", ".2f"),
}


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that was found out.

    Attributes:
        scores: by class of lesions.
        roles: what each case was used for.
        files: weights file or folder of each seed, by method.
        outlines: picture of each case, file beside the page and caption.
        spaces: feature space of each network; empty where none was asked for.
        notes: sentences for the top of the page.
    """

    scores: Mapping[str, Scores]
    roles: Mapping[str, str]
    files: Mapping[str, Sequence[Path]]
    outlines: Sequence[tuple[str, str]]
    spaces: Sequence[FeaturePicture] = ()
    notes: Sequence[str] = ()


def write_findings(folder: Path, findings: Findings, manifest: Manifest, seed: int) -> list[Table]:
    """Write tables, pictures, page and manifest.

    Args:
        folder: of the run; the pictures of the cases are there already.
        findings: to be written.
        manifest: of the run.
        seed: of the bootstrap.

    Returns:
        The tables to print.

    Raises:
        OutputError: a file cannot be written.
    """
    scores = findings.scores
    several = len(scores) > 1
    bootstraps = {name: Bootstrap(found, seed) for name, found in scores.items()}
    groups = {name: _groups(found, findings.roles) for name, found in scores.items()}
    comparisons = {
        name: {group: Bootstrap(found, seed).compare() for group, found in groups[name].items()} for name in scores
    }
    matter = [
        comparison_table(_heading("Dice", name if several else "", groups[name][group], group), found)
        for name, by_group in comparisons.items()
        for group, found in by_group.items()
    ]
    means, plain, patients = [], [], []
    for name, bootstrap in bootstraps.items():
        heading = _heading("All figures", name if several else "", scores[name])
        means.append(figures_table(heading, bootstrap, intervals=True))
        plain.append(figures_table(heading, bootstrap, intervals=False))
        dice = _heading("Dice of each patient", name if several else "", scores[name])
        patients.append(patients_table(dice, scores[name], findings.roles))
    domains = [domains_table(findings.spaces)] if findings.spaces else []
    with manifest.timed("pictures"):
        charts, space = _charts(folder, scores), _feature_space(folder, findings)
    write_csv(folder / "metrics.csv", scores, findings.roles, findings.files)
    write_json(
        folder / "metrics.json", scores, bootstraps, comparisons, findings.spaces, used=findings.roles, seed=seed
    )
    write_results_page(
        folder / "report.html",
        "Brain lesions: evaluation",
        sentences=[*lost_words(scores), *findings.notes],
        sections=[*matter, *charts, *domains, *space, *means, *patients, *findings.outlines],
        warnings=manifest.warnings,
        definitions=DEFINITIONS | TERMS,
        settings=manifest.settings,
    )
    manifest.write(folder)
    return [*plain, *patients, *domains, *matter]


def _groups(scores: Scores, roles: Mapping[str, str]) -> dict[str, Scores]:
    """All patients, and those only for testing where others were used for adaptation."""
    testing = [case for case in scores.cases if roles[case] == TESTING_ONLY]
    mixed = 0 < len(testing) < len(scores.cases)
    return {ALL: scores} | ({TESTING_ONLY: scores.of(testing)} if mixed else {})


def _heading(what: str, name: str, scores: Scores, group: str = ALL) -> str:
    of_class = f" of {name}" if name else ""
    count = f"{len(scores.cases)} patient{'s' * (len(scores.cases) != 1)}"
    return f"{what}{of_class}, {count}{'' if group == ALL else f' {group}'}"


def _charts(folder: Path, scores: Mapping[str, Scores]) -> list[tuple[str, str]]:
    """(file beside the page, caption) of a chart for each class."""
    found = []
    for number, (name, of_class) in enumerate(scores.items()):
        file = f"{PICTURES}/dice_{number}.png" if len(scores) > 1 else f"{PICTURES}/dice.png"
        dice_of_patients(folder / file, {m: of_class.figure(m, "dice") for m in of_class.values}, of_class.cases)
        which = f" of {name}" if len(scores) > 1 else ""
        found.append((file, f"Dice{which} of each patient (mean over seeds), and the mean over patients."))
    return found


def _feature_space(folder: Path, findings: Findings) -> list[tuple[str, str]]:
    if not findings.spaces:
        return []
    file = f"{PICTURES}/feature_space.png"
    feature_spaces(folder / file, findings.spaces)
    return [(file, _FEATURES_CAPTION)]


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
