"""The skull of the phantom head: the cranial cavity, the vault with its diploe, and the base.

Numbers are places and sizes in mm in the head's own frame, of a typical adult.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fields import Points, Values, WaveField, capsule, ellipsoid, smooth_intersection, smooth_union, step
from .proportions import HeadProportions, on_side
from .tissues import Tissue

_INNER_TABLE, _OUTER_TABLE = 1.5, 1.8  # mm of compact bone on each side of the diploe


def _bump(values: Values, width: float) -> Values:
    scaled = values / np.float32(width)
    bump: Values = np.exp(-scaled * scaled)
    return bump


class Skull:
    """Where the cranial cavity ends, how thick its wall is, and what the wall is made of."""

    def __init__(self, proportions: HeadProportions, rng: np.random.Generator) -> None:
        self._proportions = proportions
        self._thickness_field = WaveField(rng, (35, 90), waves=8, deviation=0.6)
        self._air_cells = WaveField(rng, (9, 13), waves=16)

    def vault(self, points: Points) -> Values:
        """Signed distance in mm from the vault's inside as if it closed below: an egg, wide at the back."""
        width, length, height = self._proportions.cavity
        widening = 1 - 0.09 * np.clip(points[1] / length, -1, 1) + 0.05 * np.clip(points[2] / height, -1, 1)
        semi = np.empty_like(points)
        semi[0], semi[1], semi[2] = width * widening, length, height
        return ellipsoid(points, (0, 0, 0), semi)

    def cavity(self, points: Points, vault: Values) -> Values:
        """Signed distance from the cranial cavity: the vault cut by the three fossae of the skull's base."""
        return smooth_intersection(vault, self._floor(points) - points[2], 6)

    def _floor(self, points: Points) -> Values:
        """Height of the skull's base: anterior, middle and posterior fossa, the petrous ridge between."""
        x, y = np.abs(points[0]), points[1]
        scale = self._proportions.cavity[2] / 71
        midline = _bump(x, 15)
        anterior = -24 + 5 * _bump(x - 30, 14) - 5 * _bump(x, 7)
        middle = -43 + 17 * midline
        behind_ridge = y - 6 + 0.62 * x
        beside_ridge = step(58 - x, 3) * step(x - 9, 3)
        in_front = step(y - 23 - 0.33 * x, 4)
        in_middle = 0.5 * (1 + np.tanh(behind_ridge / (4 + 7 * midline)))
        floor = -68 + in_middle * (middle + 68 + in_front * (anterior - middle))
        floor += 11 * beside_ridge * _bump(behind_ridge, 6)
        height: Values = np.float32(scale) * floor.astype(np.float32)
        return height

    def thickness(self, points: Points, vault: Values, cavity: Values) -> Values:
        """Thickness of the wall in mm, more at forehead and occiput, less at the temples and the base."""
        x, y, z = points
        wall = self._proportions.skull_thickness + self._thickness_field(points)
        wall += 3 * _bump(y + 88, 14) * _bump(z + 20, 18)
        wall += 4 * _bump(x, 26) * step(y - 70, 4) * _bump(z + 12, 14)
        wall -= 0.35 * wall * _bump(z + 22, 22) * _bump(y - 20, 35)
        base = 2.0 + 2.7 * step(35 - y, 6)
        in_base = step(cavity - vault - 5, 2)  # there the floor of the fossae ends the cavity, not the vault
        thickness: Values = wall + in_base * (base - wall)
        return np.maximum(thickness, np.float32(1.8))

    def paint_wall(self, labels: NDArray[np.uint8], cavity: Values, thickness: Values) -> None:
        """Paint the wall: compact tables with diploe between them where it is thick enough."""
        bone = cavity < thickness
        diploe = (cavity > _INNER_TABLE) & (cavity < thickness - _OUTER_TABLE)
        labels[bone] = Tissue.CORTICAL_BONE
        labels[diploe] = Tissue.CANCELLOUS_BONE

    def paint_base(self, labels: NDArray[np.uint8], points: Points) -> None:
        """Paint sphenoid body and sinus, clivus, petrous and mastoid bones with their air cells."""
        mirrored = points.copy()
        np.abs(points[0], out=mirrored[0])
        scale = on_side(self._proportions.sinus_scale, points[0])
        core = smooth_union(
            ellipsoid(points, (0, 14, -40), (15, 18, 12)), capsule(points, (0, 4, -38), (0, -13, -66), 6.5), 6
        )
        labels[core < 0] = Tissue.CORTICAL_BONE
        labels[core < -1.3] = Tissue.CANCELLOUS_BONE
        labels[ellipsoid(mirrored, (7.5, 20, -40), np.stack([6 * scale, 12 * scale, 8 * scale])) < 0] = (
            Tissue.CAVITY_AIR
        )
        petrous = capsule(mirrored, (13, 2, -48), (52, -22, -47), 6, 10)
        mastoid = ellipsoid(mirrored, (56, -25, -58), (10, 13, 19))
        labels[petrous < 0] = Tissue.CORTICAL_BONE
        labels[mastoid < 0] = Tissue.CORTICAL_BONE
        hollow = np.flatnonzero((mastoid < -1.5) | ((petrous < -2.5) & (mirrored[0] > 38)))
        level = -0.1 + self._proportions.mastoid_air
        labels[hollow[self._air_cells(points[:, hollow]) < level]] = Tissue.CAVITY_AIR
        labels[capsule(mirrored, (46, -16, -46), (80, -16, -46), 3.2) < 0] = Tissue.CAVITY_AIR  # ear canal

    def paint_frontal_sinus(self, labels: NDArray[np.uint8], points: Points, vault: Values, thickness: Values) -> None:
        """Paint the frontal sinuses in the thickened forehead, the right one larger."""
        scale = on_side(self._proportions.sinus_scale, points[0])
        mirrored = points.copy()
        np.abs(points[0], out=mirrored[0])
        front = self._proportions.cavity[1]
        outline = ellipsoid(mirrored, (10.5, front + 1, -14), np.stack([9.5 * scale, 14 * scale, 15 * scale]))
        within_wall = np.abs(vault - thickness / 2) - np.minimum(3.4 * scale, thickness / 2 - 1.2)
        air = smooth_intersection(outline, within_wall, 2)
        labels[air < 0] = Tissue.CAVITY_AIR
