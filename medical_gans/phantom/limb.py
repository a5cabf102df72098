"""A random right thigh as a function of position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fields import Points, Values, WaveField, ellipsoid, smooth_union, step
from .lesions import Lesion
from .phantom import Phantom
from .tissues import Tissue

# Middles of the muscles in the cross-section relative to the limb's radius, x lateral, y anterior.
_MUSCLES = np.array(
    [
        (0.02, 0.72),  # rectus femoris
        (0.52, 0.38),  # vastus lateralis
        (0.12, 0.28),  # vastus intermedius
        (-0.38, 0.42),  # vastus medialis
        (-0.62, 0.22),  # sartorius
        (-0.72, -0.12),  # gracilis
        (-0.45, -0.12),  # adductor longus
        (-0.32, -0.38),  # adductor magnus
        (-0.42, -0.68),  # semimembranosus
        (-0.12, -0.72),  # semitendinosus
        (0.30, -0.58),  # biceps femoris
        (0.58, -0.12),  # tensor fasciae latae
    ],
    dtype=np.float32,
)


@dataclass(frozen=True)
class LimbProportions:
    """Sizes in mm at mid thigh; x lateral, y anterior, z proximal, origin in the middle of the shaft."""

    radius: float
    flatness: float  # the width over the depth of the cross-section
    taper: float  # relative growth of the radius for 100 mm towards the hip
    skin: float
    fat: float  # beneath the skin, on average
    medial_fat: float  # additional fat on the medial and posterior side
    septum: float  # half width of the fat between the muscles
    streaks: float  # half width of the fat within the muscles
    femur_radius: float
    cortex: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> LimbProportions:
        """An adult, lean or stout."""
        fat = rng.uniform(5, 18)
        return cls(
            radius=rng.uniform(66, 80) + 0.6 * fat,
            flatness=rng.uniform(0.92, 1.08),
            taper=rng.uniform(0.06, 0.16),
            skin=rng.uniform(1.4, 2.2),
            fat=fat,
            medial_fat=rng.uniform(0.3, 0.8) * fat,
            septum=rng.uniform(0.5, 1.2),
            streaks=rng.uniform(0.0, 0.45),
            femur_radius=rng.uniform(12.5, 15.5),
            cortex=rng.uniform(4.5, 7.0),
        )


class Limb:
    """Tissues of a right thigh in its own frame; vessels and thick fat lie medially, at negative x."""

    deformation_mm = 1.6
    extent_mm = ((-115.0, -115.0, -150.0), (115.0, 115.0, 150.0))
    lesion_hosts: tuple[Tissue, ...] = (Tissue.MUSCLE,)

    def __init__(self, rng: np.random.Generator) -> None:
        self._proportions = LimbProportions.random(rng)
        self._centres = _MUSCLES + rng.normal(0, 0.05, size=_MUSCLES.shape).astype(np.float32)
        self._drift = rng.normal(0, 0.12, size=_MUSCLES.shape).astype(np.float32)  # per 100 mm along the limb
        self._weights = rng.uniform(-0.06, 0.06, size=len(_MUSCLES)).astype(np.float32)
        self._fat_field = WaveField(rng, (50, 140), waves=8, deviation=0.15)
        self._septum_field = WaveField(rng, (30, 80), waves=8)
        self._muscle_field = WaveField(rng, (25, 60), waves=12, components=2, deviation=0.05)
        self._fibres = WaveField(rng, (9, 16), waves=16)

    def labels(self, points: Points) -> NDArray[np.uint8]:
        """Tissue label at each point; points of shape (3, points) in mm."""
        p = self._proportions
        x, y, z = points
        radius = p.radius * (1 + p.taper * z / 100)
        outline = (np.hypot(x / p.flatness, y) / radius - 1) * radius
        angle = np.arctan2(y, x)
        fat = p.fat * (1 + self._fat_field(points)) + p.medial_fat * np.cos(angle + 0.75 * np.pi)
        compartment = outline + p.skin + np.maximum(fat, 2.5)
        labels = np.full(points.shape[1], Tissue.AIR, dtype=np.uint8)
        labels[outline < 0] = Tissue.SKIN
        labels[outline < -p.skin] = Tissue.FAT
        labels[compartment < 0] = Tissue.CONNECTIVE  # fascia lata
        inner = np.flatnonzero(compartment < -0.7)
        if inner.size:
            labels[inner] = self._compartment(points[:, inner], (radius - p.skin - p.fat)[inner])
        self._paint_superficial_vein(labels, points, outline)
        return labels

    def _compartment(self, points: Points, radius: Values) -> NDArray[np.uint8]:
        labels = self._muscles(points, radius)
        self._paint_vessels(labels, points, radius)
        near = np.flatnonzero((np.abs(points[0]) < 62) & (np.abs(points[1]) < 62))
        found = labels[near]
        self._paint_femur(found, points[:, near])
        labels[near] = found
        return labels

    def _muscles(self, points: Points, radius: Values) -> NDArray[np.uint8]:
        """Muscles: the cells nearest to middles that drift along the limb; fat between and within."""
        p = self._proportions
        place = points[:2] / radius + self._muscle_field(points)
        along = points[2] / 100
        nearest = np.full(points.shape[1], np.inf, dtype=np.float32)
        second = nearest.copy()
        for centre, drift, weight in zip(self._centres, self._drift, self._weights, strict=True):
            offset = place - centre[:, None] - drift[:, None] * along
            distance = np.sqrt(offset[0] ** 2 + offset[1] ** 2) + weight
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
        gap = (second - nearest) * radius / 2  # distance in mm from the wall between two cells
        labels = np.full(points.shape[1], Tissue.MUSCLE, dtype=np.uint8)
        if p.streaks > 0.1:
            along_fibres = points * np.array([[1], [1], [0.15]], dtype=np.float32)
            labels[self._fibres.distance_to_zero(along_fibres) < p.streaks * self._septum_field(points)] = Tissue.FAT
        labels[gap < p.septum * (0.7 + 0.9 * self._septum_field(points))] = Tissue.FAT
        return labels

    def _paint_vessels(self, labels: NDArray[np.uint8], points: Points, radius: Values) -> None:
        """Femoral artery and vein in the fat of their canal, and the sciatic nerve behind the femur."""
        x, y, z = points
        canal_x, canal_y = -0.42 * radius + 0.06 * z, 0.16 * radius + 0.10 * z
        labels[np.hypot((x - canal_x) / 1.3, y - canal_y) < 9] = Tissue.FAT
        labels[np.hypot(x - canal_x - 5, y - canal_y) < 4.0] = Tissue.BLOOD
        labels[np.hypot(x - canal_x + 5, y - canal_y + 1) < 5.0] = Tissue.BLOOD
        nerve = np.hypot((x - 0.08 * radius) / 1.5, y + 0.42 * radius)
        labels[nerve < 6.5] = Tissue.FAT
        labels[nerve < 3.5] = Tissue.CONNECTIVE

    def _paint_superficial_vein(self, labels: NDArray[np.uint8], points: Points, outline: Values) -> None:
        """The great saphenous vein in the medial fat."""
        p = self._proportions
        middle = np.arctan2(points[1], points[0]) - (0.92 * np.pi + 0.0008 * points[2])
        around = middle * p.radius
        vein = np.hypot(around, outline + p.skin + 0.55 * p.fat) < min(2.4, 0.3 * p.fat)
        labels[vein & (labels == Tissue.FAT)] = Tissue.BLOOD

    def _paint_femur(self, labels: NDArray[np.uint8], points: Points) -> None:
        """Shaft with a ridge behind and fatty marrow, widening to spongy condyles towards the knee."""
        p = self._proportions
        x, y, z = points
        bow = 6 - 0.0006 * z * z
        flare = step(-115 - z, 12)
        radius = p.femur_radius + 16 * flare + 2 * step(z - 110, 20)
        shaft = np.hypot((x - 6 - 0.06 * z) / (1 + 0.35 * flare), y - bow) - radius
        ridge = ellipsoid(
            np.stack([x - 6 - 0.06 * z, y - bow + p.femur_radius, np.zeros_like(x)]), (0, 0, 0), (3.5, 5, 1)
        )
        femur = smooth_union(shaft.astype(np.float32), ridge + 30 * flare, 3)
        cortex = p.cortex * (1 - 0.7 * step(np.abs(z) - 85, 30))
        labels[femur < 0.6] = Tissue.CONNECTIVE  # periosteum
        labels[femur < 0] = Tissue.CORTICAL_BONE
        labels[shaft < -cortex] = Tissue.FATTY_MARROW
        labels[(shaft < -cortex) & (z < -105)] = Tissue.CANCELLOUS_BONE


def limb(seed: int, lesions: Iterable[Lesion] = ()) -> Phantom:
    """A right thigh, no two seeds alike; its vessels lie medially (to the patient's left of the femur)."""
    rng = np.random.default_rng(seed)
    return Phantom(Limb(rng), rng, lesions)
