"""Pictures by which a person judges the methods: outlines on a patient, Dice of all patients, the feature space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medical_gans.evaluation.lesion_features import SOURCE, TARGET, FeaturePicture
from medical_gans.io.orientation import ras_view
from medical_gans.report.pictures import FAINT, INK, SERIES_COLOURS, Box, Sheet
from medical_gans.report.views import AXIAL, CORONAL, CaseVolumes, Plane, radiological_slice

TRUTH_COLOUR, PREDICTION_COLOUR = "#7CFC6A", "#ff9f43"
_GREY = (1.0, 99.5)  # percentiles of the head
_WIDEST, _PAGE, _GAP, _HEAD, _LEFT = 330.0, 1980.0, 6, 58, 22


def outlines(
    path: Path,
    image: np.ndarray,
    affine: np.ndarray,
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    words: Mapping[str, str],
) -> Path:
    """The slices with most of the lesion, a column for each method: truth and prediction as outlines.

    Args:
        path: PNG to write.
        image: ``(i, j, k)``, any scale.
        affine: index to RAS+ mm.
        truth: lesions; every value but 0 counts.
        predictions: by method, as `truth`.
        words: by method, such as its Dice.

    Raises:
        OutputError: `path` cannot be written.
    """
    head = _head(image)
    case = CaseVolumes.from_stored(image[head], truth[head], _moved(affine, head))
    masks = {name: ras_view(mask[head] > 0, affine) for name, mask in predictions.items()}
    true = case.synthetic_ct > 0
    shown = true if true.any() else np.any(list(masks.values()), axis=0)
    low, high = (float(v) for v in np.percentile(case.mr, _GREY))
    planes = (AXIAL, CORONAL)
    sizes = [case.slice_size(plane) for plane in planes]
    column = min(_WIDEST, _PAGE / (len(masks) + 1))
    scale = column / max(width for width, _ in sizes)
    height = _HEAD + sum(scale * high + _GAP for _, high in sizes)
    sheet = Sheet(_LEFT + (len(masks) + 1) * (column + _GAP), height)
    for number, (name, mask) in enumerate((("truth", None), *masks.items())):
        x = _LEFT + number * (column + _GAP)
        sheet.words(name, (x + column / 2, 14))
        sheet.words("green: truth   orange: prediction" if mask is None else words[name], (x + column / 2, 36))
        y = float(_HEAD)
        for plane, (width, tall) in zip(planes, sizes, strict=True):
            index = _fullest(shown, plane)
            box = (x + (column - scale * width) / 2, y, scale * width, scale * tall)
            grey = radiological_slice(case.mr, plane, index)
            sheet.picture(grey, box, limits=(low, max(high, low + 1e-6)), letters=plane.letters)
            _outline(sheet, radiological_slice(true, plane, index), box, TRUTH_COLOUR, width=2.2)  # seen beneath
            if mask is not None:
                _outline(sheet, radiological_slice(mask, plane, index), box, PREDICTION_COLOUR, width=1.0)
            if mask is None:
                label = f"{plane.name}  {case.position(plane, index):.0f} mm"
                sheet.words(label, (_LEFT / 2, y + scale * tall / 2), faint=True, turned=True)
            y += scale * tall + _GAP
    return sheet.save(path)


def dice_of_patients(path: Path, dice: Mapping[str, np.ndarray], cases: Sequence[str]) -> Path:
    """Dice of every patient by method, a line for each patient, and the mean.

    Args:
        path: PNG to write.
        dice: by method, ``(seed, case)``.
        cases: names of the patients.

    Raises:
        OutputError: `path` cannot be written.
    """
    named = len(cases) <= len(SERIES_COLOURS)
    sheet = Sheet(max(420, 110 + 150 * len(dice)), 430)
    axes = sheet.axes((60, 16, sheet.width - 80, 350 if named else 370))
    means = np.array([values.mean(0) for values in dice.values()])
    places = np.arange(len(dice))
    for number, case in enumerate(cases):
        colour = SERIES_COLOURS[number % len(SERIES_COLOURS)] if named else FAINT
        line = {"color": colour, "linewidth": 1.2, "marker": "o", "markersize": 4, "alpha": 1.0 if named else 0.5}
        axes.plot(places, means[:, number], label=case, **line)  # type: ignore[arg-type]
    axes.plot(places, means.mean(1), linestyle="none", marker="_", markersize=34, markeredgewidth=3, color=INK)
    axes.set_xticks(places, list(dice))
    axes.set(ylim=(-0.02, 1.02), xlim=(-0.5, len(dice) - 0.5), ylabel="Dice; bar: mean")
    axes.grid(axis="y", alpha=0.15)
    if named:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.07))
    sheet.plain(axes)
    axes.tick_params(axis="x", labelsize=8.5, colors=INK)
    return sheet.save(path)


def feature_spaces(path: Path, pictures: Sequence[FeaturePicture]) -> Path:
    """Patches of both domains as each network sees them, side by side.

    Raises:
        OutputError: `path` cannot be written.
    """
    width, height, top = 500, 520, 52
    sheet = Sheet(len(pictures) * width, height)
    for number, picture in enumerate(pictures):
        left = number * width
        axes = sheet.axes((left + 54, top, width - 74, height - top - 76))
        order = np.random.default_rng(0).permutation(len(picture.domain))  # neither domain hides the other
        colours = np.array(SERIES_COLOURS[:2])[picture.domain[order]]
        axes.scatter(picture.points[order, 0], picture.points[order, 1], s=14, c=colours, alpha=0.75, linewidths=0)
        for domain, name in ((SOURCE, "source"), (TARGET, "target")):
            axes.plot([], [], "o", markersize=5, color=SERIES_COLOURS[domain], label=name)
        axes.set(xlabel=picture.axes[0], ylabel=picture.axes[1])
        axes.legend(
            frameon=False, labelcolor=INK, fontsize=8.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1)
        )
        sheet.plain(axes)
        sheet.words(picture.method, (left + width / 2, 16))
        told, apart = picture.accuracy.by_patient, picture.accuracy.by_patch
        words = f"{apart:.2f} on new patches" + ("" if told is None else f", {told:.2f} on new patients")
        sheet.words(f"domain classifier: {words} (chance: 0.5)", (left + width / 2, 36), faint=True)
    return sheet.save(path)


def _outline(sheet: Sheet, mask: np.ndarray, box: Box, colour: str, width: float) -> None:
    if not mask.any():
        return
    left, top, across, down = box
    filled = np.pad(mask.astype(np.float32), 1)
    x = left + (np.arange(filled.shape[1]) - 0.5) * across / mask.shape[1]
    y = top + (np.arange(filled.shape[0]) - 0.5) * down / mask.shape[0]
    sheet.page.contour(x, y, filled, levels=[0.5], colors=[colour], linewidths=width)


def _fullest(mask: np.ndarray, plane: Plane) -> int:
    """The slice that holds most of a mask; the middle one of an empty mask."""
    others = tuple(axis for axis in range(3) if axis != plane.axis)
    return int(mask.sum(others).argmax()) if mask.any() else mask.shape[plane.axis] // 2


def _head(image: np.ndarray) -> tuple[slice, ...]:
    """The box that is not background: brighter than a tenth of the way from the corner to the bright percentile."""
    corner = float(image[0, 0, 0])
    inside = np.abs(image - corner) > 0.1 * max(float(np.percentile(image, _GREY[1])) - corner, 1e-6)
    boxes = []
    for axis, edge in enumerate(image.shape):
        filled = np.flatnonzero(inside.mean(tuple(a for a in range(3) if a != axis)) > 0.005)
        boxes.append(slice(max(0, filled[0] - 4), min(edge, filled[-1] + 5)) if filled.size else slice(0, edge))
    return tuple(boxes)


def _moved(affine: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """The affine of what is cut out of a volume."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ [side.start for side in box]
    return moved
