"""Everything of the phantom head outside the skull's wall: outline, scalp, orbits, nose, jaws, neck.

Numbers are places and sizes in mm in the head's own frame, of a typical adult.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .brain import CORD_END
from .fields import Points, Values, WaveField, box, capsule, ellipsoid, smooth_union, step
from .proportions import HeadProportions, on_side
from .tissues import Tissue

_DISC_SPACING, _DISC_HEIGHT, _FIRST_DISC = 17.0, 4.5, -88.0  # mm, of the cervical spine
Labels = NDArray[np.uint8]


def _mirrored(points: Points) -> Points:
    """The same points on the right side of the body."""
    return np.stack([np.abs(points[0]), points[1], points[2]])


def _paint_bone(labels: Labels, distance: Values, cortex: float = 1.3) -> None:
    labels[distance < 0] = Tissue.CORTICAL_BONE
    labels[distance < -cortex] = Tissue.CANCELLOUS_BONE


class Face:
    """Outline of the head and what it holds apart from skull and brain."""

    def __init__(self, proportions: HeadProportions, rng: np.random.Generator) -> None:
        self._proportions = proportions
        self._scalp_field = WaveField(rng, (40, 100), waves=8, deviation=0.6)
        self._fascia = WaveField(rng, (22, 40), waves=16)
        self._fascia_width = WaveField(rng, (40, 90), waves=8)
        self._ethmoid_cells = WaveField(rng, (16, 22), waves=12)
        self._teeth = rng.uniform(6.5, 7.5)
        self._front = proportions.cavity[1] - 86  # how far this face lies in front of the typical one

    def outline(self, points: Points, vault: Values, thickness: Values) -> Values:
        """Signed distance in mm from the skin; `vault` and `thickness` as `Skull` gives them."""
        p = self._proportions
        x, y, z = np.abs(points[0]), points[1], points[2]
        temporal = 7 * np.exp(-(((y - 25) / 26) ** 2) - ((z + 26) / 24) ** 2 - ((x - 70) / 25) ** 2)
        scalp = p.skin + p.scalp_fat + 1.5 + self._scalp_field(points) + temporal
        outline = vault - thickness - scalp
        low = np.flatnonzero(z < 20)
        if not low.size:
            return outline
        near = points[:, low]
        near[1] -= self._front
        drop = p.jaw_drop
        face = ellipsoid(near, (0, 36, -74), (61 + p.face_fat, 54 + p.face_fat / 2, 74 + drop))
        chin = ellipsoid(near, (0, 58, -126 - drop), (30, 27, 21))
        neck = capsule(near, (0, -24, -95), (0, -32, -260), 50 + p.face_fat, 54 + p.face_fat)
        nose = capsule(near, (0, 82, -32), (0, 97, -68), 7, 13)
        below = smooth_union(smooth_union(face, chin, 12), nose, 14)
        below = smooth_union(smooth_union(below, neck, 22), outline[low], 14)
        ear = ellipsoid(_mirrored(near), (68 + 0.5 * p.face_fat, -22, -35), (10, 14, 23))
        outline[low] = smooth_union(below, ear, 5)
        return outline

    def soft_tissue(self, points: Points, outline: Values, outside_skull: Values) -> Labels:
        """Skin, fat under it, and muscle with fat between its layers where it is deep."""
        p = self._proportions
        lower = step(-20 - points[2], 12)
        fat = p.scalp_fat + lower * (p.face_fat - p.scalp_fat) + 0.5 * self._scalp_field(points)
        labels = np.full(points.shape[1], Tissue.MUSCLE, dtype=np.uint8)
        deep = np.flatnonzero((points[2] < 5) & (outside_skull > 3))
        fascia = self._fascia.distance_to_zero(points[:, deep])
        labels[deep[fascia < 0.8 + 0.9 * self._fascia_width(points[:, deep])]] = Tissue.FAT
        labels[ellipsoid(_mirrored(points), (40, 50, -86), (9, 15, 15)) < 0] = Tissue.FAT  # of the cheek
        labels[-outline < p.skin + fat] = Tissue.FAT
        labels[-outline < p.skin] = Tissue.SKIN
        return labels

    def paint_neck(self, labels: Labels, points: Points) -> None:
        """Vertebrae, discs, cord in its canal, vessels (the right jugular wider), airway."""
        p = self._proportions
        mirrored = _mirrored(points)
        x, y, z = mirrored
        cycle = np.mod(_FIRST_DISC - z, _DISC_SPACING)
        disc = (cycle < _DISC_HEIGHT) & (z < -76)
        axis_y = -12 + (z + 70) * np.float32((CORD_END[1] + 28) / 172)
        body = np.maximum((np.hypot(x / 12.5, (y - axis_y) / 9.5) - 1) * 10.5, z + 72)
        lateral = np.maximum(np.hypot(x - 17, y - axis_y + 7) - 6.5, z + 66)
        arch = np.maximum(np.abs(np.hypot(x, y - axis_y + 18) - 12) - 2, np.maximum(y - axis_y + 14, z + 66))
        spine = np.maximum(np.maximum(x - 2.2, np.abs(y - axis_y + 38) - 12), z + 84)
        between = np.abs(cycle - 10.7) - 5.2
        for bone in (body, lateral, np.maximum(arch, between), np.maximum(spine, between)):
            _paint_bone(labels, bone.astype(np.float32), 1.2)
        labels[disc & (body < 0)] = Tissue.CARTILAGE
        canal = capsule(points, (0, -28, -62), CORD_END, 8.5)
        labels[canal < 0] = Tissue.CSF
        labels[capsule(points, (0, -28, -60), CORD_END, 5) < 0] = Tissue.WHITE_MATTER
        jugular = on_side(p.jugular_radius, points[0])
        labels[capsule(mirrored, (33, -4, -66), (30, 2, -260), 0) < jugular] = Tissue.BLOOD
        labels[capsule(mirrored, (25, 2, -66), (24, 6, -260), 3) < 0] = Tissue.BLOOD
        airway = capsule(points, (0, 15, -66), (0, 10, -260), 7.5)
        labels[airway < 1.5] = Tissue.MUCOSA
        labels[airway < 0] = Tissue.CAVITY_AIR

    def paint_jaws(self, labels: Labels, points: Points) -> None:
        """Mandible, teeth, hard palate, cheek bones, and the gap over the tongue."""
        drop = self._proportions.jaw_drop
        x, y, z = _mirrored(points)
        arch = (np.hypot(x / 27, (y - 40) / 38) - 1) * 32  # dental arch, seen from above
        front = 34 - y
        jaw = (np.hypot(x / (38 + 0.16 * np.maximum(40 - y, 0)), (y - 32) / 46) - 1) * 41
        mandible = np.maximum(np.maximum(np.abs(jaw) - 5, 12 - y), np.abs(z + 128 + drop) - 11)
        ramus = box(_mirrored(points), (47, 13, -92 - drop / 2), (3.4, 14, 34))
        alveolus = np.maximum(np.maximum(np.abs(arch) - 5.5, front), np.abs(z + 92) - 7)
        palate = np.maximum(np.maximum(arch, np.abs(y - 50) - 28), np.abs(z + 90) - 1.6)
        zygoma = smooth_union(
            ellipsoid(_mirrored(points), (46, 58, -58), (11, 9, 11)),
            capsule(_mirrored(points), (52, 54, -54), (66, -6, -50), 3.2),
            6,
        )
        for bone in (mandible, ramus, alveolus, palate, zygoma):
            _paint_bone(labels, bone.astype(np.float32))
        angle = np.arctan2(x, y - 40)
        gap = np.abs(np.mod(angle * 32 / self._teeth, 1) - 0.5) < 0.42
        row = np.maximum(np.abs(arch) - 4, front)
        upper = np.maximum(row, np.abs(z + 101) - 9)
        lower = np.maximum(row, np.abs(z + 116 + drop) - 5.5)
        labels[((upper < 0) | (lower < 0)) & gap] = Tissue.TOOTH
        mouth = np.maximum(np.maximum(arch + 7, np.abs(z + 95 + drop / 3) - 1 - drop / 3), 20 - y)
        labels[mouth < 0] = Tissue.CAVITY_AIR

    def paint_nose(self, labels: Labels, points: Points) -> None:
        """Nasal cavity with septum and turbinates, ethmoid cells, maxillary sinuses (the right larger)."""
        p = self._proportions
        x, y, z = points
        side = _mirrored(points)
        scale = on_side(p.sinus_scale, x)
        sinus = ellipsoid(side, (28, 50, -70), np.stack([11.5 * scale, 15 * scale, 15 * scale]))
        labels[sinus < 1.2] = Tissue.CORTICAL_BONE
        labels[sinus < 0] = Tissue.MUCOSA
        labels[sinus < -1] = Tissue.CAVITY_AIR
        half_width = (6 + 9 * np.clip((-50 - z) / 32, 0, 1)) * np.clip((88 - y) / 25, 0.35, 1)
        cavity = np.maximum(np.maximum(side[0] - half_width, np.abs(y - 50) - 34), np.abs(z + 67) - 21)
        pharynx = capsule(points, (0, 30, -70), (0, 15, -74), 8)
        nostril = capsule(side, (6, 82, -80), (7, 97, -77), 4.2)
        cavity = np.minimum(np.minimum(cavity, pharynx), nostril)
        labels[(cavity < 0.9) & (cavity >= 0)] = Tissue.CORTICAL_BONE
        labels[cavity < 0] = Tissue.MUCOSA
        labels[cavity < -1] = Tissue.CAVITY_AIR
        for height, size in ((-56, 2.6), (-66, 3.4), (-78, 4)):
            turbinate = ellipsoid(side, (5.5 + 0.5 * size, 48, height), (size, 24, 1.2 * size))
            labels[turbinate < 0] = Tissue.MUCOSA
            labels[turbinate < -1.9] = Tissue.CANCELLOUS_BONE
        septum = np.abs(x - p.septum_deviation * np.sin((z + 46) / 14)) - 0.6
        septum = np.maximum(septum, np.maximum(25 - y, np.maximum(-90 - z, z + 46)))
        labels[(septum < 1) & (cavity < 0)] = Tissue.MUCOSA
        labels[(septum < 0) & (cavity < 0)] = Tissue.CARTILAGE
        cells = np.flatnonzero(box(side, (0, 49, -37), (12.5, 21, 10)) < 0)
        wall = self._ethmoid_cells.distance_to_zero(points[:, cells])
        wall = np.minimum(wall, side[0, cells])
        labels[cells] = Tissue.CAVITY_AIR
        labels[cells[wall < 1]] = Tissue.MUCOSA
        labels[cells[wall < 0.5]] = Tissue.CORTICAL_BONE

    def paint_orbits(self, labels: Labels, points: Points) -> None:
        """Orbits with fat, eye, lens, optic nerve and the straight muscles."""
        radius = self._proportions.globe_radius
        side = _mirrored(points)
        side[1] -= self._front
        eye = (32, 69, -39)
        orbit = smooth_union(
            ellipsoid(side, (30, 61, -39), (16.5, 16, 15)),
            capsule(side, (28, 54, -39), (16, 30, -37), 12, 4),
            5,
        )
        open_front = side[1] - 72
        labels[(np.maximum(orbit, open_front) < 0)] = Tissue.FAT
        labels[(orbit >= 0) & (orbit < 1.2) & (open_front < 0)] = Tissue.CORTICAL_BONE
        cone = capsule(side, (16, 32, -37), (31, 66, -39), 4, 12)
        inside = orbit < -0.5
        angle = np.mod(np.arctan2(side[2] + 39, side[0] - 26) / (np.pi / 2) + 0.5, 1)
        labels[inside & (np.abs(cone) < 1.4) & (np.abs(angle - 0.5) < 0.17) & (open_front < -6)] = Tissue.MUSCLE
        labels[capsule(side, (14, 24, -36), (29, 58, -39), 2.2) < 0] = Tissue.WHITE_MATTER
        globe = ellipsoid(side, eye, (radius, radius, radius))
        labels[globe < 0] = Tissue.CONNECTIVE
        labels[globe < -1] = Tissue.VITREOUS
        labels[ellipsoid(side, (32, 69 + radius - 4.5, -39), (4.6, 2.2, 4.6)) < 0] = Tissue.LENS
