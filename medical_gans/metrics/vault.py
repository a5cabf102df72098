"""What a head must show without a true CT: a closed skull of usual thickness, and a brain without bone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

SKULL_HU = 300.0
"""HU above which a voxel counts as skull."""

INNER_BONE_HU = 150.0
"""HU above which what lies in the brain counts as bone."""

_BELOW_VERTEX_MM = 75.0
_LOWEST_ELEVATION = 15.0  # degrees
_INNER = 0.7  # of the way to the skin
_LEAST_SKULL_MM = 2.0
_RAYS = 2000
_STEP_MM = 0.5
_LEAST_SKIN_MM = 30.0  # of a ray, and of the middle from the side of the picture
_FEWEST_RAYS = 0.5  # of all, that must reach the skin within the picture
_LONGEST_MM = 200.0
_CUT_VERTEX_CM2 = 30.0  # of the uppermost slice: then some mm are missing, and the rays that leave there are left out


@dataclass(frozen=True)
class Vault:
    """Figures of the vault, over rays from the middle of the head.

    Attributes:
        closed: share of the rays that meet at least 2 mm of skull.
        thickness_mm: median over the rays of the length above 300 HU.
        largest_hu: median over the rays of their largest HU.
        density_ratio: median over the rays of HU of the marrow relative to that of the two tables (skull density ratio,
            Chang et al. 2016); 1 where there is no marrow, `nan` where no ray meets 2 mm of skull.
        inner_bone: share of the inner 70 % of the rays above 150 HU, weighted as a volume.
        brain_spread_hu: interquartile range of HU in the inner 70 %, weighted as a volume.
        thicknesses_mm: of each ray ``(ray,)``; ``nan`` where it leaves the picture before it meets the skin.
    """

    closed: float
    thickness_mm: float
    largest_hu: float
    density_ratio: float
    inner_bone: float
    brain_spread_hu: float
    thicknesses_mm: np.ndarray

    def figures(self) -> dict[str, float]:
        """Figures by name, for tables."""
        return {
            "vault_closed": self.closed,
            "vault_thickness_mm": self.thickness_mm,
            "vault_largest_hu": self.largest_hu,
            "skull_density_ratio": self.density_ratio,
            "inner_bone": self.inner_bone,
            "brain_spread_hu": self.brain_spread_hu,
        }


def measure_vault(hounsfield: np.ndarray, body: Any, spacing: Sequence[float]) -> Vault | None:
    """Follow rays from a point 75 mm below the vertex, in the middle of the head, out to the skin.

    The rays are spread evenly over all directions of more than 15 degrees above the horizontal, so that face and skull
    base stay out. A ray that reaches the side of the picture before the skin is left out.

    Args:
        hounsfield: HU ``(x, y, z)``, canonical axes (x to the right, y to the front, z to the head).
        body: the head, filled, same shape: a boolean array, or what answers as one.
        spacing: voxel size in mm.

    Returns:
        None where there is nothing to measure: no body, less than 75 mm of it below the vertex, a vertex that the
        picture cuts by more than 30 cm2, or fewer than half of the rays that meet the skin in the picture.
    """
    edges = np.asarray(spacing, dtype=float)
    middle = _middle(body, edges)
    if middle is None:
        return None
    depth = np.arange(0.0, _LONGEST_MM, _STEP_MM)
    directions = _directions()
    position = (middle[:, None, None] + directions.T[:, :, None] * depth) / edges[:, None, None]
    within = np.all((position >= 0) & (position <= np.array(body.shape)[:, None, None] - 1), axis=0)
    index = [np.clip(np.rint(p).astype(int), 0, n - 1) for p, n in zip(position, body.shape, strict=True)]
    inside = body[tuple(index)] & within
    skin = np.where(inside.any(1), inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1), 0)
    last = within.sum(1) - 1  # a box is convex: a ray leaves it once
    kept = (skin * _STEP_MM > _LEAST_SKIN_MM) & (skin < last)
    if kept.mean() < _FEWEST_RAYS:
        return None
    reach = int(skin[kept].max()) + 1
    seen = hounsfield if hounsfield.dtype.kind in "iu" else np.asarray(hounsfield, dtype=np.float32)
    values = ndimage.map_coordinates(seen, position[:, kept, :reach], np.float32, order=1, mode="nearest")
    before = np.arange(reach) <= skin[kept][:, None]
    lengths = _STEP_MM * np.count_nonzero((values > SKULL_HU) & before, axis=1)
    largest = np.max(np.where(before, values, -np.inf), axis=1)
    # the volume that a step stands for grows with the square of its distance
    inner = np.arange(reach) <= _INNER * skin[kept][:, None]
    weight = np.broadcast_to(depth[:reach] ** 2, inner.shape)[inner]
    thicknesses = np.full(len(directions), np.nan)
    thicknesses[kept] = lengths
    return Vault(
        closed=float(np.mean(lengths >= _LEAST_SKULL_MM)),
        thickness_mm=float(np.median(lengths)),
        largest_hu=float(np.median(largest)),
        density_ratio=_density_ratio([v[b] for v, b in zip(values, before, strict=True)]),
        inner_bone=float(np.average(values[inner] > INNER_BONE_HU, weights=weight)),
        brain_spread_hu=_spread(values[inner], weight),
        thicknesses_mm=thicknesses,
    )


def _middle(body: Any, edges: np.ndarray) -> np.ndarray | None:
    """Where the rays begin, in mm from the first voxel; None where the head is not in the picture."""
    shown = np.flatnonzero(body.any(axis=(0, 1)))
    if not len(shown) or body[:, :, -1].sum() * edges[0] * edges[1] > 100 * _CUT_VERTEX_CM2:
        return None
    height = round(shown[-1] - _BELOW_VERTEX_MM / edges[2])
    if height < 0 or not body[:, :, height].any():
        return None
    across = ndimage.center_of_mass(body[:, :, height])
    middle = np.array([*across, height]) * edges
    sides = np.array(body.shape[:2]) * edges[:2]
    if min(middle[:2].min(), (sides - middle[:2]).min()) < _LEAST_SKIN_MM:
        return None
    return middle


def _directions() -> np.ndarray:
    """Unit vectors ``(ray, 3)`` of equal solid angle: a spiral (Fibonacci) from the lowest elevation to the vertex."""
    lowest = np.sin(np.deg2rad(_LOWEST_ELEVATION))
    number = np.arange(_RAYS) + 0.5
    height = lowest + (1 - lowest) * number / _RAYS
    turn = number * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


def _density_ratio(rays: Sequence[np.ndarray]) -> float:
    ratios = []
    for hounsfield in rays:
        skull = np.flatnonzero(hounsfield > SKULL_HU)
        if len(skull) * _STEP_MM < _LEAST_SKULL_MM:
            continue
        part = hounsfield[skull[0] : skull[-1] + 1]
        half = len(part) // 2
        inner, outer = int(np.argmax(part[:half])), half + int(np.argmax(part[half:]))
        ratios.append(part[inner : outer + 1].min() / (0.5 * (part[inner] + part[outer])))
    return float(np.median(ratios)) if ratios else float("nan")


def _spread(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values)
    share = np.cumsum(weight[order])
    low, high = np.searchsorted(share, (0.25 * share[-1], 0.75 * share[-1]))
    return float(values[order[high]] - values[order[low]])
