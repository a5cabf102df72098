"""Smooth random fields and simple solids as functions of position, so that any grid can sample them.

Points are float32 arrays of shape (3, points) in mm. A solid is its signed distance in mm, negative inside:
exact for capsules, of first order near the surface for ellipsoids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Points = NDArray[np.float32]
Values = NDArray[np.float32]


class WaveField:
    """A Gaussian random field with mean 0: plane waves of random direction and phase.

    `wavelengths` bounds the wave lengths in mm, `deviation` is the standard deviation of each component.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        wavelengths: tuple[float, float],
        *,
        waves: int,
        components: int = 1,
        deviation: float = 1.0,
    ) -> None:
        # Directions spread evenly over the half sphere: a few random ones would show as parallel stripes.
        height = (np.arange(waves) + rng.uniform(0.2, 0.8, size=waves)) / waves
        turn = np.pi * (3 - np.sqrt(5)) * np.arange(waves) + rng.uniform(0, 2 * np.pi)
        level = np.sqrt(1 - height**2)
        directions = np.stack([level * np.cos(turn), level * np.sin(turn), height], axis=1)
        directions = directions @ Rotation.from_quat(rng.normal(size=4)).as_matrix().T
        numbers = 2 * np.pi / rng.uniform(*wavelengths, size=(waves, 1))
        amplitudes = rng.uniform(0.6, 1.4, size=(components, waves)) * rng.choice((-1, 1), size=(components, waves))
        amplitudes *= deviation / np.sqrt((amplitudes**2).sum(axis=1, keepdims=True) / 2)
        self._wave_vectors = (directions * numbers).astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, size=(waves, 1)).astype(np.float32)
        self._amplitudes = amplitudes.astype(np.float32)

    def __call__(self, points: Points) -> Values:
        """Values of shape (points,), or (components, points) where there are several."""
        values: Values = self._amplitudes @ np.sin(self._wave_vectors @ points + self._phases)
        return values[0] if len(values) == 1 else values

    def distance_to_zero(self, points: Points) -> Values:
        """Distance in mm from the sheets on which the first component vanishes, to first order."""
        angles = self._wave_vectors @ points + self._phases
        amplitudes = self._amplitudes[:1]
        gradient = (self._wave_vectors.T * amplitudes) @ np.cos(angles)
        slope = np.sqrt((gradient**2).sum(axis=0))
        distance: Values = np.abs(amplitudes @ np.sin(angles))[0] / np.maximum(slope, 1e-3)
        return distance


def ellipsoid(points: Points, centre: Sequence[float], semi_axes: Sequence[float] | Points) -> Values:
    """Signed distance from an ellipsoid; `semi_axes` in mm, one set or one for each point (3, points)."""
    semi = np.asarray(semi_axes, dtype=np.float32).reshape(3, -1)
    scaled = (points - np.asarray(centre, dtype=np.float32)[:, None]) / semi
    radius = np.sqrt(np.einsum("ip,ip->p", scaled, scaled))
    scaled /= semi
    slope = np.sqrt(np.einsum("ip,ip->p", scaled, scaled))
    distance: Values = (radius - 1) * radius / np.maximum(slope, np.float32(1e-6))
    return distance


def capsule(
    points: Points,
    start: Sequence[float],
    end: Sequence[float],
    radius: float,
    end_radius: float | None = None,
) -> Values:
    """Signed distance from a rod with round ends whose radius goes linearly from `radius` to `end_radius`."""
    origin = np.asarray(start, dtype=np.float32)
    axis = np.asarray(end, dtype=np.float32) - origin
    relative = points - origin[:, None]
    along = np.clip((axis / (axis @ axis)) @ relative, 0, 1)
    relative -= axis[:, None] * along
    distance: Values = np.sqrt(np.einsum("ip,ip->p", relative, relative))
    taper = 0.0 if end_radius is None else end_radius - radius
    distance -= np.float32(radius) + np.float32(taper) * along
    return distance


def box(points: Points, centre: Sequence[float], half_sizes: Sequence[float]) -> Values:
    """Signed distance from a box along the axes (outside a corner: along the nearest face, thus a bound)."""
    centred = np.abs(points - np.asarray(centre, dtype=np.float32)[:, None])
    distance: Values = (centred - np.asarray(half_sizes, dtype=np.float32)[:, None]).max(axis=0)
    return distance


def smooth_union(first: Values, second: Values, blend: float) -> Values:
    """The nearer of two surfaces, rounded over `blend` mm where they meet."""
    overlap = np.maximum(np.float32(blend) - np.abs(first - second), 0)
    joined: Values = np.minimum(first, second) - overlap * overlap / np.float32(4 * blend)
    return joined


def smooth_intersection(first: Values, second: Values, blend: float) -> Values:
    """The farther of two surfaces, rounded over `blend` mm where they meet."""
    return -smooth_union(-first, -second, blend)


def step(values: Values, width: float) -> Values:
    """A smooth step from 0 to 1 across 0, about `width` mm wide."""
    rise: Values = np.float32(0.5) * (1 + np.tanh(values / np.float32(width)))
    return rise
