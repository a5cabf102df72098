"""A random head as a function of position."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .brain import Brain
from .face import Face
from .fields import Points, Values
from .lesions import Lesion
from .phantom import Phantom
from .proportions import HeadProportions
from .skull import Skull
from .tissues import BRAIN, Tissue

_WALL_AND_SCALP_MM = 40.0  # more than any skull and scalp together


class Head:
    """Tissues of a head in its own frame: x right, y anterior, z superior, origin amid the cranial cavity."""

    deformation_mm = 1.3
    extent_mm = ((-100.0, -115.0, -125.0), (100.0, 125.0, 105.0))
    lesion_hosts: tuple[Tissue, ...] = BRAIN

    def __init__(self, rng: np.random.Generator) -> None:
        self._proportions = HeadProportions.random(rng)
        self._skull = Skull(self._proportions, rng)
        self._brain = Brain(self._proportions, rng)
        self._face = Face(self._proportions, rng)

    def labels(self, points: Points) -> NDArray[np.uint8]:
        """Tissue label at each point; points of shape (3, points) in mm."""
        everywhere = np.full(points.shape[1], Tissue.AIR, dtype=np.uint8)
        vault = self._skull.vault(points)
        reach = np.flatnonzero((vault < _WALL_AND_SCALP_MM) | (points[2] < 30))
        if reach.size:
            everywhere[reach] = self._within_reach(points[:, reach], vault[reach])
        return everywhere

    def _within_reach(self, points: Points, vault: Values) -> NDArray[np.uint8]:
        labels = np.full(points.shape[1], Tissue.AIR, dtype=np.uint8)
        cavity = self._skull.cavity(points, vault)
        thickness = self._skull.thickness(points, vault, cavity)
        outline = self._face.outline(points, vault, thickness)
        inner = np.flatnonzero(cavity < 0)
        labels[inner] = self._brain.labels(points[:, inner], -cavity[inner])
        outer = np.flatnonzero((cavity >= 0) & (outline < 0))
        near, vault, cavity, thickness = points[:, outer], vault[outer], cavity[outer], thickness[outer]
        found = self._face.soft_tissue(near, outline[outer], cavity - thickness)
        self._skull.paint_wall(found, cavity, thickness)
        beneath_skin = outline[outer] < -self._proportions.skin
        low = np.flatnonzero(beneath_skin & (near[2] < np.where(near[1] > 60, 12, -12)))
        if low.size:
            found[low] = self._below_vault(found[low], near[:, low], vault[low], cavity[low], thickness[low])
        labels[outer] = found
        return labels

    def _below_vault(
        self, labels: NDArray[np.uint8], points: Points, vault: Values, cavity: Values, thickness: Values
    ) -> NDArray[np.uint8]:
        """Base, face and neck, each over the one before; the cavity stays closed but for the spinal canal."""
        self._skull.paint_base(labels, points)
        self._face.paint_jaws(labels, points)
        self._face.paint_nose(labels, points)
        self._face.paint_orbits(labels, points)
        self._skull.paint_frontal_sinus(labels, points, vault, thickness)
        labels[cavity < 1.2] = Tissue.CORTICAL_BONE
        self._face.paint_neck(labels, points)
        return labels


def head(seed: int, lesions: Iterable[Lesion] = ()) -> Phantom:
    """A head, no two seeds alike; its right paranasal sinuses are larger than the left ones."""
    rng = np.random.default_rng(seed)
    return Phantom(Head(rng), rng, lesions)
