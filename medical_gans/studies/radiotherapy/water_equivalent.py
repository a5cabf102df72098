"""How much water a parallel beam has passed on its way to each voxel."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def water_equivalent_depth(density: np.ndarray, spacing: float, gantry_angle: float) -> np.ndarray:
    """Water-equivalent depth of each voxel centre: the ray sum of density from the source side.

    The beam is parallel and lies in the axial plane. Gantry angles are those of IEC 61217 for a patient who
    lies on the back, head first: at 0 degrees the beam comes from the front, at 90 from the patient's left.

    Args:
        density: relative to water, ``(x, y, z)`` along right, anterior, superior, cubic voxels.
        spacing: mm.
        gantry_angle: degrees.

    Returns:
        mm of water, float32, of the same shape. At multiples of 90 degrees it is exact, at others interpolated.
    """
    quarters = gantry_angle / 90
    if quarters == round(quarters):
        turned = np.rot90(density, -round(quarters), axes=(0, 1))
        return np.ascontiguousarray(np.rot90(_from_front(turned, spacing), round(quarters), axes=(0, 1)))
    angle = np.deg2rad(gantry_angle)
    turn = np.eye(3)  # from the frame of the beam, which comes from the front there, to the patient
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    side = int(np.ceil(np.hypot(*density.shape[:2])))
    wide = (side, side, density.shape[2])
    turned = _turned(density, turn, wide, mode="constant")
    return _turned(_from_front(turned, spacing), turn.T, density.shape, mode="nearest")


def _turned(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], mode: str) -> np.ndarray:
    """`image` about its middle, on a grid of another shape with the same middle."""
    middles = [(np.array(size) - 1) / 2 for size in (image.shape, shape)]
    offset = middles[0] - matrix @ middles[1]
    turned: np.ndarray = ndimage.affine_transform(image, matrix, offset, shape, order=1, mode=mode)
    return turned


def _from_front(density: np.ndarray, spacing: float) -> np.ndarray:
    """Ray sum towards posterior, which is against the second axis; half of a voxel's own water counts."""
    passed = np.cumsum(density[:, ::-1], axis=1, dtype=np.float64)[:, ::-1] - density / 2
    return (spacing * passed).astype(np.float32)
