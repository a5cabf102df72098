"""A dark page on which pictures, words and colour bars are placed by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medical_gans.io.writing import whole_file

PAPER = "#101214"
INK = "#e8e8e6"
FAINT = "#9a9fa5"
SIGNAL = "#ffd75e"
SERIES_COLOURS = ("#5cc8ff", "#ffb454", "#8ddb8c", "#f28fb1", "#c7a6ff", "#e6dd6b")

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

DIFFERENCE_COLOURS: Colormap = LinearSegmentedColormap.from_list(
    "difference", ["#d6f0ff", "#2f9bff", "#0c3f7a", "#0a0a0a", "#7a2410", "#ff6a3a", "#ffe9d1"]
)
"""Blue where too low, black where right, orange where too high."""

_ACRONYMS = {"mr", "ct", "mae", "psnr", "ssim", "ms", "fid", "kid"}
_EDGES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.985, "center", "top"),
    (0.5, 0.015, "center", "bottom"),
)


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
        return path
