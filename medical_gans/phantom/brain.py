"""The brain of the phantom head: folded cortex, deep nuclei, ventricles, cerebellum, brainstem and cord.

Numbers are places and sizes in mm in the head's own frame, of a typical adult.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fields import Points, Values, WaveField, capsule, ellipsoid, smooth_union
from .proportions import HeadProportions, on_side
from .tissues import Tissue

_DURA = 0.5  # mm, half the thickness of falx and tentorium
_CORD_START = (0, -28, -68)
CORD_END = (0, -36, -240)


class Brain:
    """What lies inside the cranial cavity."""

    def __init__(self, proportions: HeadProportions, rng: np.random.Generator) -> None:
        self._proportions = proportions
        self._sulci = WaveField(rng, (14, 22), waves=32)
        self._depth_field = WaveField(rng, (25, 60), waves=8, deviation=0.25)
        self._folia = WaveField(rng, (5.5, 8), waves=24)

    def labels(self, points: Points, depth: Values) -> NDArray[np.uint8]:
        """Tissue at each point of the cavity; `depth` is the distance in mm from its wall."""
        p = self._proportions
        labels = np.full(points.shape[1], Tissue.CSF, dtype=np.uint8)
        pial = depth - p.subarachnoid
        tentorium = self._above_tentorium(points)
        stem = self._brainstem(points)
        above = np.flatnonzero((pial > 0) & (tentorium > 1.2))
        labels[above] = self._cerebrum(points[:, above], pial[above])
        below = np.flatnonzero((pial > 0) & (tentorium < -1.2) & (stem > 0))
        labels[below] = self._cerebellum(points[:, below], np.minimum(pial[below], -1.2 - tentorium[below]))
        labels[np.abs(tentorium) < _DURA] = Tissue.CONNECTIVE
        self._paint_midline(labels, points, depth)
        self._paint_deep(labels, points)
        labels[(stem < 0) & (depth > 1)] = Tissue.WHITE_MATTER
        labels[ellipsoid(points, (0, -33, -40), (7, 5, 12)) < 0] = Tissue.CSF  # fourth ventricle
        labels[depth < _DURA * 2] = Tissue.CONNECTIVE
        return labels

    def _above_tentorium(self, points: Points) -> Values:
        """Height in mm above the tentorium, a tent with its ridge in the midline; large in front of it."""
        x, y, z = np.abs(points[0]), points[1], points[2]
        roof = -8 - 0.42 * x - 0.28 * np.maximum(-38 - y, 0)
        height: Values = np.maximum(z - roof, y + 14 + 0.55 * x).astype(np.float32)
        return height

    def _brainstem(self, points: Points) -> Values:
        midbrain = capsule(points, (0, -13, -12), (0, -18, -40), 13, 13.5)
        medulla = capsule(points, (0, -20, -42), _CORD_START, 11, 6.5)
        return np.minimum(smooth_union(midbrain, medulla, 6), capsule(points, _CORD_START, CORD_END, 5))

    def _cerebrum(self, points: Points, pial: Values) -> NDArray[np.uint8]:
        """Cortex of even thickness around sulci that run inward from the surface, white matter within."""
        p = self._proportions
        semi = np.asarray(p.cavity, dtype=np.float32)[:, None]
        radius = np.sqrt(np.einsum("ip,ip->p", points / semi, points / semi))
        # Folding by position along the surface more than by depth turns the sheets to stand on the surface.
        along_surface = points * (np.float32(0.5) + np.float32(0.5) / np.maximum(radius, np.float32(0.3)))
        sheet = self._sulci.distance_to_zero(along_surface)
        depth_limit = p.sulcal_depth * (1 + self._depth_field(points))
        below = np.maximum(pial - depth_limit, 0)
        width = p.sulcus * np.clip(1.25 - pial / depth_limit, 0.25, 1.25)
        sulcus = np.sqrt(sheet * sheet + below * below) - width
        sulcus = np.minimum(sulcus, self._fissures(points))
        labels = np.full(points.shape[1], Tissue.WHITE_MATTER, dtype=np.uint8)
        labels[np.minimum(sulcus, pial) < p.cortex] = Tissue.GREY_MATTER
        labels[sulcus < 0] = Tissue.CSF
        return labels

    def _fissures(self, points: Points) -> Values:
        """Distance from the interhemispheric fissure (outside the callosum) and from the Sylvian fissures."""
        x, y, z = np.abs(points[0]), points[1], points[2]
        joined = np.sqrt(((y + 4) / 44) ** 2 + ((z - 0) / 25) ** 2) - 1  # seen from the side: callosum and below
        between = np.hypot(x, 25 * np.maximum(-joined, 0)) - 1.1
        wander = 12 * self._depth_field(points)
        slope = z + 4 + 0.35 * (y - 8) + wander
        outside = np.maximum(np.maximum(38 - x + wander, np.abs(y - 4) - 30 - wander), 0)
        lateral = np.hypot(slope, outside) - self._proportions.sulcus
        insula = np.hypot(x - 37 - wander / 2, np.maximum(np.hypot((y - 6) / 1.6, z - 2) - 13 - wander, 0)) - 0.6
        distance: Values = np.minimum(np.minimum(between, lateral), insula).astype(np.float32)
        return distance

    def _cerebellum(self, points: Points, pial: Values) -> NDArray[np.uint8]:
        """Thin folia that run from right to left around a white core."""
        stretched = points * np.array([[0.35], [1], [1]], dtype=np.float32)
        folia = self._folia.distance_to_zero(stretched)
        mirrored = np.stack([np.abs(points[0]), points[1], points[2]])
        core = ellipsoid(mirrored, (17, -44, -40), (17, 15, 8))
        labels = np.full(points.shape[1], Tissue.GREY_MATTER, dtype=np.uint8)
        labels[(core < 0) | ((folia > 1.5) & (pial > 3) & (core < 14))] = Tissue.WHITE_MATTER
        labels[(folia < 0.45) & (core > 3) & (pial < 14)] = Tissue.CSF
        return labels

    def _paint_midline(self, labels: NDArray[np.uint8], points: Points, depth: Values) -> None:
        """Falx, sagittal sinus, cistern above the sella."""
        x, y, z = np.abs(points[0]), points[1], points[2]
        outer = ((y + 4) / 52) ** 2 + (z / 34) ** 2 > 1
        labels[(x < _DURA) & outer & (z > -12 - 0.2 * y)] = Tissue.CONNECTIVE
        sinus = (x < 1.5 + 0.5 * (7 - depth)) & (depth < 7) & (y < 60) & (z > 0)
        labels[sinus] = Tissue.BLOOD
        labels[ellipsoid(points, (0, 9, -22), (13, 11, 7)) < 0] = Tissue.CSF

    def _paint_deep(self, labels: NDArray[np.uint8], points: Points) -> None:
        """Nuclei, ventricles (the left larger), calcified pineal, and calcified plexus on the right only."""
        inner = np.flatnonzero((np.abs(points[0]) < 42) & (np.abs(points[2]) < 36) & (np.abs(points[1]) < 72))
        near = points[:, inner]
        found = labels[inner]
        mirrored = np.stack([np.abs(near[0]), near[1], near[2]])
        found[ellipsoid(near, (0, -4, 0), (17, 36, 24)) < 0] = Tissue.WHITE_MATTER
        for centre, semi in (
            ((10, -13, 4), (8, 13, 8.5)),  # thalamus
            ((13, 19, 9), (5, 8, 8)),  # head of the caudate
            ((15, -2, 18), (3, 18, 3)),  # body of the caudate
            ((26, 5, 2), (4.5, 16, 9.5)),  # putamen
            ((19.5, 2, -1), (3.5, 9, 6)),  # pallidum
        ):
            found[ellipsoid(mirrored, centre, semi) < 0] = Tissue.DEEP_GREY_MATTER
        scale = on_side(self._proportions.ventricle_scale, near[0])
        horns = capsule(mirrored, (9, 30, 6), (6.5, 8, 16), 4, 4.5)
        for start, end, first, last in (
            ((6.5, 8, 16), (11, -20, 17), 4.5, 5),
            ((11, -20, 17), (22, -40, 6), 5, 6.5),
            ((22, -40, 6), (20, -58, 4), 5, 2.5),
            ((22, -40, 6), (31, -20, -14), 5, 2.5),
            ((31, -20, -14), (31, 0, -22), 2.5, 2),
        ):
            horns = smooth_union(horns, capsule(mirrored, start, end, first, last), 2)
        found[(horns < 4.5 * (scale - 1)) & (mirrored[0] > 0.8)] = Tissue.CSF
        found[ellipsoid(near, (0, -7, -1), (2.2, 15, 12)) < 0] = Tissue.CSF  # third ventricle
        found[ellipsoid(near, (0, -31, 2), (2.4, 3, 2.4)) < 0] = Tissue.CALCIFICATION
        found[ellipsoid(near, (22, -41, 4), (3, 4.5, 3.5)) < 0] = Tissue.CALCIFICATION
        labels[inner] = found
