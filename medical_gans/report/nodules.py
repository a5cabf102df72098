"""Pictures of nodules: grids and films, a placed nodule, real beside generated, their features and classifiers.

All of one picture in one window of HU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.io import whole_file
from medical_gans.io.orientation import ras_view
from medical_gans.report.pictures import FAINT, INK, SERIES_COLOURS, SIGNAL, Sheet
from medical_gans.report.views import AXIAL, CORONAL, SAGITTAL, Plane, radiological_slice

_TILE = 112
_GAP = 3
_COLUMNS = 8
_LEFT = 8
_HEAD = 26
_WORD = 14
_VIEW = 260
_SQUARE, _SEAM, _TITLE = 688, 2, 30
_EDGE = 8
_PAIRS = 10
_VIEW_MM = 30.0  # around a placed nodule, beyond its own extent


def middle_slice(patch: np.ndarray) -> np.ndarray:
    """The patch itself, or the middle slice of a volume."""
    return patch if patch.ndim == 2 else patch[..., patch.shape[2] // 2]


def draw_grid(groups: Mapping[str, Sequence[tuple[str, np.ndarray]]], window: tuple[float, float], path: Path) -> Path:
    """Nodules in rows under the name of their group, each with a word below it.

    Raises:
        OutputError: the PNG cannot be written.
    """
    rows = sum(-(-len(patches) // _COLUMNS) for patches in groups.values())
    pitch = _TILE + _GAP
    has_words = any(word for patches in groups.values() for word, _ in patches)
    line_height = pitch + (_WORD if has_words else 0)
    width = 2 * _LEFT + min(_COLUMNS, max(len(patches) for patches in groups.values())) * pitch - _GAP
    sheet = Sheet(max(width, 240), len(groups) * _HEAD + rows * line_height + _GAP)
    top = 0
    for name, patches in groups.items():
        sheet.words(name, (max(width, 240) / 2, top + _HEAD / 2))
        top += _HEAD
        for number, (word, patch) in enumerate(patches):
            left, line = _LEFT + number % _COLUMNS * pitch, top + number // _COLUMNS * line_height
            sheet.picture(middle_slice(patch), (left, line, _TILE, _TILE), limits=window)
            sheet.words(word, (left + _TILE / 2, line + _TILE + _WORD / 2 + 1), faint=True)
        top += -(-len(patches) // _COLUMNS) * line_height
    return sheet.save(path)


def draw_gif(frames: Sequence[np.ndarray], window: tuple[float, float], path: Path, milliseconds: int) -> Path:
    """Frames ``(rows, columns)`` in HU as an endless film, enlarged to some 280 pixels.

    Raises:
        OutputError: it cannot be written.
    """
    from PIL import Image

    low, high = window
    images = []
    for frame in frames:
        grey = np.rint(np.clip((middle_slice(frame) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        factor = max(1, 280 // max(grey.shape))
        images.append(
            Image.fromarray(grey).resize((grey.shape[1] * factor, grey.shape[0] * factor), Image.Resampling.BICUBIC)
        )
    with whole_file(path) as temporary:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return path


def draw_placement(
    before: np.ndarray,
    after: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    window: tuple[float, float],
    path: Path,
) -> Path:
    """The CT before and after, and the mask's outline, in three planes through the nodule, all at one scale.

    Args:
        before: HU ``(i, j, k)``.
        after: with the nodule.
        mask: of the nodule.
        affine: ``(4, 4)``, index to RAS mm.
        window: HU shown black and white.
        path: PNG to write.

    Raises:
        OutputError: it cannot be written.
    """
    views = [ras_view(volume, affine) for volume in (before, after, mask)]
    spacing = np.sqrt(np.square(ras_axes(affine)).sum(axis=0))
    inside = np.argwhere(views[2])
    centre = np.round(inside.mean(axis=0)).astype(int)
    side = 2 * _VIEW_MM + float((np.ptp(inside, axis=0) * spacing).max())
    sheet = Sheet(_HEAD + 3 * (_VIEW + _GAP) + _LEFT, _HEAD + 3 * (_VIEW + _GAP))
    for column, title in enumerate(("CT", "with the nodule", "mask")):
        sheet.words(title, (_HEAD + column * (_VIEW + _GAP) + _VIEW / 2, _HEAD / 2))
    for row, plane in enumerate((AXIAL, CORONAL, SAGITTAL)):
        top = _HEAD + row * (_VIEW + _GAP)
        sheet.words(plane.name, (_HEAD / 2, top + _VIEW / 2), faint=True, turned=True)
        for column in range(3):
            left = _HEAD + column * (_VIEW + _GAP)
            drawn = _region(views[min(column, 1)], plane, centre, spacing, side, window[0])
            letters = plane.letters if column == 0 else ()
            sheet.picture(drawn, (left, top, _VIEW, _VIEW), limits=window, letters=letters)
            if column == 2:
                outline = _region(views[2].astype(np.float32), plane, centre, spacing, side, 0.0)
                steps = [(np.arange(n) + 0.5) / n * _VIEW for n in outline.shape]
                sheet.page.contour(left + steps[1], top + steps[0], outline, [0.5], colors=SIGNAL, linewidths=1.0)
    return sheet.save(path)


def ras_axes(affine: np.ndarray) -> np.ndarray:
    """Columns of an affine (3 x 3) in the order and direction of a `ras_view`."""
    from nibabel.orientations import io_orientation

    orientation = io_orientation(affine)
    return (affine[:3, :3] * orientation[:, 1])[:, np.argsort(orientation[:, 0])]


def _region(
    view: np.ndarray, plane: Plane, centre: np.ndarray, spacing: np.ndarray, side: float, beyond: float
) -> np.ndarray:
    """Square of `side` mm about the centre, as a picture; `beyond` fills what lies outside the volume."""
    cut = view[(slice(None),) * plane.axis + (slice(centre[plane.axis], centre[plane.axis] + 1),)]
    across = [axis for axis in range(3) if axis != plane.axis]
    half = {axis: round(side / 2 / spacing[axis]) for axis in across}
    index, padding = [slice(None)] * 3, [(0, 0)] * 3
    for axis in across:
        first, last = centre[axis] - half[axis], centre[axis] + half[axis] + 1
        index[axis] = slice(max(first, 0), min(last, view.shape[axis]))
        padding[axis] = (max(-first, 0), max(last - view.shape[axis], 0))
    return radiological_slice(np.pad(cut[tuple(index)], padding, constant_values=beyond), plane, 0)


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
    sheet = Sheet(2 * _SQUARE + 26, _TITLE + _SQUARE)
    for place, (patches, title) in enumerate(zip((real, generated), titles, strict=True)):
        left = place * (_SQUARE + 26)
        sheet.words(title, (left + _SQUARE / 2, _TITLE / 2))
        square = _mosaic(_slices(patches[: _EDGE**2]), window[0])
        sheet.picture(square, (left, _TITLE, _SQUARE, _SQUARE), limits=(window[0], window[1]))
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
    block = _TITLE + 2 * (tile + _SEAM) + 24
    sheet = Sheet(left + _PAIRS * (tile + 6), len(rows) * block)
    for number, row in enumerate(rows):
        top = number * block
        sheet.words(row.title, (sheet.width / 2, top + _TITLE / 2))
        for line, (words, patches) in enumerate((("generated", row.generated), ("training", row.training))):
            above = top + _TITLE + line * (tile + _SEAM)
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
        axes = sheet.axes((number * width + 50, _TITLE, width - 70, height - _TITLE - 96))
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
        sheet.words(f"{real} and {other}", (number * width + width / 2, _TITLE / 2))
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
