"""``viewer.html``: the volumes of one case as a page that can be scrolled, offline, by double click.

The page holds its volumes as the file stores them: 16-bit numbers, slice by slice, compressed (zlib) and in base64. Its
slices follow the image's own grid, permuted and flipped to nearest right, anterior, superior, and never resampled, so
that a pixel of the page is a voxel of the file, on oblique grids as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import io_orientation

from medical_gans.errors import InputError
from medical_gans.io import mapped
from medical_gans.io.orientation import ras_affine, ras_view
from medical_gans.io.writing import whole_file
from medical_gans.report.page import PALETTE, RESEARCH_USE, publishable
from medical_gans.report.pictures import SERIES_COLOURS
from medical_gans.report.views import BONE, SOFT_TISSUE, Window, sampled
from medical_gans.report.voxels import PackedVolume, base64_length, fewer_voxels, pack, pack_flags

VIEWER = "viewer.html"
LARGEST_PAGE = 40_000_000
"""Bytes: beyond, volumes are averaged over blocks of voxels, and the page says so."""

LUNG, BRAIN = Window(-600, 1500), Window(40, 80)
PRESETS: Mapping[str, Window] = {"soft": SOFT_TISSUE, "bone": BONE, "lung": LUNG, "brain": BRAIN}

HOUNSFIELD, GREY, MAP = "hounsfield", "grey", "map"
_MOST_STRUCTURES = 32
_ROOM = 100_000  # bytes of the page beside its volumes
_SCRIPTS = ("volumes.js", "slices.js", "planes.js", "controls.js")
_TILTED = 1.0  # degrees from which on a grid is called oblique


class Place(NamedTuple):
    """Somewhere worth a look.

    Attributes:
        label: what is there, in a few words.
        position: RAS+ mm.
        warning: the sentence among the warnings that it belongs to, if any.
    """

    label: str
    position: tuple[float, float, float]
    warning: str = ""


@dataclass(frozen=True, eq=False)
class ViewedImage:
    """One image of a case.

    Attributes:
        name: as a person writes it.
        array: ``(i, j, k)`` in stored order; may be memory-mapped.
        kind: ``hounsfield`` (windows in HU), ``grey`` (any scale, a window of its own) or ``map`` (colours).
        unit: of its values.
        window: first one; None finds it.
    """

    name: str
    array: np.ndarray
    kind: str = HOUNSFIELD
    unit: str = "HU"
    window: Window | None = None

    def first_window(self) -> Window:
        """What is shown black and white at first."""
        if self.window is not None:
            return self.window
        if self.kind == HOUNSFIELD:
            return SOFT_TISSUE
        values = np.nan_to_num(sampled(self.array).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = (float(value) for value in np.percentile(values, (0.5, 99.7)))
        if high <= low:
            low, high = float(values.min()), float(values.max()) + 1.0
        return Window((low + high) / 2, high - low)


def write_viewer(
    path: Path,
    title: str,
    images: Sequence[ViewedImage],
    affine: np.ndarray,
    *,
    differences: Sequence[tuple[int, int]] = (),
    structures: Iterable[tuple[str, np.ndarray]] = (),
    places: Sequence[Place] = (),
    warnings: Sequence[str] = (),
    start: Sequence[float] | None = None,
    within: str | None = None,
    shown: Sequence[int] = (0, 1),
    faded: tuple[int, int] | None = (0, 1),
    largest: int = LARGEST_PAGE,
) -> Path:
    """Write the page.

    Args:
        path: HTML file.
        title: heading, without anything that identifies the patient.
        images: on one grid.
        affine: ``(4, 4)``, index to RAS+ mm.
        differences: pairs of numbers of images, the first minus the second.
        structures: name and mask ``(i, j, k)`` of each; taken one after the other, so that they may be made late.
        places: that one click leads to.
        warnings: sentences.
        start: RAS+ mm shown first; None is the middle.
        within: name of the structure inside which differences are shown; None shows them everywhere.
        shown: numbers of the images that are shown first.
        faded: numbers of the two that are faded over each other; None for none.
        largest: bytes that the page may have.

    Raises:
        InputError: the arrays are not all of one shape.
        OutputError: it cannot be written.
    """
    affine = np.asarray(affine, dtype=np.float64)
    shape = images[0].array.shape
    names, flags, left_out = _flags(structures, shape)
    for image in images:
        _check_shape(title, image.name, image.array, shape)
    orientation = io_orientation(affine)
    views = [ras_view(image.array, affine) for image in images]
    flag_views = [ras_view(flag, affine) for flag in flags]
    to_mm = ras_affine(affine, shape)
    spacing = np.linalg.norm(to_mm[:3, :3], axis=0).tolist()
    packed, factors = _packed(views, flag_views, spacing, largest - _ROOM)
    full = views[0].shape
    content: dict[str, Any] = {
        "title": title,
        "shape": [-(-edge // factor) for edge, factor in zip(full, factors, strict=True)],
        "full_shape": list(full),
        "factors": list(factors),
        "affine": to_mm.tolist(),
        # axis and direction of the page's axes in the file: what turns an index of the page into one of the file
        "stored": [[int(np.argmax(orientation[:, 0] == axis)), int(_sign(orientation, axis))] for axis in range(3)],
        "tilt": _tilt(to_mm),
        "images": [_described(image, volume) for image, volume in zip(images, packed, strict=False)],
        "shown": [number for number in shown if number < len(images)],
        "faded": list(faded) if faded is not None and max(faded) < len(images) else None,
        "differences": [list(pair) for pair in differences],
        "structures": [
            {"name": name, "colour": SERIES_COLOURS[number % len(SERIES_COLOURS)]} for number, name in enumerate(names)
        ],
        "within": names.index(within) if within in names else None,
        "presets": {name: list(window) for name, window in PRESETS.items()},
        "warnings": list(warnings),
        "places": [place._asdict() for place in places],
        "start": None if start is None else [float(value) for value in start],
        "left_out": left_out,
    }
    with whole_file(path) as temporary:
        _write(temporary, content, packed)
    return path


def middle_of(mask: np.ndarray, affine: np.ndarray) -> tuple[float, float, float] | None:
    """A voxel of a mask in its fullest slice along each axis, in RAS+ mm; None where it is empty."""
    if not mask.any():
        return None
    centre = [int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]
    return in_mm(affine, centre)


def in_mm(affine: np.ndarray, index: Sequence[float]) -> tuple[float, float, float]:
    """RAS+ mm of a voxel."""
    right, anterior, superior = (affine @ np.append(np.asarray(index, dtype=np.float64), 1.0))[:3]
    return float(right), float(anterior), float(superior)


def _flags(
    structures: Iterable[tuple[str, np.ndarray]], shape: tuple[int, ...]
) -> tuple[list[str], list[np.ndarray], int]:
    """Names, and volumes of which each bit is a structure, sixteen in each; how many were too many."""
    names: list[str] = []
    flags: list[np.ndarray] = []
    left_out = 0
    for name, mask in structures:
        _check_shape("structure", name, mask, shape)
        if len(names) == _MOST_STRUCTURES:
            left_out += 1
            continue
        if len(names) % 16 == 0:
            flags.append(mapped.zeros(shape, np.uint8))
        elif len(names) % 16 == 8:  # few cases have more
            flags[-1] = mapped.converted(flags[-1], np.uint16)
        bit = flags[-1].dtype.type(1 << (len(names) % 16))
        for index in range(shape[2]):
            flags[-1][:, :, index] |= (mask[:, :, index] > 0) * bit
            mapped.give_back()
        names.append(name)
    return names, flags, left_out


def _packed(
    views: Sequence[np.ndarray], flags: Sequence[np.ndarray], spacing: Sequence[float], largest: int
) -> tuple[list[PackedVolume], tuple[int, int, int]]:
    """All volumes, on a grid so coarse that they do not pass `largest`; and how many voxels each mean is made of."""
    factors = (1, 1, 1)
    while True:
        size = sum(base64_length(view, factors) for view in (*views, *flags))
        if size > largest and max(edge // f for edge, f in zip(views[0].shape, factors, strict=True)) > 1:
            factors = fewer_voxels(factors, spacing, views[0].shape)
            continue
        packed = [pack(view, factors) for view in views] + [pack_flags(flag, factors) for flag in flags]
        if sum(map(len, packed)) <= largest or factors == views[0].shape:
            return packed, factors
        factors = fewer_voxels(factors, spacing, views[0].shape)


def _described(image: ViewedImage, volume: PackedVolume) -> dict[str, Any]:
    return {
        "name": image.name,
        "kind": image.kind,
        "unit": image.unit,
        "window": list(image.first_window()),
        "slope": volume.slope,
        "intercept": volume.intercept,
    }


def _write(path: Path, content: Mapping[str, Any], volumes: Sequence[PackedVolume]) -> None:
    parts = files("medical_gans.report") / "viewer_page"
    text = Template((parts / "page.html").read_text(encoding="utf-8")).substitute(
        palette=PALETTE,
        style=(parts / "page.css").read_text(encoding="utf-8"),
        notice=RESEARCH_USE,
        content=json.dumps(publishable(content), allow_nan=False).replace("<", "\\u003c"),
        script="\n".join((parts / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        volumes="\0",
    )
    before, after = text.split("\0")
    with path.open("w", encoding="utf-8") as page:
        page.write(before)
        for volume in volumes:
            page.writelines(('<script type="text/plain" class="volume">', *volume.pieces, "</script>\n"))
        page.write(after)


def _check_shape(title: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{title}: {name} has shape {array.shape} but the others have {shape}; all need one grid.")


def _sign(orientation: np.ndarray, axis: int) -> float:
    return float(orientation[orientation[:, 0] == axis][0, 1])


def _tilt(to_mm: np.ndarray) -> float:
    """Largest angle in degrees between an axis of the grid and the patient's nearest axis; 0 where small."""
    cosines = np.abs(np.diag(to_mm[:3, :3])) / np.linalg.norm(to_mm[:3, :3], axis=0)
    degrees = float(np.rad2deg(np.arccos(np.clip(cosines, 0.0, 1.0))).max())
    return degrees if degrees > _TILTED else 0.0
