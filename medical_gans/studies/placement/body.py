"""The body of a nodule in space, from a patch of three dimensions or two.

The nodule at the centre of the patch is told from lung, vessels and chest wall by brightness and thickness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


_SOLID_MM = 1.0  # depth below the border at which a voxel is all nodule
_FADE_MM = (0.6, 2.4)  # distances from the border between which the patch fades out
_POLE_BLUR_MM = 0.6  # of the CT, along the normal of a slice
_TEXTURE_MM = 1.5  # what varies faster is texture
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

Spot = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class NoduleBody:
    """A nodule in space.

    Attributes:
        hounsfield: ``(rows, columns, slices)`` HU, the nodule and the lung around it.
        share: of nodule in each voxel, in [0, 1].
        support: weight of the patch, 1 at the nodule and 0 far from it.
        lung: HU of the lung beside the nodule in the patch.
        spacing: mm along the axes.
        centre: index of the point that is placed.
    """

    hounsfield: NDArray[np.float32]
    share: NDArray[np.float32]
    support: NDArray[np.float32]
    lung: float
    spacing: Spot
    centre: Spot

    @property
    def diameter(self) -> float:
        """mm of a sphere of the same volume."""
        volume = float((self.share * self.support).sum()) * float(np.prod(self.spacing))
        return 2.0 * (0.75 * volume / np.pi) ** (1 / 3)


def nodule_body(hounsfield: np.ndarray, spacing: Sequence[float]) -> NoduleBody:
    """The body of the nodule in a patch.

    A patch of one slice is stacked, so that the body is as high as it is wide; nothing is known of its real height.

    Args:
        hounsfield: ``(rows, columns)`` or ``(rows, columns, slices)``.
        spacing: mm along the axes.

    Raises:
        InputError: the patch shows no nodule at its centre.
    """
    mask = segment_nodule(hounsfield, spacing)
    lung, core, _ = levels(hounsfield, spacing)
    lung = lung_beside(hounsfield, mask, spacing, lung)
    image = _without_neighbours(hounsfield.astype(np.float32), mask, spacing, lung, core)
    centre = ndimage.center_of_mass(mask)
    if hounsfield.ndim == 2:
        image, mask, spacing, centre = _stacked(image, mask, spacing, lung, centre)
    outside = distance_outside(mask, spacing)
    fade = np.clip((_FADE_MM[1] - outside) / (_FADE_MM[1] - _FADE_MM[0]), 0.0, 1.0)
    support = fade * fade * (3 - 2 * fade)
    by_depth = np.clip(0.5 + distance_inside(mask, spacing) / (2 * _SOLID_MM), 0.0, 1.0)
    by_brightness = np.clip((image - lung) / (core - lung), 0.0, 1.0)
    share = np.where(mask, np.maximum(by_depth, by_brightness), by_brightness)
    return NoduleBody(image, share.astype(np.float32), support.astype(np.float32), lung, _spot(spacing), _spot(centre))


def _without_neighbours(
    image: NDArray[np.float32], mask: NDArray[np.bool_], spacing: Sequence[float], lung: float, core: float
) -> NDArray[np.float32]:
    """The patch without what lies beside the nodule: outside, only the blur of its own border stays."""
    allowed = lung + (core - lung) * np.clip(0.5 - distance_outside(mask, spacing) / 2.5, 0.0, 0.5)
    return np.where(mask, image, np.clip(image, lung, allowed)).astype(np.float32)


def _stacked(
    image: NDArray[np.float32], mask: NDArray[np.bool_], spacing: Sequence[float], lung: float, centre: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Spot, Spot]:
    """Image, mask, spacing and centre of the body made from one slice.

    At the height z the slice is drawn together about the nodule's centre by sqrt(1 - (z / R)^2), with R the radius of a
    circle of the nodule's area, and turned, so that lobes do not stand on each other; the more so the rounder it is.
    The slices are blurred along the normal as a CT blurs. Fine texture would become streaks: it is left out of all
    this, and turned by another angle in each slice.
    """
    height = float(min(spacing))
    radius = float(np.sqrt(mask.sum() * np.prod(spacing) / np.pi))
    half = int(np.ceil((radius + _FADE_MM[1] + 3 * _POLE_BLUR_MM) / height)) + 1
    fine = _texture(image, mask, spacing)
    coarse, solid = image - fine, mask.astype(np.float32)
    twist = np.pi / 2 * _roundness(mask, spacing) ** 2
    shape = (*mask.shape, 2 * half + 1)
    body, inside, texture = np.full(shape, lung, dtype=np.float32), np.zeros(shape), np.zeros(shape, dtype=np.float32)
    for k in range(-half, half + 1):
        z = k * height / radius
        if abs(z) < 1:
            points = _turned(mask.shape, spacing, centre, twist * z, 1 / np.sqrt(1 - z * z))
            body[..., half + k] = ndimage.map_coordinates(coarse, points, order=1, mode="constant", cval=lung)
            inside[..., half + k] = ndimage.map_coordinates(solid, points, order=1)
            points = _turned(mask.shape, spacing, centre, _GOLDEN_ANGLE * k, 1.0)
            texture[..., half + k] = ndimage.map_coordinates(fine, points, order=1)
    body = ndimage.gaussian_filter1d(body, _POLE_BLUR_MM / height, axis=2) + texture * (inside > 0.99)
    return body, inside > 0.5, (float(spacing[0]), float(spacing[1]), height), (centre[0], centre[1], float(half))


def _turned(
    shape: Sequence[int], spacing: Sequence[float], centre: Sequence[float], angle: float, scale: float
) -> NDArray[np.float64]:
    """Indices ``(2, rows, columns)`` turned about a centre and drawn away from it."""
    edge, middle = np.reshape(spacing, (2, 1, 1)), np.reshape(centre, (2, 1, 1))
    row, column = (np.indices(shape) - middle) * edge * scale
    turned = [np.cos(angle) * row - np.sin(angle) * column, np.sin(angle) * row + np.cos(angle) * column]
    return np.stack(turned) / edge + middle


def _texture(image: NDArray[np.float32], mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float32]:
    """What varies within some mm inside a nodule, around 0; 0 at its border and outside."""
    sigma = [_TEXTURE_MM / edge for edge in spacing]
    weight = np.clip((distance_inside(mask, spacing) - 1.0) / _SOLID_MM, 0.0, 1.0)
    solid = mask.astype(np.float32)
    smooth = ndimage.gaussian_filter(image * solid, sigma) / np.maximum(ndimage.gaussian_filter(solid, sigma), 1e-3)
    return ((image - smooth) * weight).astype(np.float32)


def _roundness(mask: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Short axis of a mask over its long one."""
    spread = np.cov((np.argwhere(mask) * spacing).T) if mask.sum() > 1 else np.zeros((2, 2))
    short, long = np.linalg.eigvalsh(spread + np.diag(np.square(spacing)) / 12)
    return float(np.sqrt(short / long))


def _spot(values: Sequence[float]) -> Spot:
    first, second, third = (float(value) for value in values)
    return first, second, third
