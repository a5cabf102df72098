"""The body of a nodule in space, from a patch of three dimensions or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.studies.placement.segmentation import (
    distance_inside,
    distance_outside,
    levels,
    lung_beside,
    segment_nodule,
)

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
