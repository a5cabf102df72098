"""Where the brain is in a whole head, whatever the sequence: so that no lesion is sought in the scalp, eyes or neck."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage
from scipy.ndimage import distance_transform_edt as distance

from medical_gans.io.orientation import ras_spacing, ras_view, stored_order
from medical_gans.transforms.intensity import body_mask
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
_THICK_MM = (5.0, 4.0, 3.0)  # bridges to muscles are thinner than twice this; the first that keeps the deep brain
_WHOLE = 0.97  # of the tissue deep in the head
_REACH_MM = 6.0  # of brain beyond its thick parts
_UNEVEN = 1.2  # times the deviation of the brain: muscle, fat and mucosa side by side


class FoundBrain(NamedTuple):
    """Two hulls of the brain with its liquid, ``(x, y, z)`` bool.

    Attributes:
        wide: with what hangs on the brain at the skull base; no part of the brain is lost.
        brain: without the muscles of face and neck.
    """

    wide: np.ndarray
    brain: np.ndarray


class FindBraind(FindForegroundd):
    """Adds ``foreground`` where no mask was read: the brain of a whole head, all of an image without a skull.

    What a network sees is wide at the skull base, so that it learns what is no lesion there; of a whole head there is
    ``brain`` as well, without muscles, on the grid of the image: where a lesion may lie (`WithinBraind`).

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
        spacing = ras_spacing(affine)
        head = ras_view(array, affine)
        body = body_mask(head, spacing)
        if body.sum() * float(np.prod(spacing)) / 1000 < _STRIPPED_ML:
            return super().__call__(made)
        found = brain_in_head(head, spacing, body)
        if found is None:
            note = "A brain was not found in the head: lesions are sought in all of it. Give a mask of the brain."
            return super().__call__({**made, "notes": (*made.get("notes", ()), note)})
        wide = torch.from_numpy(stored_order(found.wide, affine)[None])
        made["foreground"] = MetaTensor(wide, affine=image.affine)
        made["brain"] = stored_order(found.brain, affine)
        return made


class WithinBraind(MapTransform):
    """Makes all background outside of the brain that `FindBraind` found, if it did.

    `keys` name probabilities ``(class, *spatial)`` on the grid of the image, the background first.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        if made.get("brain") is not None:
            brain = torch.from_numpy(np.ascontiguousarray(made["brain"]))
            for key in self.key_iterator(made):
                there = brain.to(made[key].device)
                kept = made[key] * there  # in its layout of memory, which the next step is fast in
                kept[:1] += ~there
                made[key] = kept
        return made


def brain_in_head(array: np.ndarray, spacing: Sequence[float], body: np.ndarray | None = None) -> FoundBrain | None:
    """Hulls of the brain with its liquid, found by intensity and depth.

    What lies deep below the crown is brain, and tells its signal; the brain is the largest piece of such a signal well
    below the skin that thin bridges are cut from, with its sulci and ventricles closed. On FLAIR, muscles of face and
    neck are as bright as the brain and hang on it by bridges as thick as gyri. So the second hull leaves out what lies
    low and far from the thick parts of the brain, and is more uneven than brain.

    Args:
        array: ``(x, y, z)`` in RAS order, any scale; T1, T2 or FLAIR of a whole head.
        spacing: voxel size in mm.
        body: `body_mask` of it.

    Returns:
        Both, ``(x, y, z)``; None where nothing of the volume of a brain is found.
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
    deep = (skin > _DEEP_MM) & (below_crown < _DEEP_HEIGHT_MM)
    if not deep.any():
        return None
    signal = float(np.median(small[deep][small[deep] >= np.quantile(small[deep], _LIQUID_SHARE)]))
    tissue = (small > _SIGNAL[0] * signal) & (small < _SIGNAL[1] * signal)
    tissue &= (skin > _SKIN_MM) & (below_crown < _HEIGHT_MM)
    depth = distance(tissue, sampling=edges)
    core = _largest(depth > _CORE_MM)
    if not core.any():
        return None
    brain = (distance(~core, sampling=edges) <= _CORE_MM + 1) & tissue
    wide = _hull(brain, edges)
    if not _plausible(wide, edges):
        return None
    bare = _without_muscle(brain, small, depth, deep, edges)
    narrow = wide if np.array_equal(bare, brain) else _hull(bare, edges) & wide
    if not _plausible(narrow, edges):
        narrow = wide
    return FoundBrain(_finer(wide, array.shape, steps), _finer(narrow, array.shape, steps))


def _hull(brain: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Tissue with its sulci and ventricles closed."""
    rim = [int(np.ceil(_CLOSING_MM / edge)) + 2 for edge in edges]
    wide = distance(~np.pad(brain, [(n, n) for n in rim]), sampling=edges) <= _CLOSING_MM
    hull = ndimage.binary_fill_holes(distance(wide, sampling=edges) > _CLOSING_MM - 1)
    return hull[tuple(slice(n, -n) for n in rim)]


def _plausible(hull: np.ndarray, edges: np.ndarray) -> bool:
    return bool(_PLAUSIBLE_ML[0] <= hull.sum() * float(np.prod(edges)) / 1000 <= _PLAUSIBLE_ML[1])


def _without_muscle(
    brain: np.ndarray, image: np.ndarray, depth: np.ndarray, deep: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """The brain without the uneven pieces that hang on it low down, far from the largest of its thick parts.

    Args:
        brain: with what hangs on it, in RAS order.
        image: its signal.
        depth: mm from each voxel of tissue to the next that is none.
        deep: where there is brain for certain.
        edges: of a voxel in mm.
    """
    for thick in _THICK_MM:
        heart = _largest(depth > thick)
        if not heart.any():
            continue
        near = brain & (distance(~heart, sampling=edges) <= thick + _REACH_MM)
        if (near & deep).sum() >= _WHOLE * (brain & deep).sum():
            far = brain & ~near
            far[:, :, int(np.argwhere(heart)[:, 2].mean()) :] = False  # gyri of a shrunken brain beside the skin
            pieces, count = ndimage.label(far)
            spread = ndimage.standard_deviation(image, pieces, np.arange(1, count + 1))
            uneven = np.array([False, *(spread > _UNEVEN * image[near].std())])
            return brain & ~uneven[pieces]
    return brain


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
