"""Lesions of known size that a phantom can carry."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import SettingError

from .fields import Points, Values, WaveField
from .tissues import Tissue

_KINDS = ("tumour", "haemorrhage")
_NECROSIS, _OEDEMA = (
    0.5,
    1.5,
)  # radii of a tumour's dead core and of the swelling around it, relative to its own


@dataclass(frozen=True)
class Lesion:
    """A lesion whose volume is that of a sphere of `radius_mm`, up to the roughness of its surface.

    `kind` is "tumour" (dead core, solid rim; within white matter also oedema, which the volume leaves out)
    or "haemorrhage". `centre_mm` is in RAS mm; without it the lesion lies at random within brain or muscle,
    as far inside as its size allows.

    Raises:
        SettingError: unknown kind, or a radius that is not positive.
    """

    kind: str
    radius_mm: float
    centre_mm: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise SettingError(f'There is no lesion "{self.kind}"; choose one of {", ".join(_KINDS)}.')
        if not self.radius_mm > 0:
            raise SettingError(f"A lesion has the radius {self.radius_mm} mm; a positive one is needed.")

    def placed(self, room: NDArray[np.bool_], affine: NDArray[np.float64], rng: np.random.Generator) -> Lesion:
        """The same lesion with a random centre in `room`, a mask of host tissue on the grid of `affine`."""
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        clearance = ndimage.distance_transform_edt(np.pad(room, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
        needed = min(self.radius_mm * 1.2, float(clearance.max()))
        choices = np.argwhere(clearance >= needed)
        index = choices[rng.integers(len(choices))]
        x, y, z = (affine[:3, :3] @ index + affine[:3, 3]).tolist()
        return replace(self, centre_mm=(x, y, z))


class LesionShape:
    """A placed lesion as a function of position: an ellipsoid of random axes with a rough surface."""

    def __init__(self, lesion: Lesion, rng: np.random.Generator) -> None:
        self._lesion = lesion
        stretch = np.exp(rng.normal(0, 0.15, size=3))
        axes = lesion.radius_mm * stretch / np.cbrt(stretch.prod())
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        self._to_sphere = (turn / axes[:, None]).astype(np.float32)
        self._centre = np.asarray(lesion.centre_mm, dtype=np.float32)[:, None]
        size = 2 * lesion.radius_mm
        self._roughness = WaveField(rng, (0.5 * size, size), waves=12, deviation=0.06)

    def relative_radius(self, points: Points) -> Values:
        """Distance from the centre, 1 on the lesion's surface, of points (3, points) in RAS mm."""
        scaled = self._to_sphere @ (points - self._centre)
        radius: Values = np.sqrt((scaled**2).sum(axis=0)) + self._roughness(points)
        return radius

    def paint(self, labels: NDArray[np.uint8], points: Points, hosts: NDArray[np.bool_]) -> None:
        """Replace the labels of host tissue (`hosts[label]`) at points (3, points) in RAS mm."""
        box = np.abs(points - self._centre).max(axis=0) < 2.5 * self._lesion.radius_mm
        near = np.flatnonzero(box & hosts[labels])
        if not near.size:
            return
        radius = self.relative_radius(points[:, near])
        found = labels[near]
        if self._lesion.kind == "haemorrhage":
            found[radius < 1] = Tissue.HAEMORRHAGE
        else:
            found[(radius < _OEDEMA) & (found == Tissue.WHITE_MATTER)] = Tissue.OEDEMA
            found[radius < 1] = Tissue.TUMOUR
            found[radius < _NECROSIS] = Tissue.NECROSIS
        labels[near] = found
