"""Pictures of a training: what the networks make of the last batch, and how the losses went."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medical_gans.report.pictures import SERIES_COLOURS, Sheet, spoken

if TYPE_CHECKING:
    from torch import Tensor

_ORDER = ("mr", "synthetic_ct", "cycle_mr", "ct", "synthetic_mr", "cycle_ct")
_MOST_IMAGES = 4
_PANEL_COLUMNS = 4


def training_sheet(images: Mapping[str, Tensor], path: str | Path, *, tile: int = 224) -> Path:
    """Grid of the images of one training step: a column per name, a row per image of the batch.

    Args:
        images: ``(batch, channel, *spatial)`` in [-1, 1], spatial as (right, anterior[, superior]); of
            several channels and of a volume's slices the middle one is drawn. Known names come in the order
            MR, synthetic CT, cycle MR, CT, synthetic MR, cycle CT, others behind them.
        path: PNG to write.
        tile: pixels of the longer side of an image.

    Raises:
        OutputError: `path` cannot be written.
    """
    names = sorted(images, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    drawn = {name: [_upright(image) for image in images[name][:_MOST_IMAGES]] for name in names}
    rows = max(len(column) for column in drawn.values())
    sheet = Sheet(len(names) * (tile + 4), 26 + rows * (tile + 4))
    for column, name in enumerate(names):
        sheet.words(spoken(name), ((column + 0.5) * (tile + 4), 13))
        for row, image in enumerate(drawn[name]):
            scale = tile / max(image.shape)
            height, width = image.shape[0] * scale, image.shape[1] * scale
            left = column * (tile + 4) + (tile + 4 - width) / 2
            top = 26 + row * (tile + 4) + (tile - height) / 2
            sheet.picture(image, (left, top, width, height), limits=(-1.0, 1.0))
    return sheet.save(Path(path))


def _upright(image: Tensor) -> np.ndarray:
    """Middle channel and slice as rows from anterior and columns from the patient's right."""
    middle = image.detach()[image.shape[0] // 2]
    if middle.ndim == 3:
        middle = middle[..., middle.shape[-1] // 2]
    return middle.float().cpu().numpy()[::-1, ::-1].T


def loss_curves(csv_path: str | Path, png_path: str | Path) -> Path:
    """One small panel per figure of a log with the columns epoch, name, value.

    Args:
        csv_path: a row for each figure of each epoch.
        png_path: PNG to write.

    Raises:
        OutputError: `png_path` cannot be written.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    with open(csv_path, newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault(row["name"], []).append((float(row["epoch"]), float(row["value"])))
    columns = max(1, min(_PANEL_COLUMNS, len(curves)))
    rows = -(-len(curves) // columns)
    width, height = 300, 190
    sheet = Sheet(columns * width, max(1, rows) * height)
    for number, (name, points) in enumerate(curves.items()):
        left, top = number % columns * width, number // columns * height
        epochs, values = np.array(points).T
        axes = sheet.axes((left + 52, top + 26, width - 68, height - 54))
        axes.plot(epochs, values, color=SERIES_COLOURS[0], alpha=0.35, linewidth=1, marker=".", markersize=3)
        axes.plot(epochs, _running_mean(values), color=SERIES_COLOURS[0], linewidth=1.6)
        axes.set_xlim(min(epochs[0], 0), max(epochs[-1], 1))
        axes.grid(alpha=0.15)
        sheet.plain(axes)
        sheet.words(f"{spoken(name)}   {values[-1]:.4g}", (left + width / 2 + 10, top + 13))
    return sheet.save(Path(png_path))


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a tenth of the run so far, at most: calm, but not ahead of its time."""
    span = max(1, len(values) // 10)
    sums = np.cumsum(np.concatenate(([0.0], values)))
    first = np.maximum(np.arange(len(values)) - span + 1, 0)
    return (sums[1:] - sums[first]) / (np.arange(len(values)) - first + 1)
