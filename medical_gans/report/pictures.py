"""Pictures of one case that a person can judge in ten seconds, and the dark sheet in pixels that they are drawn on.

matplotlib is imported where something is drawn: while an MR is translated it would only take memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medical_gans.io import mapped
from medical_gans.io.writing import whole_file
from medical_gans.report.views import (
    AXIAL,
    BONE,
    CORONAL,
    SAGITTAL,
    SOFT_TISSUE,
    CaseVolumes,
    Plane,
    Window,
    radiological_slice,
    sampled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

PAPER = "#101214"
INK = "#e8e8e6"
FAINT = "#9a9fa5"
SIGNAL = "#ffd75e"
SERIES_COLOURS = ("#5cc8ff", "#ffb454", "#8ddb8c", "#f28fb1", "#c7a6ff", "#e6dd6b")

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

_ACRONYMS = {"mr", "ct", "mae", "psnr", "ssim", "ms", "fid", "kid"}
_EDGES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.985, "center", "top"),
    (0.5, 0.015, "center", "bottom"),
)


@cache
def difference_colours() -> Colormap:
    """Blue where too low, black where right, orange where too high."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = ["#d6f0ff", "#2f9bff", "#0c3f7a", "#0a0a0a", "#7a2410", "#ff6a3a", "#ffe9d1"]
    return LinearSegmentedColormap.from_list("difference", colours)


def spoken(name: str) -> str:
    """Name of an image or figure as a person writes it: ``synthetic_ct`` is synthetic CT."""
    return " ".join(word.upper() if word in _ACRONYMS else word for word in name.split("_"))


class Sheet:
    """A picture file under construction; the origin is its upper left corner.

    Args:
        width: pixels.
        height: pixels.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = round(width), round(height)
        self.figure = Figure(figsize=(self.width / 100, self.height / 100), dpi=100, facecolor=PAPER)
        # Axes cost more time than the picture in them: all pictures share these, in pixels.
        self.page = self.axes((0, 0, self.width, self.height))
        self.page.set(xlim=(0, self.width), ylim=(self.height, 0), autoscale_on=False)
        self.page.set_axis_off()

    def axes(self, box: Box) -> Axes:
        """Empty axes over a rectangle of the page."""
        left, top, width, height = box
        place = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(place, facecolor=PAPER)

    def picture(
        self,
        image: np.ndarray,
        box: Box,
        *,
        colours: str | Colormap = "gray",
        limits: tuple[float, float] = (0.0, 1.0),
        letters: Sequence[str] = (),
    ) -> None:
        """Stretch `image` (rows from top to bottom) over `box`.

        Letters stand at the left, right, top and bottom edge.
        """
        from matplotlib.patheffects import withStroke

        left, top, width, height = box
        extent = (left, left + width, top + height, top)
        self.page.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto", extent=extent)
        for letter, (x, y, across, up) in zip(letters, _EDGES, strict=False):
            self.page.text(
                left + x * width,
                top + (1 - y) * height,
                letter,
                color=SIGNAL,
                size=8,
                weight="bold",
                ha=across,
                va=up,
                path_effects=[withStroke(linewidth=2, foreground="black")],
            )

    def words(self, text: str, centre: tuple[float, float], *, faint: bool = False, turned: bool = False) -> None:
        """Write a line of text around a point."""
        self.figure.text(
            centre[0] / self.width,
            1 - centre[1] / self.height,
            text,
            color=FAINT if faint else INK,
            size=8 if faint else 8.5,
            ha="center",
            va="center",
            rotation=90 if turned else 0,
        )

    def colour_bar(self, box: Box, colours: str | Colormap, limits: tuple[float, float], unit: str) -> None:
        """Horizontal scale with three ticks beneath."""
        axes = self.axes(box)
        axes.imshow(np.linspace(0, 1, 256)[None], cmap=colours, aspect="auto", extent=(*limits, 0, 1))
        ticks = np.linspace(*limits, 3)
        axes.set_yticks([])
        sign = "+" if limits[0] < 0 else ""
        axes.set_xticks(ticks, [f"{tick:{sign if tick else ''}.0f} {unit}" for tick in ticks])
        axes.get_xticklabels()[0].set_horizontalalignment("left")
        axes.get_xticklabels()[-1].set_horizontalalignment("right")
        self.plain(axes)

    def plain(self, axes: Axes) -> None:
        """Give axes the colours of the page."""
        axes.tick_params(colors=FAINT, labelsize=7.5, length=2)
        axes.xaxis.label.set(color=FAINT, size=8.5)
        axes.yaxis.label.set(color=FAINT, size=8.5)
        for spine in axes.spines.values():
            spine.set_color("#3a3f45")

    def save(self, path: Path) -> Path:
        """Write the PNG, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            # Twice the size of level 9 in a tenth of the time: pictures must not outlast the network.
            self.figure.savefig(temporary, format="png", facecolor=PAPER, pil_kwargs={"compress_level": 2})
        self.figure.clear()
        return path


