"""A patch of fixed size and voxel size about a point of a CT volume, upright in the patient whatever its axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io.volumes import Volume

CONTINUED = 0.06
"""Share of a patch's edge that may lie beyond the source, on each side; edge values continue the source there."""


def resampled(
    images: np.ndarray,
    spacing: Sequence[float],
    size: int,
    target: Sequence[float],
    centre: Sequence[float] | None = None,
) -> np.ndarray:
    """Linear resampling of images, antialiased where voxels grow, continued by edge values.

    Args:
        images: ``(n, *spatial)``.
        spacing: mm along the spatial axes.
        size: voxels along each edge of the result.
        target: mm along the spatial axes of the result.
        centre: index in the images, per axis, that becomes the centre of the result; their own centre by default.

    Returns:
        ``(n, size, ...)`` float32.
    """
    made = np.asarray(images, dtype=np.float32)
    for axis, (old, new) in enumerate(zip(spacing, target, strict=True), start=1):
        length = made.shape[axis]
        middle = (length - 1) / 2 if centre is None else centre[axis - 1]
        weights = _weights(length, size, new / old, middle)
        made = np.moveaxis(np.tensordot(made, weights, axes=(axis, 1)), -1, axis)
    return made


def beyond(length: int, size: int, scale: float, centre: float | None = None) -> float:
    """Share of the edge of a patch that lies beyond the source, on the worse side.

    Args:
        length: voxels of the source.
        size: voxels of the patch.
        scale: voxel of the patch over voxel of the source.
        centre: index in the source at the centre of the patch.
    """
    middle = (length - 1) / 2 if centre is None else centre
    half = size * scale / 2
    return max(half - (middle + 0.5), half - (length - 0.5 - middle), 0.0) / (size * scale)


def check_extent(length: int, size: int, scale: float, spacing: float, source: object) -> None:
    """Refuse a patch that is much larger than its source.

    Raises:
        InputError: it is.
    """
    if beyond(length, size, scale) > CONTINUED:
        raise InputError(
            f"{source}: the patch is larger than the volume: {size} voxels of {spacing * scale:g} mm are "
            f"{size * scale * spacing:.1f} mm, but the source has {length * spacing:.1f} mm. "
            "Set a smaller size or spacing."
        )


def _weights(length: int, size: int, scale: float, centre: float) -> np.ndarray:
    """``(size, length)``: a triangle about each new voxel, as wide as the larger of both voxels."""
    positions = centre + (np.arange(size) - (size - 1) / 2) * scale
    width = max(1.0, scale)
    reach = int(np.ceil(width)) + 1
    nearest = np.round(positions).astype(int)
    taps = nearest[:, None] + np.arange(-reach, reach + 1)
    values = np.clip(1 - np.abs(taps - positions[:, None]) / width, 0, None)
    values /= values.sum(axis=1, keepdims=True)
    weights = np.zeros((size, length))
    np.add.at(weights, (np.arange(size)[:, None], np.clip(taps, 0, length - 1)), values)
    return weights.astype(np.float32)


