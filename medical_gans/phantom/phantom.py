"""A body with known tissues that can be sampled on any grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .fields import Points, Values, WaveField
from .grid import Grid
from .lesions import Lesion, LesionShape
from .tissues import LESION, Tissue

_LESION_SEARCH_MM = 4.0


class Anatomy(Protocol):
    """Tissues as a function of position in a frame of the body's own, in mm."""

    deformation_mm: float  # how far the smooth random deformation may move a boundary, standard deviation
    extent_mm: tuple[tuple[float, float, float], tuple[float, float, float]]  # box that holds what a scan shows
    lesion_hosts: tuple[Tissue, ...]  # tissue that a lesion replaces

    def labels(self, points: Points) -> NDArray[np.uint8]: ...


class Phantom:
    """An anatomy in a random pose, randomly and smoothly deformed, with lesions.

    All of it is a function of position in RAS mm: a point has the same tissue on whatever grid it is met.

    Args:
        anatomy: what to pose and deform.
        rng: source of pose, deformation, texture, and the places of lesions without a centre.
        lesions: painted in this order.
    """

    def __init__(self, anatomy: Anatomy, rng: np.random.Generator, lesions: Iterable[Lesion] = ()) -> None:
        self._anatomy = anatomy
        self._rotation = Rotation.from_rotvec(rng.normal(0, np.deg2rad(3), size=3)).as_matrix().astype(np.float32)
        self._shift = rng.normal(0, 3, size=(3, 1)).astype(np.float32)
        self._deformation = WaveField(rng, (80, 200), waves=12, components=3, deviation=anatomy.deformation_mm)
        self._texture = WaveField(rng, (3.5, 16), waves=20)
        self._hosts = np.isin(np.arange(len(Tissue)), anatomy.lesion_hosts)
        self._shapes: list[LesionShape] = []
        self._latest: tuple[tuple[tuple[int, int, int], bytes], NDArray[np.uint8]] | None = None
        self.lesions = self._place(lesions, rng)

    def _place(self, lesions: Iterable[Lesion], rng: np.random.Generator) -> tuple[Lesion, ...]:
        placed = []
        for lesion in lesions:
            if lesion.centre_mm is None:
                low, high = np.asarray(self._anatomy.extent_mm)
                shape = np.ceil((high - low) / _LESION_SEARCH_MM).astype(int)
                grid = Grid.axial(shape.tolist(), _LESION_SEARCH_MM, (low + high) / 2)
                lesion = lesion.placed(self._hosts[self.tissues(grid)], grid.affine, rng)
            self._shapes.append(LesionShape(lesion, rng))
            self._latest = None
            placed.append(lesion)
        return tuple(placed)

    def grid(self, spacing: float | Sequence[float]) -> Grid:
        """The axial grid of this spacing in mm that covers what a scan of this anatomy shows."""
        low, high = np.asarray(self._anatomy.extent_mm)
        shape = np.ceil((high - low) / np.broadcast_to(spacing, 3)).astype(int).tolist()
        return Grid.axial(shape, spacing, (low + high) / 2)

    def tissues_at(self, points: Points) -> NDArray[np.uint8]:
        """Labels (see `Tissue`) of points in RAS mm, shape (3, points)."""
        body = self._rotation @ (points - self._shift)
        body += self._deformation(body)
        labels = self._anatomy.labels(body)
        for shape in self._shapes:
            shape.paint(labels, points, self._hosts)
        return labels

    def tissues(self, grid: Grid) -> NDArray[np.uint8]:
        """Label map (see `Tissue`) at the voxel centres of the grid.

        The latest map is kept, read-only, since the CT, the MR and the mask of one grid all ask for it.
        """
        key = (grid.shape, grid.affine.tobytes())
        if self._latest is None or self._latest[0] != key:
            labels = np.empty(grid.shape, dtype=np.uint8)
            for planes, points in grid.slabs():
                labels[planes] = self.tissues_at(points).reshape(labels[planes].shape)
            labels.flags.writeable = False
            self._latest = (key, labels)
        return self._latest[1]

    def texture(self, points: Points) -> Values:
        """What makes a tissue uneven at points in RAS mm: a smooth field of mean 0 and deviation 1."""
        return self._texture(points)

    def body_mask(self, grid: Grid) -> NDArray[np.bool_]:
        """Body with the air inside it."""
        mask: NDArray[np.bool_] = self.tissues(grid) != Tissue.AIR
        return mask

    def lesion_mask(self, grid: Grid) -> NDArray[np.bool_]:
        """All lesions, a tumour with its oedema."""
        return np.isin(self.tissues(grid), LESION)
