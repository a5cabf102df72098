"""From the figures of each patient to tables that people and programs read."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from medical_gans.io.writing import whole_file

Figures = Mapping[str, float]
Rows = Mapping[str, Mapping[str, Figures]]
"""Case -> method -> figure -> value."""

DEFINITIONS = {
    "mae": "mean absolute error in the mask, HU",
    "mean_error": "mean of method minus reference in the mask, HU",
    "mae_air": "mae where the reference lies below -200 HU (lung included)",
    "mae_soft_tissue": "mae where the reference lies from -200 to 250 HU",
    "mae_bone": "mae where the reference lies above 250 HU",
    "psnr_2023": "peak signal-to-noise ratio in the mask, dB, by SynthRAD2023: clipped to [-1024, 3000] HU",
    "psnr_2025": "peak signal-to-noise ratio in the mask, dB, by SynthRAD2025: clipped to [-1024, 3071] HU",
    "ssim_2023": "structural similarity in the mask by SynthRAD2023: 3D, uniform window of 7 voxels",
    "ms_ssim_2025": "multi-scale structural similarity in the mask by SynthRAD2025: five scales",
    "dice_air": "Dice of the voxels below -200 HU in the mask",
    "dice_bone": "Dice of the voxels above 250 HU in the mask",
}
STATISTICS = {
    "patients": "patients that have the figure: one without bone has no mae_bone, an exact copy no finite psnr",
    "standard_deviation": "over patients, with n - 1",
    "interval_95": "95 % percentile bootstrap interval of the mean, patients drawn anew 9999 times; "
    "null below two patients, and too narrow when there are few",
}
_COLUMNS = {
    "mae": ("MAE HU", ".1f"),
    "mean_error": ("ME HU", "+.1f"),
    "mae_air": ("air", ".1f"),
    "mae_soft_tissue": ("soft", ".1f"),
    "mae_bone": ("bone", ".1f"),
    "psnr_2023": ("PSNR23", ".2f"),
    "psnr_2025": ("PSNR25", ".2f"),
    "ssim_2023": ("SSIM", ".3f"),
    "ms_ssim_2025": ("MS-SSIM", ".3f"),
    "dice_air": ("Dice air", ".3f"),
    "dice_bone": ("Dice bone", ".3f"),
}


def plain_figures(figures: Figures) -> dict[str, float | None]:
    """Six significant digits, and nothing where a figure is not a finite number: as JSON and CSV hold it."""
    return {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in figures.items()}


def summarise(rows: Rows) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> figure -> statistics over patients, see `STATISTICS`; undefined ones are None."""
    methods = dict.fromkeys(method for figures in rows.values() for method in figures)
    return {
        method: {name: _statistics(_finite(rows, method, name)) for name in DEFINITIONS} for method in methods
    }


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean (Efron 1979) of at least two values."""
    drawn = bootstrap((np.asarray(values),), np.mean, method="percentile", rng=np.random.default_rng(seed))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def write_csv(path: Path, rows: Rows) -> Path:
    """One line per case and method; a figure that does not exist is left empty.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "method", *DEFINITIONS])
        writer.writeheader()
        for case, methods in rows.items():
            for method, figures in methods.items():
                writer.writerow({"case": case, "method": method, **plain_figures(figures)})
    return path


def write_json(path: Path, rows: Rows, **about: Any) -> Path:
    """Cases, summary and definitions, with whatever else is known about the run.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        **about,
        "cases": {
            case: {method: plain_figures(figures) for method, figures in methods.items()}
            for case, methods in rows.items()
        },
        "summary": summarise(rows),
        "definitions": DEFINITIONS | STATISTICS,
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def text_table(rows: Rows) -> str:
    """Mean of each figure over patients, a line per method."""
    lines = [["", *(title for title, _ in _COLUMNS.values())]]
    for method, figures in summarise(rows).items():
        means = [figures[name]["mean"] for name in _COLUMNS]
        formats = [form for _, form in _COLUMNS.values()]
        lines.append(
            [method, *("-" if m is None else f"{m:{f}}" for m, f in zip(means, formats, strict=True))]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    first, *others = widths
    return "\n".join(
        "  ".join([line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], others, strict=True))])
        for line in lines
    )


def _finite(rows: Rows, method: str, name: str) -> list[float]:
    values = [methods[method][name] for methods in rows.values() if method in methods]
    return [value for value in values if math.isfinite(value)]


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    several = len(values) > 1
    found = {
        "mean": float(np.mean(values)) if values else math.nan,
        "standard_deviation": float(np.std(values, ddof=1)) if several else math.nan,
        "median": float(np.median(values)) if values else math.nan,
    }
    interval = [float(f"{end:.6g}") for end in bootstrap_interval(values)] if several else None
    return {"patients": len(values), **plain_figures(found), "interval_95": interval}
