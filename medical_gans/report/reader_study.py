"""What a reader study found: pictures, and the page that tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from medical_gans.report.pictures import FAINT, INK, SERIES_COLOURS, Sheet
from medical_gans.report.results import Table, write_results_page


class Estimate(Protocol):
    """A value, its 95 % interval (NaN where there is none), and the number of answers behind it."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def n(self) -> int: ...


class Agreement(Protocol):
    """Kappa of some readers."""

    @property
    def readers(self) -> Sequence[str]: ...

    @property
    def method(self) -> str: ...

    @property
    def kappa(self) -> Estimate: ...


_BARS = {"accuracy": "accuracy", "auc": "AUC", "frr": "FRR", "trr": "TRR"}
_TILE, _SHOWN = 150, 8


def draw_figures(
    path: Path, figures: Mapping[str, Mapping[str, Estimate]], curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Path:
    """ROC curve of each reader beside accuracy, AUC, FRR and TRR with their intervals.

    Args:
        path: PNG to write.
        figures: by reader, and over all readers where there are several.
        curves: by reader, false and true real rates from (0, 0) to (1, 1).

    Raises:
        OutputError: the file cannot be written.
    """
    sheet = Sheet(1180, 520)
    colours = {name: SERIES_COLOURS[place % len(SERIES_COLOURS)] for place, name in enumerate(curves)}
    roc = sheet.axes((70, 40, 400, 400))
    roc.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle=(0, (3, 4)))
    for name, curve in curves.items():
        roc.plot(*curve, color=colours[name], linewidth=1.8, marker=".", label=name, clip_on=False)
    roc.set(xlim=(0, 1), ylim=(0, 1), xlabel="generated images rated at least so real", aspect="equal")
    roc.set_ylabel("real images rated at least so real")
    sheet.plain(roc)
    bars = sheet.axes((560, 40, 590, 400))
    bars.axhline(0.5, color=FAINT, linewidth=1, linestyle=(0, (3, 4)))
    width = 0.8 / len(figures)
    for place, (name, found) in enumerate(figures.items()):
        at = np.arange(len(_BARS)) + (place - (len(figures) - 1) / 2) * width
        colour = colours.get(name, INK)
        chosen = [found[figure] for figure in _BARS]
        bars.bar(at, [one.value for one in chosen], 0.82 * width, color=colour, alpha=0.45, label=name)
        for x, one in zip(at, chosen, strict=True):
            bars.plot((x, x), (one.low, one.high), color=colour, linewidth=2)
    bars.set(ylim=(0, 1), xticks=range(len(_BARS)), xticklabels=list(_BARS.values()))
    sheet.plain(bars)
    handles, names = bars.get_legend_handles_labels()
    sheet.figure.legend(
        handles, names, loc="lower center", ncols=min(len(names), 8), frameon=False, labelcolor=INK, fontsize=8.5
    )
    sheet.words("ROC curve of each reader", (270, 20))
    sheet.words("with 95 % intervals; the dashed line is guessing", (855, 20))
    return sheet.save(path)


def draw_images(path: Path, groups: Mapping[str, Sequence[tuple[np.ndarray, str]]]) -> Path:
    """Rows of images under their titles.

    Args:
        path: PNG to write.
        groups: title to (grey values ``(rows, columns)``, words beneath); the first eight are drawn.

    Raises:
        OutputError: the file cannot be written.
    """
    height = _TILE + 56
    sheet = Sheet(_SHOWN * (_TILE + 6) + 6, len(groups) * height)
    for row, (title, images) in enumerate(groups.items()):
        sheet.words(title, (sheet.width / 2, row * height + 16))
        for column, (grey, words) in enumerate(images[:_SHOWN]):
            left, top = 6 + column * (_TILE + 6), row * height + 30
            sheet.picture(grey, (left, top, _TILE, _TILE), limits=(0.0, 255.0))
            sheet.words(words, (left + _TILE / 2, top + _TILE + 12), faint=True)
    return sheet.save(path)


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
    figures: Mapping[tuple[str, str], Mapping[str, Estimate]],
    agreement: Sequence[Agreement],
    *,
    years_of_experience: Mapping[str, int],
    counts: tuple[int, int],
    has_images: bool,
    definitions: Mapping[str, str],
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
        definitions: of the figures, by name.
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
        definitions={HEADS[name]: meaning for name, meaning in definitions.items() if name in overall},
    )


def _summary(readers: Sequence[str], counts: tuple[int, int], overall: Mapping[str, Estimate]) -> str:
    who = f"Reader {readers[0]}" if len(readers) == 1 else f"{len(readers)} readers"
    return (
        f"{who} judged {counts[0]} real and {counts[1]} generated images, and {_percent(overall['accuracy'])} of the "
        f"judgements were right; the AUC is {_shown(overall['auc'], '95 % interval ')}. Of the judgements on "
        f"generated images {_percent(overall['frr'])} were real (FRR), of those on real images "
        f"{_percent(overall['trr'])} (TRR)."
    )


def _figures_table(
    figures: Mapping[tuple[str, str], Mapping[str, Estimate]], years: Mapping[str, int], names: Sequence[str]
) -> Table:
    rows = [
        [reader, malignancy, str(found["accuracy"].n), *(_cell(name, figure) for name, figure in found.items())]
        for (reader, malignancy), found in figures.items()
    ]
    experience = ", ".join(f"{reader} {number}" for reader, number in years.items())
    over_all = [number for number, (reader, kind) in enumerate(figures) if reader not in years and kind == "all"]
    return Table(
        "Estimates",
        ["reader", "class", "answers", *(HEADS[name] for name in names)],
        rows,
        f"Years of experience: {experience}. {_INTERVALS}",
        strong=over_all,
    )


def _agreement_table(agreement: Sequence[Agreement]) -> Table:
    rows = [[", ".join(one.readers), one.method, _shown(one.kappa)] for one in agreement]
    note = _AGREEMENT if rows else "There is one reader only."
    return Table("Agreement between readers", ["readers", "", "kappa"] if rows else [], rows, note)


def _cell(name: str, figure: Estimate) -> str:
    if name == "seconds":
        return f"{figure.value:.1f}" if math.isfinite(figure.value) else "\N{EN DASH}"
    return _shown(figure)


def _shown(figure: Estimate, before_interval: str = "") -> str:
    if not math.isfinite(figure.value):
        return "\N{EN DASH}"
    value, low, high = (
        f"{edge:z.2f}".replace("-", "\N{MINUS SIGN}") for edge in (figure.value, figure.low, figure.high)
    )
    return f"{value} ({before_interval}{low} to {high})" if math.isfinite(figure.low) else value


def _percent(share: Estimate) -> str:
    if not math.isfinite(share.value):
        return "none"
    return f"{100 * share.value:.0f} % (95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)"