GAP = 8
DIFFERENCE_HU = 500.0
HISTOGRAM_EDGES = np.arange(-1025, 2026, 25)
_CONTACT_SLICES = 16
_CONTACT_COLUMNS = 8


@dataclass(frozen=True)
class Panel:
    """One column of a sheet: what is drawn of a slice, and in which colours."""

    title: str
    short: str
    draw: Callable[[Plane, int], np.ndarray]
    colours: str | Colormap = "gray"
    limits: tuple[float, float] = (0.0, 1.0)
    bar: bool = False


def panels(case: CaseVolumes) -> list[Panel]:
    """The columns that a case has, from the MR to the uncertainty."""
    brightest = sampled(case.mr)
    low, high = (float(v) for v in np.percentile(brightest, (0.5, 99.7)))
    if high <= low:
        low, high = float(brightest.min()), float(brightest.max()) + 1.0

    def grey(volume: np.ndarray, window: Window) -> Callable[[Plane, int], np.ndarray]:
        return lambda plane, index: window(radiological_slice(volume, plane, index))

    columns = [
        Panel("MR", "MR", grey(case.mr, Window((low + high) / 2, high - low))),
        Panel("synthetic CT  W400 L40", "synthetic, soft", grey(case.synthetic_ct, SOFT_TISSUE)),
        Panel("synthetic CT  W2000 L500", "synthetic, bone", grey(case.synthetic_ct, BONE)),
    ]
    if case.reference is not None:
        columns += [
            Panel("reference CT  W400 L40", "reference, soft", grey(case.reference, SOFT_TISSUE)),
            Panel("reference CT  W2000 L500", "reference, bone", grey(case.reference, BONE)),
            Panel(
                "synthetic - reference",
                "difference",
                lambda plane, index: difference(case, plane, index),
                difference_colours(),
                (-DIFFERENCE_HU, DIFFERENCE_HU),
                bar=True,
            ),
        ]
    if case.standard_deviation is not None:
        deviation = case.standard_deviation
        most = max(50.0, float(np.ceil(np.percentile(sampled(deviation), 99.8) / 50) * 50))
        columns.append(
            Panel(
                "standard deviation",
                "deviation",
                lambda plane, index: radiological_slice(deviation, plane, index),
                "inferno",
                (0.0, most),
                bar=True,
            )
        )
    return columns


def difference(case: CaseVolumes, plane: Plane, index: int) -> np.ndarray:
    """Synthetic minus reference CT of one slice in HU, 0 outside the mask."""
    assert case.reference is not None
    synthetic = radiological_slice(case.synthetic_ct, plane, index).astype(np.float32)
    error = synthetic - radiological_slice(case.reference, plane, index)
    if case.mask is None:
        return error
    return np.where(radiological_slice(case.mask, plane, index) > 0, error, np.float32(0))


def overview(case: CaseVolumes, path: Path, *, widest: int = 290, highest: int = 330) -> Path:
    """Three planes through the middle of the body, a column per panel."""
    columns = panels(case)
    planes = (AXIAL, CORONAL, SAGITTAL)
    sizes = [case.slice_size(plane) for plane in planes]
    scale = min(widest / max(w for w, _ in sizes), highest / max(h for _, h in sizes))
    column = scale * max(w for w, _ in sizes)
    left, top = 26, 30
    bar = 46 if any(panel.bar for panel in columns) else GAP
    height = top + sum(scale * h + GAP for _, h in sizes) + bar
    sheet = Sheet(left + len(columns) * (column + GAP), height)
    centre = case.middle()
    for number, panel in enumerate(columns):
        x = left + number * (column + GAP)
        sheet.words(panel.title, (x + column / 2, 15))
        y = float(top)
        for plane, (width, high) in zip(planes, sizes, strict=True):
            box = (x + (column - scale * width) / 2, y, scale * width, scale * high)
            image = panel.draw(plane, centre[plane.axis])
            sheet.picture(image, box, colours=panel.colours, limits=panel.limits, letters=plane.letters)
            if number == 0:
                label = f"{plane.name}  {case.position(plane, centre[plane.axis]):.0f} mm"
                sheet.words(label, (13, y + scale * high / 2), faint=True, turned=True)
            y += scale * high + GAP
        if panel.bar:
            sheet.colour_bar((x + column * 0.1, y + 4, column * 0.8, 10), panel.colours, panel.limits, "HU")
    return sheet.save(path)


