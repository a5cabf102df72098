"""Pictures by which a person judges generated nodules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.report.sheet import FAINT, INK, SERIES_COLOURS, Sheet

_SQUARE, _GAP, _HEAD = 688, 2, 30
_EDGE = 8
_PAIRS = 10


def beside(
    path: Path, real: np.ndarray, generated: np.ndarray, titles: tuple[str, str], window: Sequence[float]
) -> Path:
    """Up to 64 real patches beside up to 64 generated ones.

    Args:
        path: PNG to write.
        real: ``(n, rows, columns[, slices])`` in HU; of a volume the middle slice is drawn.
        generated: as `real`.
        titles: over the two squares.
        window: HU of black and white.

    Raises:
        OutputError: `path` cannot be written.
    """
    sheet = Sheet(2 * _SQUARE + 26, _HEAD + _SQUARE)
    for place, (patches, title) in enumerate(zip((real, generated), titles, strict=True)):
        left = place * (_SQUARE + 26)
        sheet.words(title, (left + _SQUARE / 2, _HEAD / 2))
        square = _mosaic(_slices(patches[: _EDGE**2]), window[0])
        sheet.picture(square, (left, _HEAD, _SQUARE, _SQUARE), limits=(window[0], window[1]))
    return sheet.save(path)


@dataclass(frozen=True, eq=False)
class ClosestPairs:
    """The generated patches nearest to a training patch, nearest first.

    Attributes:
        title: of the row.
        generated: ``(n, *spatial)``.
        training: ``(n, *spatial)`` nearest to each.
        words: n texts beneath, such as the distance.
    """

    title: str
    generated: np.ndarray
    training: np.ndarray
    words: Sequence[str]


def closest_pairs(path: Path, rows: Sequence[ClosestPairs], window: Sequence[float]) -> Path:
    """Each generated patch above the training patch nearest to it.

    Raises:
        OutputError: `path` cannot be written.
    """
    tile, left = 112, 26
    block = _HEAD + 2 * (tile + _GAP) + 24
    sheet = Sheet(left + _PAIRS * (tile + 6), len(rows) * block)
    for number, row in enumerate(rows):
        top = number * block
        sheet.words(row.title, (sheet.width / 2, top + _HEAD / 2))
        for line, (words, patches) in enumerate((("generated", row.generated), ("training", row.training))):
            above = top + _HEAD + line * (tile + _GAP)
            sheet.words(words, (left / 2, above + tile / 2), faint=True, turned=True)
            for column, patch in enumerate(_slices(patches[:_PAIRS])):
                sheet.picture(patch, (left + column * (tile + 6), above, tile, tile), limits=(window[0], window[1]))
        for column, words in enumerate(row.words[:_PAIRS]):
            sheet.words(words, (left + column * (tile + 6) + tile / 2, top + block - 14), faint=True)
    return sheet.save(path)


def scatter(
    path: Path, points: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], names: Mapping[int, str]
) -> Path:
    """Features on their two main axes, a panel for each generator: real filled, generated as rings, a colour per class.

    Args:
        path: PNG to write.
        points: by name, ``(n, 2)``; the first are the real ones. Of each other as many are drawn as of the real ones.
        labels: by name, ``(n,)``.
        names: of the labels.

    Raises:
        OutputError: `path` cannot be written.
    """
    real, *others = points
    width, height = 520, 560
    sheet = Sheet(max(1, len(others)) * width, height)
    low, high = np.percentile(points[real], (0.5, 99.5), axis=0)
    margin = 0.15 * (high - low)
    for number, other in enumerate(others):
        axes = sheet.axes((number * width + 50, _HEAD, width - 70, height - _HEAD - 96))
        for (label, name), colour in zip((*names.items(), (-1, "without class")), SERIES_COLOURS, strict=False):
            ours, theirs = (points[source][labels[source] == label] for source in (real, other))
            theirs = theirs[: len(ours) if label >= 0 else len(points[real])]
            for source, chosen, fill, size in ((real, ours, colour, 3.5), (other, theirs, "none", 5.0)):
                if len(chosen):
                    marker: dict[str, Any] = {
                        "markeredgecolor": colour,
                        "markeredgewidth": 0.8,
                        "markerfacecolor": fill,
                    }
                    axes.plot(*chosen.T, "o", markersize=size, label=f"{name}, {source}", **marker)
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        axes.set_xlabel("first main axis of the features of real nodules")
        axes.set_ylabel("second")
        axes.legend(frameon=False, labelcolor=INK, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.09))
        sheet.plain(axes)
        sheet.words(f"{real} and {other}", (number * width + width / 2, _HEAD / 2))
    return sheet.save(path)


def roc_curves(path: Path, logits: Mapping[str, np.ndarray], malignant: np.ndarray, titles: Mapping[str, str]) -> Path:
    """ROC curve of the mean logit over the trainings, by what the classifier learned from.

    Args:
        path: PNG to write.
        logits: by name, ``(trainings, n)``.
        malignant: ``(n,)`` truth.
        titles: by name, for the legend.

    Raises:
        OutputError: `path` cannot be written.
    """
    from sklearn.metrics import roc_curve  # type: ignore[import-untyped]

    sheet = Sheet(620, 560)
    axes = sheet.axes((60, 24, 540, 480))
    axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle=(0, (3, 4)))
    for place, (name, rows) in enumerate(logits.items()):
        false_positive, true_positive, _ = roc_curve(malignant, rows.mean(0))
        colour = SERIES_COLOURS[place % len(SERIES_COLOURS)]
        axes.plot(false_positive, true_positive, color=colour, linewidth=1.7, label=titles[name])
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="benign called malignant", ylabel="malignant called malignant")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8.5, loc="lower right")
    sheet.plain(axes)
    return sheet.save(path)


def _mosaic(patches: np.ndarray, background: float) -> np.ndarray:
    """Up to 64 patches ``(n, rows, columns)`` as one image, one voxel between them."""
    rows, columns = patches.shape[1] + 1, patches.shape[2] + 1
    square = np.full((_EDGE * rows, _EDGE * columns), background)
    for number, patch in enumerate(patches):
        row, column = divmod(number, _EDGE)
        square[row * rows : (row + 1) * rows - 1, column * columns : (column + 1) * columns - 1] = patch
    return square


def _slices(patches: np.ndarray) -> np.ndarray:
    return patches if patches.ndim == 3 else patches[..., patches.shape[3] // 2]
