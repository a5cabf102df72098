"""How real a CT looks to a discriminator, patch by patch, as scores and drawn over the synthetic CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.io import mapped
from medical_gans.report.pictures import Sheet
from medical_gans.report.views import AXIAL, SOFT_TISSUE, CaseVolumes, radiological_slice
from medical_gans.transforms import AIR_HU, hounsfield_to_unit, resize_in_plane
from medical_gans.transforms.grid_mask import GridMask
from medical_gans.weights import WeightsCard, load_network, save_weights

_LEAST_BODY = 0.5  # of the voxels around the middle of a patch
_COARSE = 1.5  # times the critic's voxels: real CT would look blurred to it as well
_SMALLEST = 32  # voxels of a slice as the critic sees it; with fewer its convolutions have nothing left
_BETWEEN = 3.0  # mm between scored slices: nearer ones say the same


@dataclass(frozen=True, eq=False)
class RealismMap:
    """Scores of the patches of axial slices.

    Attributes:
        slices: indices of the slices.
        scores: ``(slice, row, column)``, 1 like a real CT; ``nan`` outside the body.
    """

    slices: np.ndarray
    scores: np.ndarray

    def unusual(self, score: float) -> float:
        """Share of the patches in the body below a score."""
        inside = self.scores[np.isfinite(self.scores)]
        return float(np.mean(inside < score)) if inside.size else 0.0

    def worst_slice(self, score: float) -> int:
        """Index of the slice with the largest share of patches below a score."""
        with np.errstate(invalid="ignore"):
            shares = [np.mean(s[np.isfinite(s)] < score) if np.isfinite(s).any() else 0.0 for s in self.scores]
        return int(self.slices[int(np.argmax(shares))])

    def worst_voxel(self, score: float, shape: Sequence[int]) -> tuple[float, float, float]:
        """Voxel in the middle of the lowest patch of `worst_slice`, in a volume of that shape."""
        k = self.worst_slice(score)
        scores = self.scores[int(np.flatnonzero(self.slices == k)[0])]
        row, column = np.unravel_index(int(np.where(np.isfinite(scores), scores, np.inf).argmin()), scores.shape)
        size = (shape[0] / scores.shape[0], shape[1] / scores.shape[1])  # voxels of a patch's share of the slice
        return (row + 0.5) * size[0] - 0.5, (column + 0.5) * size[1] - 0.5, float(k)


class RealismCritic:
    """A CT discriminator as a measure of likeness to real CT.

    Args:
        network: from unit HU ``(batch, 1, x, y)`` to a list of feature maps, scores last.
        spacing: in-plane voxel size of its training in mm, None where kept.
        network_def: the network as it was configured, which `save` keeps; empty where it was not.
    """

    def __init__(
        self, network: nn.Module, spacing: Sequence[float | None], network_def: dict[str, Any] | None = None
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.spacing = tuple(spacing)
        self.network_def = network_def or {}

    @classmethod
    def load(cls, weights: Path) -> RealismCritic:
        """From ``<name>.pt`` and its card.

        Raises:
            InputError: the file or its card is missing or damaged.
        """
        network, card = load_network(weights), WeightsCard.of(weights)
        return cls(network, card.spacing[:2] if card is not None else (None, None))

    def save(self, weights: Path) -> Path:
        """Write ``<name>.pt`` and its card, for `load`.

        Raises:
            OutputError: a file cannot be written.
        """
        weights.parent.mkdir(parents=True, exist_ok=True)
        save_weights(weights, self.network)
        WeightsCard(network_def=self.network_def, spacing=(*self.spacing, None), plane="axial").save(weights)
        return weights

    def unfit(self, shape: Sequence[int], spacing: Sequence[float]) -> str:
        """Why a volume of that many voxels, of that size in mm, cannot be judged; nothing where it can."""
        for count, edge, known in zip(shape, spacing, self.spacing, strict=False):
            if known is not None and edge > _COARSE * known:
                return f"voxels of {edge:.1f} mm in the slice; the critic knows CT of {known:.1f} mm"
            if count * edge / (known or edge) < _SMALLEST:
                return f"slices of {count * edge:.0f} mm are smaller than what the critic looks at"
        return ""

    @torch.no_grad()
    def __call__(self, hounsfield: np.ndarray, body: np.ndarray | GridMask, spacing: Sequence[float]) -> RealismMap:
        """Score axial slices that show body, some 3 mm apart.

        Args:
            hounsfield: HU ``(x, y, z)``, canonical axes.
            body: boolean; air is put outside it.
            spacing: mm.
        """
        shown = np.flatnonzero(body.any(axis=(0, 1)))[:: max(1, round(_BETWEEN / spacing[2]))]
        maps = []
        for k in shown:
            maps.append(self._scores(hounsfield[:, :, k], body[:, :, k], spacing))
            mapped.give_back()
        return RealismMap(shown, np.stack(maps) if maps else np.empty((0, 0, 0)))

    def _scores(self, hounsfield: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        unit = hounsfield_to_unit(np.where(body, hounsfield, AIR_HU))
        images = torch.from_numpy(np.stack([unit, body.astype(np.float32)]))[:, None]
        images, _ = resize_in_plane(images, spacing[:2], self.spacing)
        scores: Tensor = self.network(images[:1])[-1][0, 0]
        inside = nn.functional.interpolate(images[1:], size=tuple(scores.shape), mode="area")[0, 0]
        scored: np.ndarray = torch.where(inside > _LEAST_BODY, scores, torch.nan).numpy()
        return scored


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
    import matplotlib

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
