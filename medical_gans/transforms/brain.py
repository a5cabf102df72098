"""Where the brain is in a whole head, whatever the sequence: so that no lesion is sought in the scalp, eyes or neck."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from scipy.ndimage import distance_transform_edt as distance

from medical_gans.transforms.intensity import body_mask
from medical_gans.transforms.sequence_grid import canonical, stored_order
from medical_gans.transforms.sequences import FindForegroundd

_STRIPPED_ML = 2200.0  # what shows less is no whole head
_PLAUSIBLE_ML = (600.0, 2400.0)  # of a brain with its ventricles
_GRID_MM = 2.0  # that the brain is found on
_DEEP_MM, _DEEP_HEIGHT_MM = 28.0, 90.0  # below the skin and the crown: brain for certain
_LIQUID_SHARE = 0.25  # of what lies there, at most
_SIGNAL = (0.55, 2.2)  # of brain, relative to the median there
_SKIN_MM, _HEIGHT_MM = 6.0, 160.0  # skin and skull; a brain with its stem is no higher
_CORE_MM = 3.0  # bridges to muscle and eyes are thinner than twice this
_CLOSING_MM = 10.0  # sulci and ventricles


class FindBraind(FindForegroundd):
    """Adds ``foreground`` where no mask was read: the brain of a whole head, all of an image without a skull.

    Where no plausible brain is found, it is what `FindForegroundd` finds, and a note says so. `keys` name images
    ``(channel, *spatial)``; the first channel of the first one that shows something tells.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        if "foreground" in made:
            return made
        image: MetaTensor = made[self.keys[0]]
        array = next(channel for channel in image.numpy() if channel.any())
        affine = np.asarray(image.affine, dtype=np.float64)
        orientation = nib.orientations.io_orientation(affine)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])]
        head = canonical(array, orientation)
        body = body_mask(head, spacing.tolist())
        if body.sum() * float(np.prod(spacing)) / 1000 < _STRIPPED_ML:
            return super().__call__(made)
        brain = brain_in_head(head, spacing.tolist(), body)
        if brain is None:
            note = "A brain was not found in the head: lesions are sought in all of it. Give a mask of the brain."
            return super().__call__({**made, "notes": (*made.get("notes", ()), note)})
        made["foreground"] = MetaTensor(torch.from_numpy(stored_order(brain, orientation)[None]), affine=image.affine)
        return made


def brain_in_head(array: np.ndarray, spacing: Sequence[float], body: np.ndarray | None = None) -> np.ndarray | None:
    """Hull of the brain with its liquid, somewhat wide at the skull base, found by intensity and depth.

    What lies deep below the crown is brain, and tells its signal; the brain is the largest piece of such a signal well
    below the skin that thin bridges are cut from, with its sulci and ventricles closed.

    Args:
        array: ``(x, y, z)`` in RAS order, any scale; T1, T2 or FLAIR of a whole head.
        spacing: voxel size in mm.
        body: `body_mask` of it.

    Returns:
        ``(x, y, z)`` bool; None where nothing of the volume of a brain is found.
    """
    steps = [max(1, round(_GRID_MM / edge)) for edge in spacing]
    every = tuple(slice(None, None, step) for step in steps)
    small = np.asarray(array[every], dtype=np.float32)
    edges = np.multiply(spacing, steps)
    head = (body_mask(array, spacing) if body is None else body)[every]
    if not head.any():
        return None
    below_crown = (np.flatnonzero(head.any(axis=(0, 1)))[-1] - np.arange(head.shape[2])) * edges[2]
    # the head goes on below the volume, so that its last slice is no skin
    skin = distance(np.pad(head, ((1, 1), (1, 1), (0, 1))), sampling=edges)[1:-1, 1:-1, :-1]
    deep = small[(skin > _DEEP_MM) & (below_crown < _DEEP_HEIGHT_MM)]
    if not deep.size:
        return None
    signal = float(np.median(deep[deep >= np.quantile(deep, _LIQUID_SHARE)]))
    tissue = (small > _SIGNAL[0] * signal) & (small < _SIGNAL[1] * signal)
    tissue &= (skin > _SKIN_MM) & (below_crown < _HEIGHT_MM)
    core = _largest(distance(tissue, sampling=edges) > _CORE_MM)
    if not core.any():
        return None
    brain = (distance(~core, sampling=edges) <= _CORE_MM + 1) & tissue
    rim = [int(np.ceil(_CLOSING_MM / edge)) + 2 for edge in edges]
    wide = distance(~np.pad(brain, [(n, n) for n in rim]), sampling=edges) <= _CLOSING_MM
    hull = ndimage.binary_fill_holes(distance(wide, sampling=edges) > _CLOSING_MM - 1)
    hull = hull[tuple(slice(n, -n) for n in rim)]
    if not _PLAUSIBLE_ML[0] <= hull.sum() * float(np.prod(edges)) / 1000 <= _PLAUSIBLE_ML[1]:
        return None
    return _finer(hull, array.shape, steps)


def _largest(mask: np.ndarray) -> np.ndarray:
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax() if sizes.any() else mask


def _finer(mask: np.ndarray, shape: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """Back from every n-th voxel to all of them, linearly."""
    if tuple(mask.shape) == tuple(shape):
        return mask
    at = np.meshgrid(*[np.arange(n) / step for n, step in zip(shape, steps, strict=True)], indexing="ij", sparse=True)
    there = np.broadcast_arrays(*at)
    return ndimage.map_coordinates(mask.astype(np.float32), there, order=1, mode="nearest") > 0.5
