"""A nodule becomes part of a CT.

Every voxel at the border of a nodule is taken for a mixture of nodule and lung. So the lung of the patch is subtracted
in the share that it has, and what the CT shows there, with its vessels and its noise, is put in its place:

    CT + a ((V - b) - w (CT - b))

with V the patch, b the lung in the patch, w the share of nodule in a voxel, and a = 1 at the nodule, falling to 0
within some mm around it. Where w = 1 this is the patch, where a = 0 the CT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.studies.placement.body import NoduleBody

_SAMPLES_MM = 0.6  # voxels of the CT that are larger get the mean over points so far apart, as a thick slice would


def place_nodule(
    hounsfield: np.ndarray,
    affine: np.ndarray,
    body: NoduleBody,
    position: Sequence[float],
    axes: Sequence[Sequence[float]],
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A CT with a nodule in it.

    Args:
        hounsfield: CT ``(i, j, k)``.
        affine: ``(4, 4)``, index to RAS mm.
        body: of the nodule.
        position: RAS mm of the nodule's centre.
        axes: directions (RAS) of the rows, columns and slices of the body.

    Returns:
        int16 HU, unchanged beyond some mm from the nodule; and the mask of voxels that are nodule by half or more.

    Raises:
        InputError: the nodule reaches beyond the border of the CT.
    """
    directions = np.asarray(axes, dtype=np.float64)
    index = (np.linalg.inv(affine) @ np.append(position, 1.0))[:3]
    low, high = _box(hounsfield.shape, affine, body, index, directions)
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    value, share, support = _sampled(body, directions @ affine[:3, :3], index - low, high - low)
    ct = np.asarray(hounsfield[box], dtype=np.float32)
    made = ct + support * ((value - body.lung) - share * (ct - body.lung))
    result = np.rint(hounsfield).astype(np.int16)
    result[box] = np.where(support > 0, np.rint(made), result[box]).astype(np.int16)
    mask = np.zeros(hounsfield.shape, dtype=bool)
    mask[box] = share * support >= 0.5
    return result, mask


def _box(
    shape: tuple[int, ...],
    affine: np.ndarray,
    body: NoduleBody,
    index: NDArray[np.float64],
    directions: NDArray[np.float64],
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """First and last + 1 index of the voxels that the body reaches."""
    reached = np.argwhere(body.support > 0)
    reach = np.abs(reached - body.centre).max(axis=0) * body.spacing + max(body.spacing)
    half = np.abs(np.linalg.inv(affine[:3, :3]) @ directions.T) @ reach
    low, high = np.floor(index - half).astype(int), np.ceil(index + half).astype(int) + 1
    over = np.maximum(-low, high - shape) * np.linalg.norm(affine[:3, :3], axis=0)
    if over.max() > 0:
        raise InputError(
            f"The nodule, {body.diameter:.1f} mm wide, would reach {over.max():.1f} mm beyond the border of the CT. "
            "Choose a position further inside, a smaller nodule, or a larger CT."
        )
    return low, high


def _sampled(
    body: NoduleBody, matrix: NDArray[np.float64], centre: NDArray[np.float64], shape: NDArray[np.int_]
) -> list[NDArray[np.float32]]:
    """Value, share and support on a grid whose steps are the columns of `matrix` (mm along the body's axes)."""
    counts = np.maximum(np.ceil(np.linalg.norm(matrix, axis=0) / _SAMPLES_MM - 0.01), 1).astype(int)
    fine = [(np.arange(n * c) + 0.5) / c - 0.5 for n, c in zip(shape, counts, strict=True)]
    offsets = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1) - centre
    points = np.moveaxis(offsets @ matrix.T / body.spacing + body.centre, -1, 0)
    found = []
    for volume, beyond in ((body.hounsfield, body.lung), (body.share, 0.0), (body.support, 0.0)):
        values = ndimage.map_coordinates(volume, points, output=np.float32, order=1, mode="constant", cval=beyond)
        blocks = values.reshape([edge for pair in zip(shape, counts, strict=True) for edge in pair])
        found.append(blocks.mean(axis=(1, 3, 5)))
    return found
