"""Slices of CT damaged as a generator may damage them, with the place of the damage: what a critic learns to see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from medical_gans.transforms import AIR_HU

BONE_HU = 200.0

Damage = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def shifted(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All HU 20 to 150 too high or too low."""
    return hounsfield + rng.choice([-1.0, 1.0]) * rng.uniform(20.0, 150.0)


def noisy(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of 25 to 100 HU, white or of some voxels' size."""
    noise = ndimage.gaussian_filter(rng.standard_normal(hounsfield.shape), rng.uniform(0.0, 1.5))
    return hounsfield + rng.uniform(25.0, 100.0) * noise / max(float(noise.std()), 1e-6)


def blurred(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian of 1.2 to 3 voxels."""
    return ndimage.gaussian_filter(hounsfield, rng.uniform(1.2, 3.0))


def in_blocks(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of each block of 3 to 6 voxels."""
    edge = int(rng.integers(3, 7))
    index = [np.arange(n) // edge for n in hounsfield.shape]
    labels = index[0][:, None] * (index[1][-1] + 1) + index[1][None]
    means = np.bincount(labels.ravel(), hounsfield.ravel()) / np.bincount(labels.ravel())
    return means[labels]


def striped(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every second row or column moved by 1 to 3 voxels, as where neighbouring slices disagree."""
    axis = int(rng.integers(2))
    rows = np.swapaxes(hounsfield, 0, axis).copy()
    rows[1::2] = np.roll(rows[1::2], int(rng.integers(1, 4)), axis=1)
    return np.swapaxes(rows, 0, axis)


def boneless(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bone as soft tissue, or at half of its HU."""
    kept = rng.choice([0.0, 0.5])
    return np.where(hounsfield > BONE_HU, 40.0 + kept * (hounsfield - 40.0), hounsfield)


def thinned(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bone without its outer voxel or two."""
    bone = hounsfield > BONE_HU
    core = ndimage.binary_erosion(bone, iterations=int(rng.integers(1, 3)))
    return np.where(bone & ~core, 40.0, hounsfield)


def opened(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bone missing within 4 to 12 voxels of a point of it: an open skull, a broken cortex."""
    near = _near(hounsfield > BONE_HU, rng, (4.0, 12.0))
    return np.where(near & (hounsfield > BONE_HU), 40.0, hounsfield)


def with_bone(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to five pieces of bone of 1.5 to 6 voxels in soft tissue."""
    soft = body & (hounsfield > -150.0) & (hounsfield < 150.0)
    for _ in range(int(rng.integers(1, 6))):
        piece = _near(soft, rng, (1.5, 6.0)) & soft
        hounsfield = np.where(piece, rng.uniform(250.0, 1200.0), hounsfield)
    return hounsfield


def with_holes(hounsfield: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to five holes of air of 1.5 to 6 voxels."""
    for _ in range(int(rng.integers(1, 6))):
        hounsfield = np.where(_near(body, rng, (1.5, 6.0)), AIR_HU, hounsfield)
    return hounsfield


KINDS: dict[str, Damage] = {
    "HU shifted": shifted,
    "noise": noisy,
    "blur": blurred,
    "blocks": in_blocks,
    "stripes": striped,
    "bone as soft tissue": boneless,
    "thin bone": thinned,
    "open bone": opened,
    "invented bone": with_bone,
    "holes of air": with_holes,
}


def damaged(
    hounsfield: np.ndarray, body: np.ndarray, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A slice with one kind of damage, over all of it or, in a third of the draws, in a part.

    Args:
        hounsfield: HU ``(x, y)``.
        body: boolean; nothing outside it is changed.
        kind: one of `KINDS`.
        rng: of every choice.

    Returns:
        HU, -1024 at least, and where they were changed by more than 10 HU.
    """
    changed = KINDS[kind](hounsfield.astype(np.float32), body, rng)
    inside = body & _near(body, rng, (15.0, 40.0)) if rng.random() < 1 / 3 else body
    made = np.maximum(np.where(inside, changed, hounsfield), AIR_HU).astype(np.float32)
    return made, np.abs(made - hounsfield) > 10.0


def _near(where: np.ndarray, rng: np.random.Generator, radius: tuple[float, float]) -> np.ndarray:
    """Voxels within a random radius of a random voxel of `where`; none where that is empty."""
    points = np.argwhere(where)
    if not len(points):
        return np.zeros_like(where)
    squares = [(np.arange(n) - c) ** 2 for n, c in zip(where.shape, points[rng.integers(len(points))], strict=True)]
    return squares[0][:, None] + squares[1][None] < rng.uniform(*radius) ** 2
