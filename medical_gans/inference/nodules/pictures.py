"""Pictures of nodules, all in one window of HU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medical_gans.io import whole_file
from medical_gans.report.sheet import SIGNAL, Sheet
from medical_gans.report.views import AXIAL, CORONAL, SAGITTAL, Plane, radiological_slice, ras_view

_TILE = 112
_GAP = 3
_COLUMNS = 8
_LEFT = 8
_HEAD = 26
_WORD = 14
_VIEW = 260
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
