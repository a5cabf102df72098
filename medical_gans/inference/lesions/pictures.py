"""Pictures of a segmented case: each sequence with the outlines of its lesions, and the probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medical_gans.io.orientation import ras_affine, ras_view
from medical_gans.report.pictures import SERIES_COLOURS, Sheet
from medical_gans.report.views import AXIAL, CORONAL, SAGITTAL, Plane, radiological_slice

CAPTIONS = {
    "planes": "Three planes through the largest lesion, or through the middle where there is none; the patient's right "
    "is on the left. R, L, A, P, S, I: right, left, anterior, posterior, superior, inferior. Positions in mm of the "
    "file's own space.",
    "slices": "Axial slices through all lesions, or through all that the image shows where there is none.",
}
_GAP = 8
_HEAD, _LEFT = 30, 26
_WIDEST, _HIGHEST = 300, 330
_SHOWN_SLICES, _SLICE_COLUMNS, _TILE = 16, 8, 180.0
_MARGIN_MM = 6.0
_GREY = (0.5, 99.2)  # percentiles of the foreground shown black and white


@dataclass(frozen=True, eq=False)
class LesionPictures:
    """A case cut to its foreground, every array a `ras_view`.

    Attributes:
        channels: any scale, by name.
        foreground: head or brain.
        label: classes.
        probability: of any lesion.
        affine: voxel index -> RAS+ mm.
        classes: names, the background first.
    """

    channels: Mapping[str, np.ndarray]
    foreground: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    affine: np.ndarray
    classes: Sequence[str]

    @classmethod
    def from_stored(
        cls,
        channels: Mapping[str, np.ndarray],
        foreground: np.ndarray,
        label: np.ndarray,
        probability: np.ndarray,
        affine: np.ndarray,
        classes: Sequence[str],
    ) -> LesionPictures:
        """From arrays on one grid, in stored order, and their affine."""
        to_ras = ras_affine(affine, label.shape)
        shown = ras_view(foreground, affine) | (ras_view(label, affine) > 0)
        (box,) = ndimage.find_objects(shown.astype(np.uint8)) or [None]
        box = box or tuple(slice(0, n) for n in label.shape)
        margins = [int(np.ceil(_MARGIN_MM / edge)) for edge in np.linalg.norm(to_ras[:3, :3], axis=0)]
        box = tuple(slice(max(0, one.start - m), one.stop + m) for one, m in zip(box, margins, strict=True))
        to_ras[:3, 3] += to_ras[:3, :3] @ [one.start for one in box]

        def cut(array: np.ndarray) -> np.ndarray:
            return ras_view(array, affine)[box]

        named = {name: cut(array) for name, array in channels.items()}
        return cls(named, cut(foreground), cut(label), cut(probability), to_ras, classes)

    def draw(self, folder: Path) -> None:
        """Write ``planes.png``, ``slices.png`` and ``thumbnail.png``.

        Raises:
            OutputError: they cannot be written.
        """
        greys = {name: self._grey(array) for name, array in self.channels.items()}
        self._planes(greys, folder / "planes.png")
        self._slices(greys, folder / "slices.png")
        self._thumbnail(next(iter(greys.values())), folder / "thumbnail.png")

    def _grey(self, array: np.ndarray) -> Callable[[Plane, int], np.ndarray]:
        inside = array[self.foreground] if self.foreground.any() else array.ravel()
        low, high = np.percentile(inside[:: max(1, inside.size // 500_000)], _GREY)
        scale = max(float(high - low), 1e-6)

        def draw(plane: Plane, index: int) -> np.ndarray:
            grey = np.clip((radiological_slice(array, plane, index) - low) / scale, 0, 1)
            return np.where(radiological_slice(self.foreground, plane, index), grey, 0)

        return draw

    def _size(self, plane: Plane) -> tuple[float, float]:
        """Width and height of a slice in mm."""
        size = np.linalg.norm(self.affine[:3, :3], axis=0) * self.label.shape
        across, up = (axis for axis in range(3) if axis != plane.axis)
        return float(size[across]), float(size[up])

    def _position(self, plane: Plane, index: int) -> float:
        middle = (np.array(self.label.shape) - 1) / 2
        middle[plane.axis] = index
        return float((self.affine[:3, :3] @ middle + self.affine[:3, 3])[plane.axis])

    def _centre(self) -> list[int]:
        """A voxel of the largest lesion in the slice along each axis where most of it shows; else the middle."""
        if not self.label.any():
            return [n // 2 for n in self.label.shape]
        components, _ = ndimage.label(self.label > 0)
        largest = components == np.bincount(components.ravel())[1:].argmax() + 1
        return [int(largest.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]

    def _outline(self, sheet: Sheet, plane: Plane, index: int, box: tuple[float, float, float, float]) -> None:
        left, top, width, height = box
        labels = radiological_slice(self.label, plane, index)
        for value in np.unique(labels[labels > 0]).tolist():
            # a frame of zeros closes the outline of what touches the border
            mask = np.pad((labels == value).astype(np.float32), 1)
            y, x = ((np.arange(n) - 0.5) / (n - 2) for n in mask.shape)
            colour = SERIES_COLOURS[value % len(SERIES_COLOURS)]
            sheet.page.contour(left + x * width, top + y * height, mask, [0.5], colors=colour, linewidths=0.9)

    def _planes(self, greys: Mapping[str, Callable[[Plane, int], np.ndarray]], path: Path) -> None:
        first = next(iter(greys))
        columns = [(first, greys[first], False), *((f"{name}, outlined", grey, True) for name, grey in greys.items())]
        planes, centre = (AXIAL, CORONAL, SAGITTAL), self._centre()
        sizes = [self._size(plane) for plane in planes]
        scale = min(_WIDEST / max(w for w, _ in sizes), _HIGHEST / max(h for _, h in sizes))
        column = scale * max(w for w, _ in sizes)
        height = _HEAD + sum(scale * high + _GAP for _, high in sizes)
        sheet = Sheet(_LEFT + (len(columns) + 1) * (column + _GAP), height + 46)
        titles = [title for title, *_ in columns] + ["probability"]
        for number, title in enumerate(titles):
            sheet.words(title, (_LEFT + number * (column + _GAP) + column / 2, _HEAD / 2))
        y = float(_HEAD)
        for plane, (width, high) in zip(planes, sizes, strict=True):
            index = centre[plane.axis]
            for number, (_, draw, outlined) in enumerate(columns):
                box = self._box(number, column, y, scale * width, scale * high)
                sheet.picture(draw(plane, index), box, letters=plane.letters)
                if outlined:
                    self._outline(sheet, plane, index, box)
            likely = radiological_slice(self.probability, plane, index)
            box = self._box(len(columns), column, y, scale * width, scale * high)
            sheet.picture(likely, box, colours="inferno", letters=plane.letters)
            label = f"{plane.name}  {self._position(plane, index):.0f} mm"
            sheet.words(label, (13, y + scale * high / 2), faint=True, turned=True)
            y += scale * high + _GAP
        left = _LEFT + len(columns) * (column + _GAP)
        sheet.colour_bar((left + column * 0.1, y + 4, column * 0.8, 10), "inferno", (0, 100), "%")
        self._key(sheet, y + 14)
        sheet.save(path)

    @staticmethod
    def _box(number: int, column: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        return _LEFT + number * (column + _GAP) + (column - width) / 2, top, width, height

    def _key(self, sheet: Sheet, y: float) -> None:
        """Names of the classes that occur, in the colours of their outlines."""
        x = float(_LEFT + 8)
        for value in np.unique(self.label[self.label > 0]).tolist():
            name = self.classes[value] if value < len(self.classes) else f"class {value}"
            sheet.page.plot([x, x + 18], [y, y], color=SERIES_COLOURS[value % len(SERIES_COLOURS)], linewidth=1.6)
            width = 7 * len(name)
            sheet.words(name, (x + 28 + width / 2, y), faint=True)
            x += 50 + width

    def _slices(self, greys: Mapping[str, Callable[[Plane, int], np.ndarray]], path: Path) -> None:
        filled = np.flatnonzero((self.label > 0).any(axis=(0, 1)))
        first, last = (filled[0], filled[-1]) if filled.size else (0, self.label.shape[2] - 1)
        indices = np.linspace(first, last, min(_SHOWN_SLICES, last - first + 1)).round().astype(int).tolist()
        width, high = self._size(AXIAL)
        width, high = (_TILE / max(width, high) * side for side in (width, high))
        rows = [indices[n : n + _SLICE_COLUMNS] for n in range(0, len(indices), _SLICE_COLUMNS)]
        block = 22 + len(greys) * (high + 2)
        sheet = Sheet(_LEFT + len(rows[0]) * width + _GAP, len(rows) * block + _GAP)
        for number, row in enumerate(rows):
            top = number * block + 22
            for place, index in enumerate(row):
                left = _LEFT + place * width
                sheet.words(f"{self._position(AXIAL, index):.0f} mm", (left + width / 2, top - 11), faint=True)
                for line, draw in enumerate(greys.values()):
                    box = (left, top + line * (high + 2), width, high)
                    sheet.picture(draw(AXIAL, index), box)
                    self._outline(sheet, AXIAL, index, box)
            for line, name in enumerate(greys):
                sheet.words(name, (13, top + line * (high + 2) + high / 2), faint=True, turned=True)
        sheet.save(path)

    def _thumbnail(self, grey: Callable[[Plane, int], np.ndarray], path: Path) -> None:
        width, high = self._size(AXIAL)
        scale = 120.0 / max(width, high)
        box = (0.0, 0.0, scale * width, scale * high)
        sheet = Sheet(box[2], box[3])
        index = self._centre()[AXIAL.axis]
        sheet.picture(grey(AXIAL, index), box)
        self._outline(sheet, AXIAL, index, box)
        sheet.save(path)
