"""What an evaluation of generated nodules leaves behind: tables, pictures and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medical_gans.evaluation.nodule_figures import DEFINITIONS, FLOOR, Figures, Samples
from medical_gans.evaluation.nodule_sources import JUDGED
from medical_gans.evaluation.nodule_tables import figure_tables, targets_table, usefulness_table, write_csv, write_json
from medical_gans.evaluation.nodule_usefulness import Usefulness
from medical_gans.report import Manifest, Table, write_results_page
from medical_gans.report.nodules import ClosestPairs, beside, closest_pairs, roc_curves, scatter

TRAINING = "training patients"
"""What the tables call them: what a generator would reach that had learned their distribution."""
_PAIRS = 10
_CAPTIONS = {
    "closest.png": "Generated nodules that come nearest to a training patch, above that patch; each patch is shown "
    "once. A copy would look the same; small round nodules resemble each other without being copies.",
    "features.png": "Features of the network on the two main axes of the real nodules.",
    "roc.png": "Classifiers by what they learned from; mean logit over their trainings.",
}


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that was found out.

    Attributes:
        figures: of all sets of samples.
        useful: of classifiers; None where none were trained.
        samples: by name: the test patients, the training patients, the generators.
        nearest: by name and kind of features: ``(n,)`` index of the nearest training patch.
        training: ``(m, *spatial)`` patches of the training patients.
    """

    figures: Figures
    useful: Usefulness | None
    samples: Mapping[str, Samples]
    nearest: Mapping[str, Mapping[str, np.ndarray]]
    training: np.ndarray

    @property
    def generators(self) -> list[str]:
        """Names of what was generated."""
        return [name for name in self.samples if name not in (FLOOR, TRAINING)]


def write_findings(
    folder: Path, findings: Findings, manifest: Manifest, window: Sequence[float], seed: int
) -> list[Table]:
    """Write tables, pictures, page and manifest.

    Args:
        folder: of the run.
        findings: to be written.
        manifest: of the run; its settings name k and repeats.
        window: HU of black and white.
        seed: of the choice of nodules in the pictures.

    Returns:
        The tables to print.

    Raises:
        OutputError: a file cannot be written.
    """
    figures, useful = findings.figures, findings.useful
    k, repeats = manifest.settings["k"], manifest.settings["repeats"]
    wanted = targets_table(figures, "network", useful, findings.generators)
    of_classifiers = [usefulness_table(useful)] if useful else []
    with manifest.timed("pictures"):
        pictures = _pictures(folder / "pictures", findings, window, np.random.default_rng(seed))
    write_csv(folder / "metrics.csv", figures, useful)
    write_json(folder / "metrics.json", figures, useful, k=k, repeats=repeats)
    write_results_page(
        folder / "report.html",
        "Lung nodules: evaluation",
        sentences=_sentences(repeats, k),
        sections=[wanted, *of_classifiers, *pictures, *figure_tables(figures, intervals=True)],
        warnings=manifest.warnings,
        definitions=DEFINITIONS,
        settings=manifest.settings,
    )
    manifest.write(folder)
    return [*figure_tables(figures, intervals=False), *of_classifiers, wanted]


def _pictures(
    folder: Path, findings: Findings, window: Sequence[float], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(file beside the page, caption) of each picture."""
    found = _sample_pictures(folder, findings, window, rng)
    samples = findings.samples
    closest_pairs(folder / "closest.png", _closest(findings), window)
    points = _main_axes({name: samples[name].features["network"] for name in (FLOOR, *findings.generators)})
    scatter(folder / "features.png", points, {name: samples[name].label for name in points}, JUDGED)
    if findings.useful is not None:
        useful = findings.useful
        titles = {name: f"{name}: AUC {auc.value:.3f}" for name, auc in useful.auc.items()}
        roc_curves(folder / "roc.png", useful.logits, useful.malignant, titles)
    return found + [(f"pictures/{file}", text) for file, text in _CAPTIONS.items() if (folder / file).is_file()]


def _sample_pictures(
    folder: Path, findings: Findings, window: Sequence[float], rng: np.random.Generator
) -> list[tuple[str, str]]:
    found = []
    real = findings.samples[FLOOR]
    for number, name in enumerate(findings.generators):
        made = findings.samples[name]
        kinds = JUDGED if made.has_classes else {-1: "both classes"}
        for label, kind in kinds.items():
            ours = rng.permutation(np.flatnonzero((real.label == label) | (label < 0)))
            theirs = rng.permutation(np.flatnonzero(made.label == label))
            file = f"samples_{number}_{kind.replace(' ', '_')}.png"
            titles = (f"real, {kind}, test patients", f"{name}, {kind}")
            beside(folder / file, real.images[ours], made.images[theirs], titles, window)
            found.append((f"pictures/{file}", f"{name}, {kind}: up to 64 random nodules of each."))
    return found


def _closest(findings: Findings) -> list[ClosestPairs]:
    rows = []
    for name in findings.generators:
        made = findings.samples[name]
        for kind, where, unit in (("pixels", "voxels (RMS)", " HU"), ("network", "features", "")):
            index = findings.nearest[name][kind]
            by_distance = np.argsort(made.to_training[kind])
            # each training patch once: a plain one is the nearest of many
            _, first = np.unique(index[by_distance], return_index=True)
            order = by_distance[np.sort(first)][:_PAIRS]
            words = [f"{distance:.3g}{unit}" for distance in made.to_training[kind][order]]
            pairs = findings.training[index[order]]
            rows.append(ClosestPairs(f"{name}: nearest in {where}", made.images[order], pairs, words))
    return rows


def _sentences(repeats: int, k: int) -> list[str]:
    return [
        f"The test patients are split at random in two halves, {repeats} times. One half is the reference; the other "
        "half (the floor), training patients and generated nodules are judged against it, n of each, in the mix of "
        f"classes that the test patients have. Manifolds are balls up to the neighbour number {k}.",
        "A figure is the mean over the splits, with the interval that 95 % of them lie in (delete-half jackknife). "
        "Only figures of equal n and equal features can be compared; a perfect generator reaches the floor, not 0.",
        "Intervals of the AUC are percentile bootstraps of patients and trainings.",
    ]


def _main_axes(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Projections on the first two principal axes of the real nodules."""
    mean = features[FLOOR].mean(0)
    axes = np.linalg.svd(features[FLOOR] - mean, full_matrices=False)[2][:2]
    return {name: (values - mean) @ axes.T for name, values in features.items()}
