"""What a head with haemorrhages shows: the haemorrhages at some age, and what may be taken for them.

Stages of a haemorrhage: relaxation after Bradley, Radiology 189:15 (1993), susceptibility as measured by
Chang et al., JMRI 44:420 (2016). T2* at 1.5 T is typical, for packed cells with a paramagnetic content.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid
from .lesions import Lesion, LesionShape
from .phantom import Phantom
from .tissue_maps import Substance, TissueMaps, substance_of
from .tissues import BRAIN, Tissue

STAGES: dict[str, Substance] = {
    "hyperacute": Substance(1250, 140, 50, 0.90, 0.57),  # oxyhaemoglobin, some deoxyhaemoglobin
    "acute": Substance(1050, 45, 8, 0.85, 1.30),  # deoxyhaemoglobin in cells
    "early subacute": Substance(420, 40, 10, 0.85, 1.14),  # methaemoglobin in cells
    "late subacute": Substance(400, 160, 45, 0.90, 0.40),  # methaemoglobin in solution
    "chronic": Substance(1100, 35, 6, 0.75, 0.71),  # haemosiderin
}
_RIMS = {"hyperacute": "acute", "late subacute": "chronic"}  # what surrounds the core of these
_RIM_MM = 1.5
_OEDEMA = substance_of(Tissue.OEDEMA)
_BLAND = Substance(1250, 150, 110, 0.88)  # contusion or infarct without blood
_SMALL_VESSEL = Substance(1100, 140, 110, 0.82)  # white-matter hyperintensity
_VEIN = Substance(1440, 150, 60, 0.90, 0.45)  # 55 % saturated: Haacke et al., MRM 52:612 (2004)
_SPREAD = 0.1  # standard deviation of the logarithm of T1, T2 and T2* between lesions of a kind
_WITHOUT = 0.1  # share of heads without a haemorrhage
_RADII_MM = (3.0, 12.0)
_VEIN_STEP_MM = 0.5


@dataclass(frozen=True)
class Haemorrhage:
    """One haemorrhage: its stage (a key of `STAGES`), the radius of the sphere of its volume, centre in RAS mm."""

    stage: str
    radius_mm: float
    centre_mm: tuple[float, float, float]


@dataclass(eq=False)
class Findings:
    """A head's maps with all findings in them, and where they are, on the grid of the maps."""

    maps: TissueMaps
    lesion: NDArray[np.bool_]  # haemorrhages with their rims, without oedema
    brain: NDArray[np.bool_]  # with its fluid, down to the lowest grey matter
    haemorrhages: list[Haemorrhage] = field(default_factory=list)


