"""What an evaluation of lesions leaves behind: tables, pictures and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medical_gans.evaluation.lesion_features import FeaturePicture
from medical_gans.evaluation.lesion_figures import DEFINITIONS, TERMS, Bootstrap, Scores, lost_words
from medical_gans.evaluation.lesion_patients import TESTING_ONLY
from medical_gans.evaluation.lesion_pictures import dice_of_patients, feature_spaces
from medical_gans.evaluation.lesion_tables import (
    comparison_table,
    domains_table,
    figures_table,
    patients_table,
    write_csv,
    write_json,
)
from medical_gans.report import Manifest, Table, write_results_page

PICTURES = "pictures"
ALL = "all patients"
_FEATURES_CAPTION = (
    "Patches of the brain, of source and target, by the features of each network's named layers. The axes are found "
    "for each network by itself: compare how mixed the domains are, not where they lie."
)


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
