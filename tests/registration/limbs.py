"""A limb with a bone, marrow and a muscle border, as MR and CT, and a known motion between the two."""

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

SHAPE, SPACING = (60, 56, 24), (2.0, 2.0, 4.0)


def affine() -> np.ndarray:
    grid = np.diag([*SPACING, 1.0])
    grid[:3, 3] = -np.array(SPACING) * (np.array(SHAPE) - 1) / 2
    return grid


def points() -> np.ndarray:
    """RAS mm of every voxel, ``(x, y, z, 3)``."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    return index * np.array(SPACING) + affine()[:3, 3]


def tissue(where: np.ndarray) -> np.ndarray:
    """0 air, 1 fat, 2 muscle, 3 cortex, 4 marrow at points in mm; nothing repeats along the limb."""
    x, y, z = np.moveaxis(where, -1, 0)
    radius = np.hypot(x, y + 0.05 * z)
    label = np.where(radius < 46, 1, 0)
    label[np.hypot(x + 0.1 * z, y) < 36] = 2
    label[np.hypot(x - 15, y - 12 - 0.15 * z) < 6] = 1
    label[np.hypot((x + 18) / 1.5, y + 14, z - 12) < 12] = 1
    label[np.hypot(x + 8, (y - 20) / 1.5, z + 22) < 10] = 1
    bone = np.hypot(x - 4 - 0.2 * z, y + 6)
    width = 9 + 5 / (1 + np.exp(-z / 6))
    label[bone < width] = 3
    label[bone < width - 5] = 4
    return label


def mr_of(label: np.ndarray, seed: int = 0) -> np.ndarray:
    signal = np.array([4.0, 400.0, 160.0, 20.0, 360.0])[label]
    blurred = ndimage.gaussian_filter(signal, 0.5)
    return blurred + np.random.default_rng(seed).normal(0, 6, label.shape)


def ct_of(label: np.ndarray, seed: int = 1) -> np.ndarray:
    hounsfield = np.array([-1000.0, -100.0, 55.0, 1200.0, -20.0])[label]
    blurred = ndimage.gaussian_filter(hounsfield, 0.5)
    return np.rint(blurred + np.random.default_rng(seed).normal(0, 12, label.shape)).astype(np.int16)


class Motion:
    """From a point of the CT to the point of the MR with the same content: rigid, then smooth waves.

    Args:
        shift: mm.
        turn: degrees about the three axes.
        waves: mm.
    """

    def __init__(self, shift=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0), waves: float = 0.0) -> None:
        self.shift, self.waves = np.array(shift), waves
        self.rotation = Rotation.from_rotvec(np.deg2rad(turn)).as_matrix()

    def __call__(self, where: np.ndarray) -> np.ndarray:
        smooth = np.stack([np.sin(where[..., (a + 1) % 3] / 25 + a) for a in range(3)], -1)
        return where @ self.rotation.T + self.shift + self.waves * smooth
