"""Patches beside their reconstructions, scores of nodules beside those of normal patches, and their page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from medical_gans.metrics.roc import Auc
from medical_gans.report.pictures import FAINT, SERIES_COLOURS, Sheet, difference_colours
from medical_gans.report.results import Table, write_results_page

DIFFERENCE_HU = 700.0
_TILE, _GAP, _COLUMNS = 96, 4, 12
_LEFT, _HEAD = 96, 30
_BAR = 46
_CURVES = ("izi_f", "anogan", "query_blob")


def draw_patches(
    query: np.ndarray, made: np.ndarray, difference: np.ndarray, groups: Mapping[str, np.ndarray], path: Path
) -> Path:
    """Three rows for each group: patches, their reconstructions, differences in HU.

    Args:
        query: ``(n, rows, columns)`` in [-1, 1].
        made: likewise.
        difference: HU.
        groups: indices of patches by heading; the first dozen is drawn.
        path: PNG to write.

    Raises:
        OutputError: `path` cannot be written.
    """
    step = _TILE + _GAP
    block = _HEAD + 3 * step
    sheet = Sheet(_LEFT + _COLUMNS * step, len(groups) * block + _BAR)
    for number, (heading, members) in enumerate(groups.items()):
        top = number * block + _HEAD
        sheet.words(heading, (_LEFT + _COLUMNS * step / 2, top - _HEAD / 2))
        for row, name in enumerate(("patch", "as normal lung", "difference")):
            sheet.words(name, (_LEFT / 2, top + row * step + _TILE / 2), faint=True)
        for column, index in enumerate(members[:_COLUMNS]):
            left = _LEFT + column * step
            for row, image in enumerate((query, made)):
                sheet.picture(image[index], (left, top + row * step, _TILE, _TILE), limits=(-1.0, 1.0))
            limits = (-DIFFERENCE_HU, DIFFERENCE_HU)
            box = (left, top + 2 * step, _TILE, _TILE)
            sheet.picture(difference[index], box, colours=difference_colours(), limits=limits)
    bar = (_LEFT, len(groups) * block + 8, 300, 12)
    sheet.colour_bar(bar, difference_colours(), (-DIFFERENCE_HU, DIFFERENCE_HU), "HU")
    return sheet.save(path)


def draw_scores(
    is_nodule: np.ndarray, scores: Mapping[str, np.ndarray], chosen: str, figures: Mapping[str, Auc], path: Path
) -> Path:
    """Histogram of the chosen score by label, and ROC curves of it, of the published scores, and of the baseline.

    Raises:
        OutputError: `path` cannot be written.
    """
    sheet = Sheet(1000 if figures else 560, 420)
    axes = sheet.axes((60, 40, 460, 320))
    values = scores[chosen]
    low, high = (float(edge) for edge in np.quantile(values, (0.002, 0.998)))
    edges = np.linspace(low, high, 40).tolist()
    for label, name, colour in (
        (0, "normal", SERIES_COLOURS[0]),
        (1, "nodule", SERIES_COLOURS[1]),
        (-1, "unknown", FAINT),
    ):
        own = values[is_nodule == label]
        if len(own):
            axes.hist(np.clip(own, edges[0], edges[-1]), edges, alpha=0.6, color=colour, label=f"{name} ({len(own)})")
    axes.set_xlabel(f"score: {chosen}")
    axes.set_ylabel("patches")
    sheet.plain(axes)
    axes.legend(fontsize=8, labelcolor="linecolor", frameon=False)
    if figures:
        axes = sheet.axes((620, 40, 340, 320))
        known = is_nodule >= 0
        for name, colour in zip(dict.fromkeys((chosen, *_CURVES)), SERIES_COLOURS, strict=False):
            false, true, _ = roc_curve(is_nodule[known], scores[name][known])
            axes.plot(false, true, color=colour, linewidth=2 if name == chosen else 1, label=f"{name} {figures[name]}")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.6)
        axes.set_xlabel("normal patches called nodule")
        axes.set_ylabel("nodules found")
        sheet.plain(axes)
        axes.legend(fontsize=7, labelcolor="linecolor", frameon=False, loc="lower right")
    return sheet.save(path)


_METHODS = {
    "f_anogan": "f-AnoGAN: an encoder finds the normal patch at once (Schlegl et al. 2019)",
    "anogan": "AnoGAN: the normal patch is searched for (Schlegl et al. 2017)",
}
_PATCHES = (
    "Patches, their reconstructions as normal lung, and the patch minus what normal lung would be there: orange where "
    "the patch is denser."
)
_NOTE = (
    "AUC of nodule against normal with a 95 % bootstrap interval over patches; patches of one patient are not "
    "independent, so the interval is too narrow where patients gave several."
)


def write_anomaly_page(
    folder: Path,
    is_nodule: np.ndarray,
    *,
    method: str,
    score: str,
    meanings: Mapping[str, str],
    figures: Mapping[str, Auc],
    warnings: Sequence[str],
    settings: Mapping[str, Any],
) -> Path:
    """Write ``report.html`` beside ``scores.png`` and ``patches.png``; `meanings` say what each score is.

    Raises:
        OutputError: it cannot be written.
    """
    nodules, normal, unknown = (int((is_nodule == label).sum()) for label in (1, 0, -1))
    rows = [(name, str(auc), meanings[name]) for name, auc in figures.items()]
    table = Table(
        "Figures", ("score", "AUC", "what it is"), rows, _NOTE, strong=[list(figures).index(score)] if rows else ()
    )
    return write_results_page(
        folder / "report.html",
        "Lung anomalies",
        sentences=[
            f"{_METHODS[method]}. Patches are ranked by {score}: {meanings[score]}.",
            f"{len(is_nodule)} patches: {nodules} nodules, {normal} normal, {unknown} unlabelled.",
        ],
        sections=[
            ("scores.png", "Scores by label, and ROC curves." if rows else "Scores."),
            *([table] if rows else []),
            ("patches.png", _PATCHES),
        ],
        warnings=warnings,
        settings=settings,
    )
