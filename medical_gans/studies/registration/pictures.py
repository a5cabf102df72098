"""What a registration moved, for a person to judge: MR and CT before and after, in squares and in outline, and mm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medical_gans.io.orientation import ras_shape, ras_spacing, ras_view
from medical_gans.report.pictures import Sheet
from medical_gans.report.views import AXIAL, CORONAL, SAGITTAL, Plane, Window, radiological_slice
from medical_gans.studies.registration.pair import RegisteredPair

CAPTION = (
    "Two axial planes, one coronal, one sagittal. Squares of MR and CT: edges that break at a square are off. Orange: "
    "bone of the CT (above 250 HU) on the MR, which should cover what is dark there. Green: trusted; red: in the body "
    "and not trusted. Moved: mm between where the scanners put a voxel's content and where it was found."
)
_CT_WINDOW = Window(50, 500)
_BONE_HU = 250
_SQUARE_MM = 20.0
_GAP, _LEFT, _TOP, _SCALE = 8, 26, 30, 46
_WIDEST, _HIGHEST = 240, 250
_GREEN, _RED, _ORANGE = (0.25, 0.8, 0.4), (0.95, 0.25, 0.2), (1.0, 0.6, 0.15)

Drawing = Callable[[Plane, int], np.ndarray]


def registration_sheet(pair: RegisteredPair, mr: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """MR, CT as it came and registered, both laid over the MR, what is trusted, and how far it moved.

    Args:
        pair: registered.
        mr: ``(i, j, k)``, on its grid.
        affine: ``(4, 4)``, of both.
        path: PNG to write.

    Raises:
        OutputError: it cannot be written.
    """
    columns = _columns(pair, mr, affine)
    shape, edges = ras_shape(mr.shape, affine), np.array(ras_spacing(affine))
    most = max(5.0, float(np.ceil(np.percentile(pair.displacement[pair.mask], 99) / 5) * 5)) if pair.mask.any() else 5.0
    rows = _rows(ras_view(pair.mask, affine), ras_view(pair.hounsfield, affine))
    sizes = [_size(plane, shape, edges) for plane, _ in rows]
    scale = min(_WIDEST / max(w for w, _ in sizes), _HIGHEST / max(h for _, h in sizes))
    width = scale * max(w for w, _ in sizes)
    height = _TOP + sum(scale * h + _GAP for _, h in sizes) + _SCALE
    sheet = Sheet(_LEFT + len(columns) * (width + _GAP), height)
    for number, (title, draw) in enumerate(columns):
        x, y = _LEFT + number * (width + _GAP), float(_TOP)
        sheet.words(title, (x + width / 2, 15))
        for (plane, index), (across, up) in zip(rows, sizes, strict=True):
            box = (x + (width - scale * across) / 2, y, scale * across, scale * up)
            is_scale = title == "moved"
            colours, limits = ("viridis", (0.0, most)) if is_scale else ("gray", (0.0, 1.0))
            sheet.picture(draw(plane, index), box, colours=colours, limits=limits, letters=plane.letters)
            if number == 0:
                sheet.words(plane.name, (12, y + scale * up / 2), faint=True, turned=True)
            y += scale * up + _GAP
        if title == "moved":
            sheet.colour_bar((x, y + 4, width, 10), "viridis", (0.0, most), "mm")
    return sheet.save(path)


def _columns(pair: RegisteredPair, mr: np.ndarray, affine: np.ndarray) -> list[tuple[str, Drawing]]:
    """Title of each column, and what draws a slice of it."""
    views = {
        name: ras_view(array, affine)
        for name, array in (
            ("mr", mr),
            ("before", pair.before),
            ("after", pair.hounsfield),
            ("mask", pair.mask),
            ("trusted", pair.trusted),
            ("moved", pair.displacement),
        )
    }
    edges = np.array(ras_spacing(affine))
    low, high = (float(v) for v in np.percentile(mr, (0.5, 99.7)))
    grey = Window((low + high) / 2, max(high - low, 1e-6))

    def cut(name: str) -> Drawing:
        return lambda plane, index: radiological_slice(views[name], plane, index)

    def squares(name: str) -> Drawing:
        def draw(plane: Plane, index: int) -> np.ndarray:
            first, second = grey(cut("mr")(plane, index)), _CT_WINDOW(cut(name)(plane, index))
            return np.where(_board(first.shape, _edges_of(plane, edges)), first, second)

        return draw

    def outlined(name: str) -> Drawing:
        def draw(plane: Plane, index: int) -> np.ndarray:
            image = grey(cut("mr")(plane, index))
            return _tinted(image, cut(name)(plane, index) > _BONE_HU, _ORANGE, 0.55)

        return draw

    def trusted(plane: Plane, index: int) -> np.ndarray:
        image = _CT_WINDOW(cut("after")(plane, index))
        believed, inside = cut("trusted")(plane, index) > 0, cut("mask")(plane, index) > 0
        return _tinted(_tinted(image, believed, _GREEN, 0.3), inside & ~believed, _RED, 0.45)

    return [
        ("MR", lambda plane, index: grey(cut("mr")(plane, index))),
        ("CT as it came", lambda plane, index: _CT_WINDOW(cut("before")(plane, index))),
        ("CT registered", lambda plane, index: _CT_WINDOW(cut("after")(plane, index))),
        ("squares before", squares("before")),
        ("squares after", squares("after")),
        ("bone on MR before", outlined("before")),
        ("bone on MR after", outlined("after")),
        ("trusted", trusted),
        ("moved", cut("moved")),
    ]


def thumbnail(pair: RegisteredPair, mr: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """Squares of MR and registered CT in one axial plane."""
    first, second = ras_view(mr, affine), ras_view(pair.hounsfield, affine)
    low, high = (float(v) for v in np.percentile(mr, (0.5, 99.7)))
    (plane, index), *_ = _rows(ras_view(pair.mask, affine), second)
    edges = np.array(ras_spacing(affine))
    across, up = _size(plane, first.shape, edges)
    scale = 110 / max(across, up)
    sheet = Sheet(scale * across, scale * up)
    grey = Window((low + high) / 2, max(high - low, 1e-6))(radiological_slice(first, plane, index))
    ct = _CT_WINDOW(radiological_slice(second, plane, index))
    image = np.where(_board(grey.shape, _edges_of(plane, edges)), grey, ct)
    sheet.picture(image, (0, 0, scale * across, scale * up))
    return sheet.save(path)


def _rows(mask: np.ndarray, hounsfield: np.ndarray) -> list[tuple[Plane, int]]:
    """Planes through the bone, or through the body where there is little."""
    bone = (hounsfield > _BONE_HU) & (mask > 0)
    chosen = bone if bone.sum() > 100 else mask > 0
    where = np.nonzero(chosen if chosen.any() else np.ones(mask.shape, bool))
    levels = np.quantile(where[2], (0.25, 0.75)).astype(int)
    return [
        (AXIAL, int(levels[1])),
        (AXIAL, int(levels[0])),
        (CORONAL, int(np.median(where[1]))),
        (SAGITTAL, int(np.median(where[0]))),
    ]


def _edges_of(plane: Plane, edges: np.ndarray) -> tuple[float, float]:
    across, up = (axis for axis in range(3) if axis != plane.axis)
    return float(edges[up]), float(edges[across])


def _size(plane: Plane, shape: tuple[int, ...], edges: np.ndarray) -> tuple[float, float]:
    across, up = (axis for axis in range(3) if axis != plane.axis)
    return float(shape[across] * edges[across]), float(shape[up] * edges[up])


def _board(shape: tuple[int, ...], edges: tuple[float, float]) -> np.ndarray:
    rows, columns = (np.arange(n) * edge // _SQUARE_MM for n, edge in zip(shape, edges, strict=True))
    even: np.ndarray = (rows[:, None] + columns[None]) % 2 == 0
    return even


def _tinted(image: np.ndarray, where: np.ndarray, colour: tuple[float, ...], strength: float) -> np.ndarray:
    tinted = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return np.where(where[..., None], (1 - strength) * tinted + strength * np.array(colour), tinted)