def contact_sheet(case: CaseVolumes, path: Path, *, tile: float = 180.0) -> Path:
    """Every n-th axial slice through the body, so that nothing hides between the planes of the overview."""
    first, last = case.axial_extent()
    count = min(_CONTACT_SLICES, last - first + 1)
    shown = np.linspace(first, last, count).round().astype(int).tolist()
    columns = panels(case)
    width, height = case.slice_size(AXIAL)
    width, height = (tile / max(width, height) * side for side in (width, height))
    left, rows = 26, [shown[i : i + _CONTACT_COLUMNS] for i in range(0, len(shown), _CONTACT_COLUMNS)]
    block = 22 + len(columns) * (height + 2)
    sheet = Sheet(left + len(rows[0]) * width + GAP, len(rows) * block + GAP)
    for number, row in enumerate(rows):
        top = number * block + 22
        for place, index in enumerate(row):
            sheet.words(f"{case.position(AXIAL, index):.0f} mm", (left + (place + 0.5) * width, top - 11), faint=True)
        for line, panel in enumerate(columns):
            y = top + line * (height + 2)
            drawn = [_reduced(panel.draw(AXIAL, index), int(tile)) for index in row]
            strip = np.concatenate(drawn, axis=1)
            box = (left, y, len(row) * width, height)
            sheet.picture(strip, box, colours=panel.colours, limits=panel.limits)
            sheet.words(panel.short, (13, y + height / 2), faint=True, turned=True)
    return sheet.save(path)


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Means over blocks, so many that the longer side keeps at least `side` pixels if it had them."""
    factor = max(1, max(image.shape) // side)
    if factor == 1:
        return image
    filled = np.pad(image, [(0, -n % factor) for n in image.shape], mode="edge")
    rows, columns = (n // factor for n in filled.shape)
    return filled.reshape(rows, factor, columns, factor).mean(axis=(1, 3), dtype=np.float32)


def thumbnail(case: CaseVolumes, path: Path, *, tile: float = 120.0) -> Path:
    """MR and synthetic CT of the middle axial slice."""
    width, height = case.slice_size(AXIAL)
    scale = tile / max(width, height)
    sheet = Sheet(2 * scale * width + 2, scale * height)
    index = case.middle()[AXIAL.axis]
    for number, panel in enumerate(panels(case)[:2]):
        box = (number * (scale * width + 2), 0, scale * width, scale * height)
        sheet.picture(panel.draw(AXIAL, index), box)
    return sheet.save(path)


def hounsfield_shares(volume: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Share of voxels (inside the mask) in each bin of `HISTOGRAM_EDGES`; values beyond count at the ends.

    Counted slice by slice, so that no float copy of the volume is made.
    """
    counts = np.zeros(len(HISTOGRAM_EDGES) - 1)
    step = max(1, volume.size // (1 << 25))
    for index in range(0, volume.shape[2], step):
        values = volume[:, :, index]
        values = values.ravel() if mask is None else values[mask[:, :, index] > 0]
        bins = np.floor((values - np.float32(HISTOGRAM_EDGES[0])) / 25).astype(np.int32)
        counts += np.bincount(np.clip(bins, 0, len(counts) - 1), minlength=len(counts))
        mapped.give_back()
    return counts / max(counts.sum(), 1)


def histogram(case: CaseVolumes, path: Path) -> Path:
    """Histogram of HU on a logarithmic scale, with that of the reference where there is one."""
    from matplotlib.ticker import NullFormatter

    sheet = Sheet(720, 300)
    axes = sheet.axes((64, 18, 638, 226))
    volumes = {"synthetic CT": case.synthetic_ct, "reference CT": case.reference}
    for (name, volume), colour in zip(volumes.items(), SERIES_COLOURS, strict=False):
        if volume is not None:
            shares = hounsfield_shares(volume, case.mask) * 100
            shares = np.where(shares > 0, shares, np.nan)
            axes.stairs(shares, HISTOGRAM_EDGES, color=colour, label=name, linewidth=1.3)
    axes.set_yscale("log")
    # Powers of ten are set as mathematics by default, whose parser takes longer than the rest of the picture.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    axes.set_xlabel("HU, bins of 25")
    where = "volume" if case.mask is None else "mask"
    axes.set_ylabel(f"% of voxels in the {where}")
    axes.legend(frameon=False, labelcolor="linecolor", fontsize=8.5)
    axes.grid(alpha=0.15)
    sheet.plain(axes)
    return sheet.save(path)
