"""The page that tells what a reader study found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from medical_gans.report import Table, write_results_page
from medical_gans.studies.turing_test.agreement import Agreement
from medical_gans.studies.turing_test.figures import DEFINITIONS, Figure

HEADS = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "frr": "FRR",
    "trr": "TRR",
    "d_prime": "d\N{PRIME}",
    "bias": "bias",
    "malignancy_real": "class of real",
    "malignancy_generated": "class of generated",
    "seconds": "seconds per image",
}

_ADVICE = (
    "A reader who calls everything real has an FRR of 1 and has recognised nothing. Read the FRR beside the TRR, "
    "and judge by accuracy and AUC: images are hard to tell apart where both are near 0.5. An interval that "
    "includes 0.5 is no proof that they cannot be told apart; it must also be narrow."
)
_INTERVALS = (
    "Intervals are 95 %. Of one reader: Wilson for shares, DeLong for the AUC. Over readers: percentile bootstrap of "
    "images, so they hold for these readers reading other images, not for other readers."
)
_AGREEMENT = "On real or generated; 0 is what the readers' habits alone would give, 1 full agreement."
_CHARTS = "ROC curve of each reader; accuracy, AUC, FRR and TRR with intervals."
_IMAGES = "Generated images most and least often judged real, and real ones most often judged generated."


def write_report(
    path: Path,
    study: str,
    figures: Mapping[tuple[str, str], Mapping[str, Figure]],
    agreement: Sequence[Agreement],
    *,
    years_of_experience: Mapping[str, int],
    counts: tuple[int, int],
    has_images: bool,
    warnings: Sequence[str] = (),
) -> Path:
    """Write the page.

    Args:
        path: HTML file to write; ``figures.png`` and ``images.png`` lie beside it.
        study: its name.
        figures: by (reader, class); the last reader stands for all where there are several.
        agreement: between readers.
        years_of_experience: by reader.
        counts: real and generated images.
        has_images: whether there is ``images.png``.
        warnings: sentences.

    Raises:
        OutputError: it cannot be written.
    """
    readers = list(years_of_experience)
    overall = [found for (_, malignancy), found in figures.items() if malignancy == "all"][-1]
    images = [("images.png", _IMAGES)] if has_images else []
    return write_results_page(
        path,
        "Visual Turing Test",
        sentences=[f"Study {study}.", _summary(readers, counts, overall), _ADVICE],
        sections=[
            ("figures.png", _CHARTS),
            _figures_table(figures, years_of_experience, list(overall)),
            _agreement_table(agreement),
            *images,
        ],
        warnings=warnings,
        definitions={HEADS[name]: meaning for name, meaning in DEFINITIONS.items() if name in overall},
    )


def _summary(readers: Sequence[str], counts: tuple[int, int], overall: Mapping[str, Figure]) -> str:
    who = f"Reader {readers[0]}" if len(readers) == 1 else f"{len(readers)} readers"
    return (
        f"{who} judged {counts[0]} real and {counts[1]} generated images, and {_percent(overall['accuracy'])} of the "
        f"judgements were right; the AUC is {_shown(overall['auc'], '95 % interval ')}. Of the judgements on "
        f"generated images {_percent(overall['frr'])} were real (FRR), of those on real images "
        f"{_percent(overall['trr'])} (TRR)."
    )


def _figures_table(
    figures: Mapping[tuple[str, str], Mapping[str, Figure]], years: Mapping[str, int], names: Sequence[str]
) -> Table:
    rows = [
        [reader, malignancy, str(found["accuracy"].n), *(_cell(name, figure) for name, figure in found.items())]
        for (reader, malignancy), found in figures.items()
    ]
    experience = ", ".join(f"{reader} {number}" for reader, number in years.items())
    over_all = [number for number, (reader, kind) in enumerate(figures) if reader not in years and kind == "all"]
    return Table(
        "Figures",
        ["reader", "class", "answers", *(HEADS[name] for name in names)],
        rows,
        f"Years of experience: {experience}. {_INTERVALS}",
        strong=over_all,
    )


def _agreement_table(agreement: Sequence[Agreement]) -> Table:
    rows = [[", ".join(one.readers), one.method, _shown(one.kappa)] for one in agreement]
    note = _AGREEMENT if rows else "There is one reader only."
    return Table("Agreement between readers", ["readers", "", "kappa"] if rows else [], rows, note)


def _cell(name: str, figure: Figure) -> str:
    if name == "seconds":
        return f"{figure.value:.1f}" if math.isfinite(figure.value) else "\N{EN DASH}"
    return _shown(figure)


def _shown(figure: Figure, before_interval: str = "") -> str:
    if not math.isfinite(figure.value):
        return "\N{EN DASH}"
    value, low, high = (
        f"{edge:z.2f}".replace("-", "\N{MINUS SIGN}") for edge in (figure.value, figure.low, figure.high)
    )
    return f"{value} ({before_interval}{low} to {high})" if math.isfinite(figure.low) else value


def _percent(share: Figure) -> str:
    if not math.isfinite(share.value):
        return "none"
    return f"{100 * share.value:.0f} % (95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)"
