"""Where the voxels of a volume lie: affines (voxel index -> RAS+ mm), spacing, shape."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medical_gans.errors import InputError

Affine = NDArray[np.float64]
_SINGULAR = 1e-3  # volume of a voxel over the product of its edge lengths


def lps_to_ras(affine: ArrayLike) -> Affine:
    """Turn an affine whose millimetres count to the left and back into one that counts right and front."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64) + 0.0


def corners(shape: tuple[int, ...], affine: ArrayLike) -> Affine:
    """The eight outermost voxel centres (mm), (3, 8), in a fixed order."""
    indices = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(shape)[:, None] - 1)
    matrix = np.asarray(affine, dtype=np.float64)
    return matrix[:3, :3] @ indices + matrix[:3, 3:]


def largest_distance(first: Affine, second: Affine) -> float:
    """Largest distance (mm) between corresponding points, both (3, points)."""
    return float(np.linalg.norm(first - second, axis=0).max())


def check_affine(affine: Affine, source: Path) -> None:
    """Refuse a grid with zero or non-finite spacing, or whose axes do not span space."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all():
        raise InputError(f"{source} has NaN or infinity in its affine. Export the image again.")
    check_spacing(spacing, source)
    if abs(np.linalg.det(affine[:3, :3])) < _SINGULAR * spacing.prod():
        raise InputError(f"{source} has a singular affine: its axes lie in one plane. Export the image again.")


def check_spacing(spacing: ArrayLike, source: Path) -> None:
    """Refuse voxel edge lengths that are not positive numbers of mm."""
    edges = np.asarray(spacing, dtype=np.float64)
    if not (np.isfinite(edges) & (edges > 0)).all():
        raise InputError(
            f"{source} has a spacing of {' x '.join(f'{edge:g}' for edge in edges)} mm; "
            "every edge of a voxel must be positive. Correct the header or export the image again."
        )


def check_shape(shape: tuple[int, ...], source: Path) -> tuple[int, int, int]:
    """The shape of a volume without trailing axes of length 1; refuse what is not 3D."""
    size = tuple(int(length) for length in shape)
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) != 3:
        raise InputError(
            f"{source} is {len(size)}D ({by(size)}); a 3D volume is needed. "
            + ("Split it and give one volume." if len(size) > 3 else "Give the whole volume, not one slice.")
        )
    if min(size) < 2:
        raise InputError(
            f"{source} has {by(size)} voxels; a volume needs at least 2 along each axis. "
            "Give the whole volume, not one slice."
        )
    return size


def volume_of_several(shape: tuple[int, ...], source: Path, select: str | None) -> tuple[tuple[int, ...], int]:
    """The three lengths of a volume and how many there are, and the number (from 0) of the one that was selected.

    Raises:
        InputError: several volumes and none of them selected, or no volume at all.
    """
    lengths = tuple(shape)
    while len(lengths) > 3 and lengths[-1] == 1:
        lengths = lengths[:-1]
    if len(lengths) != 4:
        return (*check_shape(lengths, source), 1), 0
    check_shape(lengths[:3], source)
    wanted = re.fullmatch(r"(?:volume|time|echo)\s*(\d+)", (select or "").strip(), re.IGNORECASE)
    if wanted and 1 <= int(wanted.group(1)) <= lengths[3]:
        return lengths, int(wanted.group(1)) - 1
    raise InputError(
        f"{source} is 4D ({by(lengths)}): {lengths[3]} volumes; one 3D volume is needed. "
        f'Choose one by select, such as --select "volume 1" (to "volume {lengths[3]}"), or split the file.'
    )


def by(shape: tuple[int, ...]) -> str:
    """A shape as people write it: `512 x 512 x 40`."""
    return " x ".join(str(length) for length in shape)
