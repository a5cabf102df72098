"""How real a CT looks to the discriminator that its generator was trained against, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.transforms import AIR_HU, hounsfield_to_unit, resize_in_plane
from medical_gans.weights import WeightsCard, load_network

_LEAST_BODY = 0.5  # of the voxels around the middle of a patch


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
    """

    def __init__(self, network: nn.Module, spacing: Sequence[float | None]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.spacing = tuple(spacing)

    @classmethod
    def load(cls, weights: Path) -> RealismCritic:
        """From ``<name>.pt`` and its card.

        Raises:
            InputError: the file or its card is missing or damaged.
        """
        network, card = load_network(weights), WeightsCard.of(weights)
        return cls(network, card.spacing[:2] if card is not None else (None, None))

    @torch.no_grad()
    def __call__(self, hounsfield: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> RealismMap:
        """Score every axial slice that shows body.

        Args:
            hounsfield: HU ``(x, y, z)``, canonical axes.
            body: boolean; air is put outside it.
            spacing: mm.
        """
        shown = np.flatnonzero(body.any(axis=(0, 1)))
        maps = [self._scores(hounsfield[:, :, k], body[:, :, k], spacing) for k in shown]
        return RealismMap(shown, np.stack(maps) if maps else np.empty((0, 0, 0)))

    def _scores(self, hounsfield: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        unit = hounsfield_to_unit(np.where(body, hounsfield, AIR_HU))
        images = torch.from_numpy(np.stack([unit, body.astype(np.float32)]))[:, None]
        images, _ = resize_in_plane(images, spacing[:2], self.spacing)
        scores: Tensor = self.network(images[:1])[-1][0, 0]
        inside = nn.functional.interpolate(images[1:], size=tuple(scores.shape), mode="area")[0, 0]
        scored: np.ndarray = torch.where(inside > _LEAST_BODY, scores, torch.nan).numpy()
        return scored
