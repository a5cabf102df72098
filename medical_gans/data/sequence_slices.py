"""Axial slices of two sets of MR sequences, for a translation of one's look into the other's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medical_gans.data.epoch_views import EpochViews
from medical_gans.transforms.sequences import SequenceVolume

DEVIATIONS = 4.0
"""Normalised intensities up to this many deviations from the mean fit into [-1, 1]; others saturate."""
_LEAST_FOREGROUND = 0.1  # of the fullest slice's


def to_unit(normalised: np.ndarray) -> np.ndarray:
    """Intensities in deviations from their mean to [-1, 1]."""
    return np.clip(normalised / np.float32(DEVIATIONS), -1, 1)


class SequenceSlices(EpochViews):
    """Random crops of axial slices of the source, each beside one of the target.

    Args:
        source: volumes whose look is to be changed.
        target: volumes that have the wanted look.
        crop_size: voxels left-right and back-front, multiples of 4.
        views_per_epoch: pairs drawn in one epoch.
        flip: mirror left-right with probability one half.
        seed: of every random choice.
    """

    def __init__(
        self,
        source: Sequence[SequenceVolume],
        target: Sequence[SequenceVolume],
        *,
        crop_size: Sequence[int],
        views_per_epoch: int,
        flip: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.slices = {"source": _slices(source, crop_size), "target": _slices(target, crop_size)}
        self.crop_size, self.flip = tuple(crop_size), flip

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``source`` and ``target`` ``(channel, *crop)`` in [-1, 1]."""
        rng = self.random(index)
        return {name: self._crop(rng, slices) for name, slices in self.slices.items()}

    def _crop(self, rng: np.random.Generator, slices: list[np.ndarray]) -> Tensor:
        image = slices[rng.integers(len(slices))]
        corner = [
            int(rng.integers(0, size - edge + 1)) for size, edge in zip(image.shape[1:], self.crop_size, strict=True)
        ]
        crop = image[(slice(None), *(slice(c, c + e) for c, e in zip(corner, self.crop_size, strict=True)))]
        return torch.from_numpy((crop[:, ::-1] if self.flip and rng.random() < 0.5 else crop).copy())


def _slices(volumes: Sequence[SequenceVolume], crop: Sequence[int]) -> list[np.ndarray]:
    """Slices that show enough of the head, cut to it and padded to the size of a crop."""
    found = []
    for volume in volumes:
        share = volume.foreground.sum((0, 1))
        for k in np.flatnonzero(share > _LEAST_FOREGROUND * share.max()):
            bounds = [np.flatnonzero(volume.foreground[:, :, k].any(1 - axis)) for axis in range(2)]
            x, y = (slice(int(b[0]), int(b[-1]) + 1) for b in bounds)
            cut = to_unit(volume.image[:, x, y, int(k)])
            lacks = [max(0, edge - size) for edge, size in zip(crop, cut.shape[1:], strict=True)]
            found.append(np.pad(cut, [(0, 0), *((lack // 2, lack - lack // 2) for lack in lacks)]))
    return found
