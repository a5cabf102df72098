"""The nodule at the centre of a patch, told from lung, vessels and chest wall by brightness and thickness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import InputError

_LUNG_HU = -600.0  # lung, also where it is dense, is below
_CORE_MM = 4.0  # a nodule is looked for so near to the centre of its patch
_CORE_HU = 100.0  # nodule; brighter is calcification or bone
_GROUND_GLASS_HU = -250.0  # a core below is that of a ground-glass nodule: faint, and to be seen through noise
_LEAST_MM = 1.5  # radius of the smallest nodule
_REACH = 2.2  # radii of the largest inscribed circle that a nodule reaches
_THIN = 0.35  # radii; what is thinner is a vessel
_WALL = 1.15  # radii; what is thicker is chest wall, where the nodule hangs together with the patch's edge
_WALL_MM = 8.0  # contact with the patch's edge from which on it does
_GAP_MM = 1.0  # half the width of a gap in the wall of a cavity
_NOTHING = "The patch shows no nodule at its centre. Choose another latent seed or another patch."


def segment_nodule(hounsfield: np.ndarray, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Mask of the nodule at the centre of a patch, its cavities included.

    It is brighter than the middle between lung and its own core, and the union of circles (balls) about as large as
    the largest one at the centre: vessels are thinner, the chest wall is thicker.

    Args:
        hounsfield: ``(rows, columns)`` or ``(rows, columns, slices)``.
        spacing: mm along the axes.

    Raises:
        InputError: nothing at the centre stands out from the lung around it.
    """
    lung, core, blur = levels(hounsfield, spacing)
    bright = _with_cavities(_smoothed(hounsfield, spacing, blur) > (lung + core) / 2, spacing)
    from_centre = _from_centre(hounsfield.shape, spacing)
    depth = distance_inside(bright, spacing)
    # deep below the border and near the centre; chest wall beside the nodule gets deeper by less than 1.1 mm per mm
    attraction = np.where(bright & (from_centre <= _CORE_MM), depth - 1.1 * from_centre, -np.inf)
    seed = np.unravel_index(int(attraction.argmax()), attraction.shape)
    if not np.isfinite(attraction[seed]):
        raise InputError(_NOTHING)
    start = np.zeros(bright.shape, dtype=bool)
    start[seed] = True
    from_seed = distance_outside(start, spacing)
    radius = max(float(depth[seed]), _LEAST_MM)
    centres = bright & (depth > _THIN * radius) & (from_seed <= _REACH * radius)
    if _border_contact(_component(bright, seed), spacing) > _WALL_MM:
        centres &= (depth <= _WALL * radius) & (from_seed <= radius)
    centres = _component(centres, seed) if centres[seed] else start
    reached = distance_outside(centres, spacing) <= _THIN * radius + 0.3
    near = from_seed <= _REACH * radius
    return ndimage.binary_fill_holes(_component(bright & near & reached, seed))


def levels(hounsfield: np.ndarray, spacing: Sequence[float]) -> tuple[float, float, float]:
    """HU of the lung and of the core of the nodule in a patch, and the blur (mm) at which its border shows.

    Raises:
        InputError: nothing at the centre stands out.
    """
    dark = hounsfield[hounsfield < _LUNG_HU]
    lung = float(np.median(dark)) if dark.size > 0.02 * hounsfield.size else float(np.percentile(hounsfield, 5))
    near = _from_centre(hounsfield.shape, spacing) <= _CORE_MM
    blur = 0.4
    core = float(_smoothed(hounsfield, spacing, 0.6)[near].max())
    if core < _GROUND_GLASS_HU:
        blur = 1.0
        core = float(_smoothed(hounsfield, spacing, 1.5)[near].max())
    if core - lung < 100:
        raise InputError(_NOTHING)
    return lung, min(core, _CORE_HU), blur


def lung_beside(hounsfield: np.ndarray, mask: NDArray[np.bool_], spacing: Sequence[float], default: float) -> float:
    """HU of the lung within some mm around a nodule; `default` where there is too little of it."""
    outside = distance_outside(mask, spacing)
    beside = hounsfield[(outside > 1.2) & (outside < 5.0) & (hounsfield < _LUNG_HU)]
    return float(np.median(beside)) if beside.size > 20 else default


def distance_inside(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """mm from each voxel of a mask to its border, 0 outside."""
    return ndimage.distance_transform_edt(mask, sampling=spacing)


def distance_outside(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """mm from each voxel outside a mask to it, 0 inside."""
    return ndimage.distance_transform_edt(~mask, sampling=spacing)


def _with_cavities(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """A mask with its cavities, those that open by a narrow gap as well."""
    wide = np.pad(mask, 4)
    closed = distance_inside(distance_outside(wide, spacing) <= _GAP_MM, spacing) > _GAP_MM
    cavities = ndimage.binary_fill_holes(closed) & ~closed
    gaps = closed & ~wide & ndimage.binary_dilation(cavities, iterations=4)
    inside = tuple(slice(4, -4) for _ in mask.shape)
    return ndimage.binary_fill_holes(mask | (cavities | gaps)[inside])


def _border_contact(mask: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Length (2D) or root of the area (3D) in mm along which a mask touches the edge of the array."""
    rim = mask.copy()
    rim[(slice(1, -1),) * mask.ndim] = False
    return float((rim.sum() * float(np.mean(spacing)) ** (mask.ndim - 1)) ** (1 / (mask.ndim - 1)))


def _smoothed(hounsfield: np.ndarray, spacing: Sequence[float], width: float) -> NDArray[np.float32]:
    clipped = np.clip(hounsfield.astype(np.float32), None, 400)
    return ndimage.gaussian_filter(clipped, [width / edge for edge in spacing])


def _from_centre(shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance (mm) of each voxel from the centre of a patch."""
    axes = [(np.arange(n) - (n - 1) / 2) * edge for n, edge in zip(shape, spacing, strict=True)]
    return np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij")), axis=0)


def _component(mask: NDArray[np.bool_], seed: Sequence[np.intp]) -> NDArray[np.bool_]:
    """The connected part of a mask that a voxel of it belongs to."""
    labels, _ = ndimage.label(mask)
    return labels == labels[tuple(seed)]