_AIR_HU = -300
PATCH_AXES = ((0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
"""Directions (RAS) of rows, columns and slices of a patch: to the back, to the patient's left, upward."""


def patch_at(
    volume: Volume,
    position: NDArray[np.float64],
    *,
    size: int,
    spacing: float,
    spatial_dims: int,
    window: tuple[float, float],
) -> np.ndarray | None:
    """Patch centred on a position.

    In 2D it is the slice nearest to the position, as a reader would take it.

    Args:
        volume: CT in HU.
        position: RAS mm.
        size: voxels along each edge.
        spacing: mm of a voxel.
        spatial_dims: 2 for ``(rows, columns)``, 3 for ``(rows, columns, slices)``.
        window: HU that the patch is clipped to.

    Returns:
        int16 HU; None where too much of the patch lies beyond the border of the volume.

    Raises:
        InputError: the position is outside the volume, or the patch is larger than the volume.
    """
    axes = np.array(PATCH_AXES)[:spatial_dims]
    index = check_inside(volume, position)
    _check_size(volume, axes, size, spacing)
    if _beyond(volume, index, axes, size * spacing) > CONTINUED:
        return None
    to_world, to_index = volume.affine[:3, :3], np.linalg.inv(volume.affine[:3, :3])
    nearest = np.round(index)
    steps = _steps(volume, axes)
    counts = np.ceil((size * spacing / 2) / steps).astype(int) + 2
    shape = tuple(2 * counts + 1)
    offsets = [np.arange(-count, count + 1) * step for count, step in zip(counts, steps, strict=True)]
    # sampled on the voxels' own centres, so that an upright volume is interpolated once, not twice
    world = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, spatial_dims) @ axes
    points = nearest[:, None] + to_index @ world.T
    sampled = ndimage.map_coordinates(volume.array, points, output=np.float32, order=1, mode="nearest")
    shift = axes @ (to_world @ (index - nearest))
    centre = list(counts + shift / steps)
    clipped = np.clip(sampled.reshape(shape), *window)[None]
    made = resampled(clipped, list(steps), size, (spacing,) * spatial_dims, centre)[0]
    return np.rint(made).astype(np.int16)


def check_inside(volume: Volume, position: NDArray[np.float64], name: str = "The position") -> NDArray[np.float64]:
    """Voxel index (not rounded) of a position in RAS mm.

    Raises:
        InputError: the position is outside the volume.
    """
    index = np.linalg.inv(volume.affine) @ np.append(position, 1.0)
    inside = (index[:3] >= -0.5) & (index[:3] <= np.array(volume.array.shape) - 0.5)
    if not inside.all():
        far = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.array.shape])).reshape(3, -1)
        span = volume.affine[:3, :3] @ far + volume.affine[:3, 3:]
        ranges = ", ".join(f"{low:.0f} to {high:.0f}" for low, high in zip(span.min(1), span.max(1), strict=True))
        shown = " ".join(f"{one:.1f}" for one in position)
        raise InputError(
            f"{name} {shown} mm (RAS) is outside the CT {volume.source.name}, which "
            f"spans {ranges} mm along right, front, up. Check the position, and whether it counts to the left and back "
            "(LPS: DICOM, LUNA16, ITK) or to the right and front (RAS: NIfTI)."
        )
    return index[:3]


def check_lung_ct(volume: Volume) -> None:
    """Refuse what is no CT of a chest in HU.

    Raises:
        InputError: its modality is another one, or it holds no air.
    """
    if volume.modality not in (None, "CT"):
        raise InputError(f"{volume.source} is {volume.modality}, but CT is needed. Give the CT series.")
    if volume.array.min() > _AIR_HU:
        raise InputError(
            f"{volume.source} has no value below {_AIR_HU}, so it is not a CT of a chest in HU: lung is near -800. "
            "Convert it to HU, or give another image."
        )


def _check_size(volume: Volume, axes: NDArray[np.float64], size: int, spacing: float) -> None:
    extent = np.array(volume.spacing) * volume.array.shape
    across = np.abs(axes @ _directions(volume)) @ extent
    if (across < size * spacing * (1 - 2 * CONTINUED)).any():
        spans = " x ".join(f"{one:.1f}" for one in extent)
        raise InputError(
            f"The patch is larger than the volume: {size} voxels of {spacing:g} mm are {size * spacing:.1f} mm, but "
            f"{volume.source.name} spans {spans} mm. Set a smaller size or spacing."
        )


def _beyond(volume: Volume, index: NDArray[np.float64], axes: NDArray[np.float64], edge: float) -> float:
    """Share of the patch's edge that lies beyond the volume, on the worst side."""
    reach = np.abs(np.linalg.inv(volume.affine[:3, :3]) @ axes.T).sum(axis=1) * edge / 2
    over = np.maximum(reach - (index + 0.5), reach - (np.array(volume.array.shape) - 0.5 - index))
    return float(np.max(over * volume.spacing / edge, initial=0.0))


def _steps(volume: Volume, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel size of the volume along the patch's axes."""
    world_axis = np.abs(axes).argmax(axis=1)
    nearest = io_orientation(volume.affine)[:, 0].astype(int)
    return np.array([volume.spacing[int(np.flatnonzero(nearest == axis)[0])] for axis in world_axis])


def _directions(volume: Volume) -> NDArray[np.float64]:
    return volume.affine[:3, :3] / np.array(volume.spacing)


def position_in_ras(position: Sequence[float], convention: str) -> NDArray[np.float64]:
    """A position in RAS mm from one in RAS or LPS mm."""
    signs = np.array([-1.0, -1.0, 1.0]) if convention.upper() == "LPS" else np.ones(3)
    return signs * np.asarray(position, dtype=np.float64)
