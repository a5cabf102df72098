"""Pictures of a dose evaluation: dose and its difference over the CT, and the DVH."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medical_gans.report.pictures import SERIES_COLOURS, Sheet, difference_colours
from medical_gans.report.views import AXIAL, CORONAL, SAGITTAL, SOFT_TISSUE, Plane, radiological_slice
from medical_gans.studies.radiotherapy.dose_grid import DoseGrid
from medical_gans.studies.radiotherapy.dvh import dvh_curve

_PLANES = (AXIAL, CORONAL, SAGITTAL)
_GAP, _LEFT, _TOP = 8, 26, 30
_LOWEST_SHOWN = 0.1  # of the prescription
_DIFFERENCE = 5.0  # percent of the prescription at the ends of the scale


def draw_case(
    folder: Path,
    grid: DoseGrid,
    hounsfield: Mapping[str, np.ndarray],
    doses: Mapping[str, Mapping[str, np.ndarray]],
    structures: Mapping[str, np.ndarray],
    prescription: float,
) -> dict[str, str]:
    """Draw ``dose_<modality>.png``, ``dvh.png`` and ``thumbnail.png``.

    Args:
        folder: of the case.
        grid: of all arrays.
        hounsfield: HU of ``reference`` and ``synthetic``.
        doses: Gy, by modality and CT.
        structures: boolean masks by name, the target first.
        prescription: Gy.

    Returns:
        Captions of the large pictures by file name without suffix.

    Raises:
        OutputError: a picture cannot be written.
    """
    target = next(iter(structures.values()))
    centre = tuple(round(float(at)) for at in np.argwhere(target).mean(axis=0))
    captions = {}
    for modality, both in doses.items():
        name = f"dose_{modality}"
        _dose_sheet(folder / f"{name}.png", grid, hounsfield, both, target, centre, prescription)
        captions[name] = (
            f"{modality} plan through the middle of the target (outlined): true and synthetic CT, dose on both in "
            "percent of the prescription, and synthetic minus reference. The patient's right is on the left."
        )
    _dvh_sheet(folder / "dvh.png", doses, structures, prescription)
    captions["dvh"] = "Dose-volume histograms: lines on the true CT, dashes on the synthetic CT."
    _thumbnail(folder / "thumbnail.png", hounsfield, centre, grid)
    return captions


def _dose_sheet(
    path: Path,
    grid: DoseGrid,
    hounsfield: Mapping[str, np.ndarray],
    doses: Mapping[str, np.ndarray],
    target: np.ndarray,
    centre: tuple[int, ...],
    prescription: float,
) -> None:
    sizes = [_size(grid, plane) for plane in _PLANES]
    scale = min(250 / max(w for w, _ in sizes), 280 / max(h for _, h in sizes))
    column = scale * max(w for w, _ in sizes)
    titles = ("true CT", "synthetic CT", "dose on true CT", "dose on synthetic CT", "synthetic - reference")
    height = _TOP + sum(scale * h + _GAP for _, h in sizes) + 46
    sheet = Sheet(_LEFT + len(titles) * (column + _GAP), height)
    percent = {name: 100 * dose / prescription for name, dose in doses.items()}
    difference = percent["synthetic"] - percent["reference"]
    for number, title in enumerate(titles):
        x = _LEFT + number * (column + _GAP)
        sheet.words(title, (x + column / 2, 15))
        y = float(_TOP)
        for plane, (width, high) in zip(_PLANES, sizes, strict=True):
            box = (x + (column - scale * width) / 2, y, scale * width, scale * high)
            index = centre[plane.axis]
            ct = hounsfield["synthetic" if number in (1, 3) else "reference"]
            shown = SOFT_TISSUE(radiological_slice(ct, plane, index))
            if number == 4:
                sheet.picture(
                    radiological_slice(difference, plane, index),
                    box,
                    colours=difference_colours(),
                    limits=(-_DIFFERENCE, _DIFFERENCE),
                    letters=plane.letters,
                )
            else:
                sheet.picture(shown, box, letters=plane.letters)
            if number in (2, 3):
                dose = radiological_slice(percent["synthetic" if number == 3 else "reference"], plane, index)
                dose = np.ma.masked_less(dose, 100 * _LOWEST_SHOWN)
                sheet.picture(dose, box, colours="turbo", limits=(0, 110))
            _outline(sheet, radiological_slice(target, plane, index), box)
            if number == 0:
                at = grid.first[plane.axis] + grid.spacing * index
                sheet.words(f"{plane.name}  {at:.0f} mm", (13, y + scale * high / 2), faint=True, turned=True)
            y += scale * high + _GAP
        if number == 3:
            sheet.colour_bar((x + column * 0.1, y + 4, column * 0.8, 10), "turbo", (0, 110), "%")
        if number == 4:
            ends = (-_DIFFERENCE, _DIFFERENCE)
            sheet.colour_bar((x + column * 0.1, y + 4, column * 0.8, 10), difference_colours(), ends, "%")
    sheet.save(path)


def _outline(sheet: Sheet, mask: np.ndarray, box: tuple[float, float, float, float]) -> None:
    if not mask.any():
        return
    left, top, width, height = box
    rows, columns = mask.shape
    x = left + (np.arange(columns) + 0.5) * width / columns
    y = top + (np.arange(rows) + 0.5) * height / rows
    sheet.page.contour(x, y, mask.astype(float), levels=[0.5], colors="#ffffff", linewidths=0.9)


def _dvh_sheet(
    path: Path,
    doses: Mapping[str, Mapping[str, np.ndarray]],
    structures: Mapping[str, np.ndarray],
    prescription: float,
) -> None:
    width = 520
    sheet = Sheet(len(doses) * width, 340)
    levels = np.linspace(0, 1.15 * prescription, 231)
    for number, (modality, both) in enumerate(doses.items()):
        axes = sheet.axes((number * width + 58, 30, width - 76, 258))
        for place, (name, mask) in enumerate(structures.items()):
            colour = SERIES_COLOURS[place % len(SERIES_COLOURS)]
            for kind, style in (("reference", "-"), ("synthetic", "--")):
                curve = dvh_curve(both[kind], mask, levels)
                label = name if kind == "reference" else None
                axes.plot(levels, curve, color=colour, linestyle=style, linewidth=1.4, label=label)
        axes.set(xlim=(0, levels[-1]), ylim=(0, 101), xlabel="dose, Gy", ylabel="% of the volume")
        axes.legend(frameon=False, labelcolor="linecolor", fontsize=8.5, loc="lower left")
        axes.grid(alpha=0.15)
        sheet.plain(axes)
        sheet.words(f"{modality} plan", (number * width + width / 2, 14))
    sheet.save(path)


def _thumbnail(path: Path, hounsfield: Mapping[str, np.ndarray], centre: tuple[int, ...], grid: DoseGrid) -> None:
    width, height = _size(grid, AXIAL)
    scale = 120 / max(width, height)
    sheet = Sheet(2 * scale * width + 2, scale * height)
    for number, name in enumerate(("reference", "synthetic")):
        image = SOFT_TISSUE(radiological_slice(hounsfield[name], AXIAL, centre[2]))
        sheet.picture(image, (number * (scale * width + 2), 0, scale * width, scale * height))
    sheet.save(path)


def _size(grid: DoseGrid, plane: Plane) -> tuple[float, float]:
    across, up = (axis for axis in range(3) if axis != plane.axis)
    return grid.spacing * grid.shape[across], grid.spacing * grid.shape[up]
