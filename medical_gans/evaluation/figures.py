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

from medical_gans.evaluation.skulls import SKULL_DEFINITIONS
from medical_gans.io.writing import whole_file

Figures = Mapping[str, float]
Rows = Mapping[str, Mapping[str, Figures]]
"""Case -> method -> figure -> value."""
Summary = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Method -> figure -> statistic -> value."""

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
TERMS = {
    "mask": "voxels that are judged: the mask given with the case or, without one, the body on the CT (above -400 HU, "
    "largest part, holes filled)",
    "patients": "how many have the figure: one without bone has no mae_bone, an exact copy no psnr",
    "standard_deviation": "over patients, with n - 1",
    "interval_95": "95 % percentile bootstrap interval of the mean, patients drawn anew 9999 times; "
    "null below two patients, and too narrow when there are few",
}
_COLUMNS = {
    "mean_error": ("ME HU", "+.1f"),
    "mae_air": ("air", ".1f"),
    "mae_soft_tissue": ("soft", ".1f"),
    "mae_bone": ("bone", ".1f"),
    "psnr_2025": ("PSNR", ".2f"),
    "ssim_2023": ("SSIM", ".3f"),
    "ms_ssim_2025": ("MS-SSIM", ".3f"),
    "dice_air": ("Dice air", ".3f"),
    "dice_bone": ("Dice bone", ".3f"),
}


_SKULL_COLUMNS = {
    "vault_closed": ("closed", ".3f"),
    "vault_thickness_mm": ("thickness mm", ".1f"),
    "vault_thickness_error_mm": ("error mm", ".2f"),
    "vault_largest_hu": ("largest HU", ".0f"),
    "skull_density_ratio": ("density ratio", ".2f"),
    "inner_bone": ("inner bone", ".4f"),
    "brain_spread_hu": ("brain spread HU", ".1f"),
}


def definitions(rows: Rows) -> dict[str, str]:
    """What the figures mean that the rows hold: those of skulls where a head was measured."""
    shown = {name for methods in rows.values() for figures in methods.values() for name in figures}
    return DEFINITIONS | (SKULL_DEFINITIONS if shown & SKULL_DEFINITIONS.keys() else {})


def plain_figures(figures: Figures) -> dict[str, float | None]:
    """Six significant digits, and nothing where a figure is not a finite number: as JSON and CSV hold it."""
    return {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in figures.items()}


def summarise(rows: Rows, seed: int = 0) -> Summary:
    """Statistics over patients, see `TERMS`; what is not defined is None."""
    methods = dict.fromkeys(method for figures in rows.values() for method in figures)
    return {
        method: {name: _statistics(_finite(rows, method, name), seed) for name in definitions(rows)}
        for method in methods
    }


def bootstrap_interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean (Efron 1979) of at least two values."""
    drawn = bootstrap((np.asarray(values),), np.mean, method="percentile", rng=np.random.default_rng(seed))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def write_csv(path: Path, rows: Rows) -> Path:
    """One line per case and method; a figure that does not exist is left empty.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "method", *definitions(rows)])
        writer.writeheader()
        for case, methods in rows.items():
            for method, figures in methods.items():
                writer.writerow({"case": case, "method": method, **plain_figures(figures)})
    return path


def write_json(path: Path, rows: Rows, summary: Summary, **about: Any) -> Path:
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
        "summary": summary,
        "definitions": definitions(rows) | TERMS,
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def text_table(summary: Summary) -> str:
    """Mean of most figures over patients, a line per method, with the interval of the MAE."""
    lines = [["", "MAE HU", "95 %", *(title for title, _ in _COLUMNS.values())]]
    for method, figures in summary.items():
        if not figures["mae"]["patients"]:
            continue
        interval = figures["mae"]["interval_95"]
        between = "-" if interval is None else "{:.1f} to {:.1f}".format(*interval)
        means = [_shown(figures[name]["mean"], form) for name, (_, form) in _COLUMNS.items()]
        lines.append([method, _shown(figures["mae"]["mean"], ".1f"), between, *means])
    return _aligned(lines)


def skull_table(summary: Summary) -> str:
    """Mean of the figures of skulls over heads, a line per method that has them; empty where no head was measured."""
    lines = [["", *(title for title, _ in _SKULL_COLUMNS.values())]]
    for method, figures in summary.items():
        if figures.get("vault_closed", {}).get("patients"):
            lines.append([method, *(_shown(figures[name]["mean"], form) for name, (_, form) in _SKULL_COLUMNS.items())])
    return _aligned(lines) if len(lines) > 1 else ""


def page_table(summary: Summary) -> list[dict[str, str]]:
    """Mean and standard deviation of each figure over patients, a row per method."""
    table = []
    for method, figures in summary.items():
        cells = {}
        for name, statistics in figures.items():
            deviation = statistics["standard_deviation"]
            spread = "" if deviation is None else f" \N{PLUS-MINUS SIGN} {deviation:.2g}"
            cells[name] = _shown(statistics["mean"], ".4g") + spread
        table.append({"method": method, **cells})
    return table


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _finite(rows: Rows, method: str, name: str) -> list[float]:
    values = [methods[method][name] for methods in rows.values() if name in methods.get(method, {})]
    return [value for value in values if math.isfinite(value)]


def _statistics(values: Sequence[float], seed: int) -> dict[str, Any]:
    several = len(values) > 1
    found = {
        "mean": float(np.mean(values)) if values else math.nan,
        "standard_deviation": float(np.std(values, ddof=1)) if several else math.nan,
        "median": float(np.median(values)) if values else math.nan,
    }
    interval = [float(f"{end:.6g}") for end in bootstrap_interval(values, seed)] if several else None
    return {"patients": len(values), **plain_figures(found), "interval_95": interval}