def brain_mask(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Brain, its fluid and vessels, the membranes and calcifications between, of a label map on an axial grid."""
    mask = np.isin(labels, BRAIN)
    between = np.isin(labels, (Tissue.CONNECTIVE, Tissue.BLOOD, Tissue.CALCIFICATION))
    mask |= between & ndimage.binary_closing(mask, iterations=2, structure=np.ones((3, 3, 3)))
    lowest = int((labels == Tissue.GREY_MATTER).any(axis=(0, 1)).argmax())
    mask[:, :, :lowest] = False
    return mask


def head_with_findings(phantom: Phantom, grid: Grid, rng: np.random.Generator) -> Findings:
    """Haemorrhages in nine heads of ten, one to four of radius 3 to 12 mm, among unlabelled other findings.

    Others are oedema around fresh haemorrhages, small-vessel lesions of the white matter, contusions without
    blood, and veins. The grid must be axial.
    """
    labels = phantom.tissues(grid)
    painter = _Painter(TissueMaps.of(phantom, grid), labels, brain_mask(labels), rng)
    painter.small_vessel_lesions(int(rng.integers(4, 25)))
    painter.bland_lesions(int(rng.integers(0, 4)))
    painter.veins(int(rng.integers(30, 60)))
    for _ in range(0 if rng.random() < _WITHOUT else int(rng.integers(1, 5))):
        painter.haemorrhage()
    return painter.findings


class _Painter:
    """Paints findings into tissue maps, in turn."""

    def __init__(
        self, maps: TissueMaps, labels: NDArray[np.uint8], brain: NDArray[np.bool_], rng: np.random.Generator
    ) -> None:
        self.findings = Findings(maps, np.zeros(labels.shape, dtype=bool), brain)
        self._rng = rng
        self._grid = maps.grid
        self._labels = labels.ravel()
        self._points = np.concatenate([points for _, points in maps.grid.slabs()], axis=1)
        self._depth = self._distance(brain)  # mm from the brain's surface
        self._room = self._distance(brain & (labels != Tissue.CONNECTIVE))  # and from falx and haemorrhages so far
        self._tissue = np.isin(self._labels, [tissue for tissue in BRAIN if tissue != Tissue.CSF])
        self._white = self._labels == Tissue.WHITE_MATTER

    def _distance(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Distance in mm of each voxel of the flat mask from the nearest one outside."""
        inside = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=self._grid.spacing)
        return inside[1:-1, 1:-1, 1:-1].astype(np.float32).ravel()

    def haemorrhage(self) -> None:
        radius = float(np.exp(self._rng.uniform(*np.log(_RADII_MM))))
        stage = str(self._rng.choice(list(STAGES)))
        choices = np.flatnonzero(self._tissue & (self._room > 1.2 * radius))
        if not choices.size:
            return
        centre = self._chosen(choices)
        near, relative = self._shape(radius, centre, 1.6)
        if stage != "chronic":
            halo = near[(relative < self._rng.uniform(1.1, 1.5)) & self._white[near]]
            self.findings.maps.fill(halo, self._scattered(_OEDEMA))
        inside = (relative < 1) & np.isin(self._labels[near], BRAIN)
        rim = 1 - _RIM_MM / radius if stage in _RIMS else 1.0
        self.findings.maps.fill(near[inside & (relative < rim)], self._scattered(STAGES[stage]))
        if stage in _RIMS:
            self.findings.maps.fill(near[inside & (relative >= rim)], self._scattered(STAGES[_RIMS[stage]]))
        self.findings.lesion.reshape(-1)[near[inside]] = True
        self.findings.haemorrhages.append(Haemorrhage(stage, radius, centre))
        away = np.linalg.norm(self._points - np.array(centre, dtype=np.float32)[:, None], axis=0) - 1.2 * radius
        np.minimum(self._room, away, out=self._room)

    def small_vessel_lesions(self, count: int) -> None:
        """Deep in the white matter, where small vessels end."""
        self._unlabelled(count, (1.5, 4.0), _SMALL_VESSEL, self._white, self._white & (self._depth > 18))

    def bland_lesions(self, count: int) -> None:
        """Of the size of haemorrhages."""
        self._unlabelled(count, (4.0, 10.0), _BLAND, self._tissue, self._tissue & (self._depth > 5))

    def veins(self, count: int) -> None:
        """Tubes that wander from the deep white matter to the surface."""
        choices = np.flatnonzero(self._white & (self._depth > 15))
        distance = np.full(self._labels.size, np.inf, dtype=np.float32)  # mm from the nearest vein's wall
        middle = self._points[:, self._depth > 0].mean(axis=1)
        for _ in range(count if choices.size else 0):
            start = np.array(self._chosen(choices))
            length = int(self._rng.uniform(20, 60) / _VEIN_STEP_MM)
            outward = (start - middle) / max(float(np.linalg.norm(start - middle)), 1.0)
            heading = outward + np.cumsum(self._rng.normal(0, 0.06, size=(length, 3)), axis=0)
            heading *= _VEIN_STEP_MM / np.linalg.norm(heading, axis=1, keepdims=True)
            self._approach(distance, start + np.cumsum(heading, axis=0), float(self._rng.uniform(0.5, 1.3)))
        share = np.clip(0.5 - distance / float(np.mean(self._grid.spacing)), 0, 1)
        inside = np.flatnonzero((share > 0) & self._tissue)
        self.findings.maps.fill(inside, _VEIN, share[inside])

    def _approach(self, distance: NDArray[np.float32], path: NDArray[np.float64], radius: float) -> None:
        """Lower `distance` around a path of points (points, 3) in RAS mm with a wall of this radius."""
        affine = self._grid.affine
        index = np.rint((path - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
        reach = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        voxels = (index[:, None] + reach).reshape(-1, 3)
        origin = np.repeat(path, len(reach), axis=0)
        within = ((voxels >= 0) & (voxels < self._grid.shape)).all(axis=1)
        flat = np.ravel_multi_index(tuple(voxels[within].T), self._grid.shape)
        away = np.linalg.norm(self._points[:, flat].T - origin[within], axis=1) - radius
        np.minimum.at(distance, flat, away.astype(np.float32))

    def _unlabelled(
        self,
        count: int,
        radii: tuple[float, float],
        substance: Substance,
        hosts: NDArray[np.bool_],
        centres: NDArray[np.bool_],
    ) -> None:
        choices = np.flatnonzero(centres)
        for _ in range(count if choices.size else 0):
            near, relative = self._shape(float(self._rng.uniform(*radii)), self._chosen(choices), 1.0)
            self.findings.maps.fill(near[(relative < 1) & hosts[near]], self._scattered(substance))

    def _shape(
        self, radius: float, centre: tuple[float, float, float], reach: float
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Voxels around a random shape and their distance from its centre, 1 on its surface."""
        shape = LesionShape(Lesion("haemorrhage", radius, centre), self._rng)
        offset = np.abs(self._points - np.array(centre, dtype=np.float32)[:, None]).max(axis=0)
        near = np.flatnonzero(offset < 1.6 * reach * radius)
        return near, shape.relative_radius(self._points[:, near])

    def _chosen(self, choices: NDArray[np.intp]) -> tuple[float, float, float]:
        x, y, z = self._points[:, int(self._rng.choice(choices))].tolist()
        return x, y, z

    def _scattered(self, substance: Substance) -> Substance:
        t1, t2, t2_star = np.exp(self._rng.normal(0, _SPREAD, size=3)).tolist()
        slower = substance.t2 * t2
        return substance._replace(
            t1=substance.t1 * t1, t2=slower, t2_star=min(substance.t2_star * t2_star, 0.95 * slower)
        )
