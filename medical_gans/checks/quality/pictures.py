"""The critic's scores drawn over the synthetic CT, so that a person sees where it looks unreal."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from medical_gans.checks.quality.realism import RealismMap
from medical_gans.report.sheet import Sheet
from medical_gans.report.views import AXIAL, SOFT_TISSUE, CaseVolumes, radiological_slice

_COLOURS = "RdYlBu"
_STRONG, _FAINT = 0.6, 0.15  # of the colour below and above the limit: what is usual must not hide the CT
_SLICES, _COLUMNS, _TILE = 16, 8, 180.0
_MARGIN, _LINE, _SCALE = 8, 22, 46


def realism_sheet(realism: RealismMap, limit: float, volumes: CaseVolumes, path: Path) -> Path:
    """Axial slices of the synthetic CT, W400 L40, coloured by the score of each patch.

    Args:
        realism: of the synthetic CT of `volumes`.
        limit: score below which a patch is unlike real CT.
        volumes: of the case.
        path: PNG to write.
    """
    count = min(_SLICES, len(realism.slices))
    chosen = np.linspace(0, len(realism.slices) - 1, count).round().astype(int)
    width, height = volumes.slice_size(AXIAL)
    width, height = (_TILE / max(width, height) * side for side in (width, height))
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    sheet = Sheet(2 * _MARGIN + columns * (width + 2), rows * (_LINE + height) + _SCALE)
    for place, number in enumerate(chosen):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * (width + 2), row * (_LINE + height) + _LINE
        index, scores = int(realism.slices[number]), realism.scores[number]
        inside = scores[np.isfinite(scores)]
        share = f"{np.mean(inside < limit):.0%}" if inside.size else "no body"
        sheet.words(f"{volumes.position(AXIAL, index):.0f} mm: {share}", (left + width / 2, top - 11), faint=True)
        sheet.picture(coloured(volumes.synthetic_ct, index, scores, limit), (left, top, width, height))
    limits = _limits(limit)
    axes = sheet.axes((_MARGIN, rows * (_LINE + height) + 8, 260, 10))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=_COLOURS, aspect="auto", extent=(*limits, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([limits[0], limit, limits[1]], ["unlike real CT", f"limit {limit:.2f}", "like it"])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    sheet.plain(axes)
    return sheet.save(path)


def coloured(synthetic_ct: np.ndarray, index: int, scores: np.ndarray, limit: float) -> np.ndarray:
    """An axial slice in RGB, ``(row, column, 3)``: grey CT with the colours of the scores of its patches.

    Args:
        synthetic_ct: HU, a `report.views.ras_view`.
        index: of the slice.
        scores: ``(x, y)`` over the whole slice; ``nan`` leaves the CT grey.
        limit: score below which colours are strong.
    """
    grey = SOFT_TISSUE(radiological_slice(synthetic_ct, AXIAL, index))
    patches = scores[::-1, ::-1].T
    down, across = (np.arange(pixels) * n // pixels for pixels, n in zip(grey.shape, patches.shape, strict=True))
    score = patches[np.ix_(down, across)]
    low, high = _limits(limit)
    colours = matplotlib.colormaps[_COLOURS](np.clip((score - low) / (high - low), 0, 1))[..., :3]
    weight = np.select([np.isnan(score), score < limit], [0.0, _STRONG], _FAINT)[..., None]
    mixed: np.ndarray = grey[..., None] * (1 - weight) + np.where(weight > 0, colours, 0) * weight
    return mixed


def _limits(limit: float) -> tuple[float, float]:
    """Scores at the ends of the colours, with the limit in the middle and 1, as real CT has, at one end."""
    return 2 * limit - 1, 1.0
