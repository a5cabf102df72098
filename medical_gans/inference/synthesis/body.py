"""Where the patient is in an MR: what the network has to look at, and what is air for certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medical_gans.transforms import body_mask, mr_reference_intensity

Part = tuple[slice, ...]
"""First and last voxel of a part of a volume, per axis."""

_GRID_MM = 2.0
_AROUND_MM = 8.0  # skin, ears and hair are dark in some sequences: only what is further off becomes air
_CONTEXT_MM = 8.0  # air that the network sees around that
_BAY_MM = 20.0  # dark tissue between bright: neck and scalp of a fat-suppressed head
_BACKGROUND_MM = 30.0  # further than this from what is bright there is background
_FAINTEST = 0.03  # of the brightest tissue
_ABOVE_BACKGROUND = 1.5  # times its 99th percentile


@dataclass(frozen=True, eq=False)
class BodyRegion:
    """The widened body, kept on a grid of about 2 mm so that its size does not grow with the resolution.

    Attributes:
        inside: boolean, every `steps`-th voxel of the volume.
        steps: voxels of the volume per voxel of `inside`, per axis.
        box: part of the volume that holds the region and some air around it.
        reference: MR intensity that `transforms.normalise_mr` takes as unit.
    """

    inside: np.ndarray
    steps: tuple[int, ...]
    box: Part
    reference: float

    @classmethod
    def find(cls, mr: np.ndarray, spacing: Sequence[float]) -> BodyRegion | None:
        """Region of an MR ``(x, y, z)``, voxels in mm; None when nothing stands out from air."""
        mask = body_mask(mr, spacing)
        if not mask.any():
            return None
        reference = mr_reference_intensity(mr, mask)
        steps = tuple(max(1, round(_GRID_MM / edge)) for edge in spacing)
        coarse = tuple(slice(None, None, step) for step in steps)
        inside = np.ascontiguousarray(mask[coarse])
        edges = [step * edge for step, edge in zip(steps, spacing, strict=True)]
        inside = _closed(_with_faint(inside, mr[coarse], edges), edges)
        inside = _widened(inside, edges, _AROUND_MM)
        box = []
        for axis, (step, edge, size) in enumerate(zip(steps, spacing, mr.shape, strict=True)):
            filled = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
            context = round(_CONTEXT_MM / edge)
            first, end = int(filled[0]) * step - context, (int(filled[-1]) + 1) * step + context
            box.append(slice(max(0, first), min(size, end)))
        return cls(inside, steps, tuple(box), reference)

    def at(self, part: Part) -> np.ndarray:
        """Whether the voxels of a part of the volume lie in the widened body, boolean ``(x, y, z)``."""
        indices = [
            np.minimum(np.arange(p.start, p.stop) // step, size - 1)
            for p, step, size in zip(part, self.steps, self.inside.shape, strict=True)
        ]
        return self.inside[np.ix_(*indices)]


def _with_faint(inside: np.ndarray, mr: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """What is connected to the body and stands out from the background, as the scalp does where fat is suppressed."""
    far = ~_widened(inside, edges, _BACKGROUND_MM)
    background = mr[far]
    if background.size < 1000:
        return inside
    least = _FAINTEST * float(np.percentile(mr[inside], 99))
    faint = mr > max(_ABOVE_BACKGROUND * float(np.percentile(background, 99)), least)
    labels, _ = ndimage.label((ndimage.binary_opening(faint) & _widened(inside, edges, _BACKGROUND_MM)) | inside)
    found: np.ndarray = np.isin(labels, np.unique(labels[inside]))
    return found


def _closed(inside: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Bays narrower than twice `_BAY_MM` filled, by a box."""
    bays = [math.ceil(_BAY_MM / edge) for edge in edges]
    wide = np.pad(inside, [(bay, bay) for bay in bays])
    wide = _widened(wide, edges, _BAY_MM)
    for axis, bay in enumerate(bays):
        wide = ndimage.minimum_filter1d(wide, 2 * bay + 1, axis=axis, mode="constant")
    return wide[tuple(slice(bay, bay + n) for bay, n in zip(bays, inside.shape, strict=True))]


def _widened(inside: np.ndarray, edges: Sequence[float], distance: float) -> np.ndarray:
    for axis, edge in enumerate(edges):
        around = math.ceil(distance / edge)
        inside = ndimage.maximum_filter1d(inside, 2 * around + 1, axis=axis, mode="constant")
    return inside
