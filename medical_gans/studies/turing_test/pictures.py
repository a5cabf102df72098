"""What a reader study found, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medical_gans.report.sheet import FAINT, INK, SERIES_COLOURS, Sheet
from medical_gans.studies.turing_test.figures import Figure, roc_points

_BARS = {"accuracy": "accuracy", "auc": "AUC", "frr": "FRR", "trr": "TRR"}
_TILE, _SHOWN = 150, 8


def draw_figures(
    path: Path, figures: Mapping[str, Mapping[str, Figure]], ratings: Mapping[str, np.ndarray], is_real: np.ndarray
) -> Path:
    """ROC curve of each reader beside accuracy, AUC, FRR and TRR with their intervals.

    Args:
        path: PNG to write.
        figures: by reader, and over all readers where there are several.
        ratings: ``(images,)`` by reader.
        is_real: ``(images,)`` bool.

    Raises:
        OutputError: the file cannot be written.
    """
    sheet = Sheet(1180, 520)
    colours = {name: SERIES_COLOURS[place % len(SERIES_COLOURS)] for place, name in enumerate(ratings)}
    roc = sheet.axes((70, 40, 400, 400))
    roc.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle=(0, (3, 4)))
    for name, rating in ratings.items():
        roc.plot(
            *roc_points(rating, is_real), color=colours[name], linewidth=1.8, marker=".", label=name, clip_on=False
        )
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
