"""The grid that a segmenter works on, and the exact way back to the grid of the image that a case came with.

A network sees RAS order and whole voxels over the field of view of the image. Where its grid is coarser than the
image's, each voxel is the mean over the part of the axis that it covers; where it is finer, linear.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage
from torch.nn.functional import interpolate

from medical_gans.errors import InputError
from medical_gans.io.formats import Affine, corners, largest_distance
from medical_gans.io.orientation import ras_affine, ras_shape, stored_order
from medical_gans.io.volumes import Volume
from medical_gans.transforms.reading import on_its_grid

_SAME_GRID_MM = 0.01
_LEAST_OVERLAP = 0.5  # of the field of view that another image must cover
_LEAST_LABELLED = 0.2  # the same of a label or mask: a T1 often shows the neck, and the FLAIR it was drawn on does not
_WHOLE = 1e-3  # of a voxel: what is nearer to a whole number is whole


class ResizeToSpacingd(MapTransform):
    """Brings images in RAS order to another voxel size, over the same field of view.

    Args:
        keys: ``(channel, *spatial)`` with an affine.
        spacing: mm along left-right, back-front, foot-head, reached as closely as whole voxels allow; None keeps the
            axis, or all of them. An item may ask for its own in ``spacing``.
        labels: those of `keys` whose voxels get the class of the largest share; masks get true above one half.
        allow_missing_keys: leave out those of `keys` that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float | None] | None = None,
        labels: Sequence[str] = ("label",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing, self.labels = spacing, tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        spacing = made.get("spacing") or self.spacing
        for key in self.key_iterator(made):
            image: MetaTensor = made[key]
            before = np.asarray(image.affine, dtype=np.float64)
            shape = network_shape(image.shape[1:], np.linalg.norm(before[:3, :3], axis=0), spacing)
            array = image.numpy()
            if key in self.labels:
                new = np.stack([resized_label(one, shape) for one in array])
            elif array.dtype == bool:
                new = np.stack([resized(one.astype(np.float32), shape) > 0.5 for one in array])
            else:
                new = np.stack([resized(one, shape) for one in array])
            affine = torch.from_numpy(resized_affine(before, image.shape[1:], shape))
            made[key] = MetaTensor(torch.from_numpy(new), meta={**image.meta, "affine": affine})
        return made


class ToSourceGridd(MapTransform):
    """Probabilities from the grid of the network to the grid that the case came with.

    Args:
        keys: ``(class, *spatial)`` with an affine, the background first; it becomes what the other classes leave, so
            that what the network did not see is background.
        source: key of the `Volume` whose grid it is.
        grid: key of an image on the grid of the network, for programs whose inferers lose the affine.
    """

    def __init__(self, keys: KeysCollection, source: str = "source", grid: str = "image") -> None:
        super().__init__(keys)
        self.source, self.grid = source, grid

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        source: Volume = made[self.source]
        affine = np.asarray(made[self.grid].affine, dtype=np.float64)
        for key in self.key_iterator(made):
            classes = np.asarray(torch.as_tensor(made[key]).cpu())
            # the classes of a voxel lie together, among which torch finds the largest twelve times as fast
            probability = np.moveaxis(np.empty((*source.array.shape, len(classes)), np.float32), -1, 0)
            probability[1:] = to_grid_of(source, classes[1:], affine)
            np.subtract(1, probability[1:].sum(axis=0), out=probability[0])
            made[key] = on_its_grid(probability, source)
        return made


def to_grid_of(source: Volume, maps: np.ndarray, affine: Affine) -> np.ndarray:
    """Maps ``(class, *spatial)`` on the grid of `affine` to the grid of a volume, linearly; 0 beyond what they show.

    Maps whose axes are the volume's, in RAS order, come back by whole voxels or by plain interpolation over the same
    extent; others are resampled point by point.
    """
    shape = ras_shape(source.array.shape, source.affine)
    there = np.linalg.inv(ras_affine(source.affine, source.array.shape)) @ affine
    scale = np.diag(there)[:3]
    aligned = np.abs(there[:3, :3] - np.diag(scale)).max() < _WHOLE and (scale > 0).all()
    low = (
        there[:3, 3] - (scale - 1) / 2
    ) / scale  # first voxel, counted in the maps' own voxels from the volume's face
    whole = np.array(shape) / scale  # how many of them the volume holds
    first, full = np.rint(low).astype(int), np.rint(whole).astype(int)
    fits = max(np.abs(low - first).max(), np.abs(whole - full).max()) < _WHOLE
    if not (aligned and fits):
        return np.stack([_point_by_point(one, np.linalg.inv(affine) @ source.affine, source) for one in maps])
    return np.stack([stored_order(_interpolated(_placed(one, first, full), shape), source.affine) for one in maps])


def in_box_of(maps: np.ndarray, affine: Affine, box_affine: Affine, shape: Sequence[int]) -> np.ndarray:
    """Maps ``(class, *spatial)`` cut, and filled with 0, to a box of the same voxels."""
    first = np.rint((np.linalg.inv(box_affine) @ affine)[:3, 3]).astype(int)
    return np.stack([_placed(one, first, np.array(shape)) for one in maps])


def onto_grid_of(first: Volume, volume: Volume, names: tuple[str, str], case: str, *, order: int = 1) -> np.ndarray:
    """An image of the same patient, resampled to the grid of another one.

    Args:
        first: whose grid it is.
        volume: to be resampled.
        names: of both, for the message.
        case: name of the patient's case.
        order: 1 linear; 0 nearest neighbour, for labels and masks.

    Raises:
        InputError: it shows another place.
    """
    to_voxel = np.linalg.inv(volume.affine) @ first.affine
    lattice = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 9) for n in first.array.shape), indexing="ij"))
    there = to_voxel[:3, :3] @ lattice.reshape(3, -1) + to_voxel[:3, 3:]
    inside = ((there > -0.5) & (there < np.array(volume.array.shape)[:, None] - 0.5)).all(0).mean()
    least = _LEAST_OVERLAP if order else _LEAST_LABELLED
    if inside < least:
        raise InputError(
            f"{names[1]} and {names[0]} of case {case} lie on different grids: {names[1]} of case {case} covers "
            f"{100 * inside:.0f} % of the field of view of {names[0]}; at least {100 * least:.0f} % are "
            "needed. Check that they belong together, or register them."
        )
    outside = float(volume.array.min()) if order else 0.0
    return ndimage.affine_transform(
        volume.array, to_voxel[:3, :3], to_voxel[:3, 3], first.array.shape, order=order, cval=outside
    )


def same_grid(first: Volume, volume: Volume) -> bool:
    """Whether voxels of both lie within 0.01 mm of each other."""
    there, here = (corners(first.array.shape, one.affine) for one in (first, volume))
    return first.array.shape == volume.array.shape and largest_distance(there, here) <= _SAME_GRID_MM


def network_shape(
    shape: Sequence[int], have: Sequence[float], wanted: Sequence[float | None] | None
) -> tuple[int, ...]:
    """Whole voxels of about the wanted size (mm) over the same extent."""
    if wanted is None:
        return tuple(shape)
    return tuple(
        n if new is None else max(1, round(n * float(old) / new))
        for n, old, new in zip(shape, have, wanted, strict=True)
    )


def resized(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """On another number of voxels over the same extent: averaged where it gets coarser, linear where finer."""
    now = np.ascontiguousarray(array, dtype=np.float32)
    for axis, size in enumerate(shape):
        if size < now.shape[axis]:
            now = _averaged(now, axis, size)
    return _interpolated(now, shape)


def resized_label(label: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Each voxel gets the class of the largest share."""
    if label.shape == tuple(shape):
        return np.ascontiguousarray(label)
    classes = np.unique(label)
    shares = np.stack([resized(label == value, shape) for value in classes])
    return classes[shares.argmax(0)]


def resized_affine(affine: Affine, shape: Sequence[int], new_shape: Sequence[int]) -> Affine:
    """Affine of as many voxels over the same extent: the outer faces stay where they are."""
    scale = np.array(shape) / np.array(new_shape)
    change = np.diag([*scale, 1.0])
    change[:3, 3] = (scale - 1) / 2
    return affine @ change


def _interpolated(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if array.shape == tuple(shape):
        return array
    given = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return interpolate(given[None, None], size=tuple(shape), mode="trilinear")[0, 0].numpy()


def _averaged(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Mean over the part of the axis that each of fewer voxels covers; torch's own takes whole voxels only."""
    moved = np.moveaxis(array, axis, 0)
    total = np.zeros((len(moved) + 1, *moved.shape[1:]))
    np.cumsum(moved, 0, dtype=np.float64, out=total[1:])
    edges = np.linspace(0, len(moved), size + 1)
    below = np.minimum(edges.astype(int), len(moved) - 1)
    beyond = (edges - below)[:, None, None]
    reached = total[below] * (1 - beyond) + total[below + 1] * beyond
    means = np.diff(reached, axis=0) * (size / len(moved))
    return np.ascontiguousarray(np.moveaxis(means, 0, axis), dtype=np.float32)


def _placed(array: np.ndarray, first: np.ndarray, full: np.ndarray) -> np.ndarray:
    """A box of a volume, or more than it, cut and filled with 0 to the volume's size."""
    if array.shape == tuple(full) and not first.any():
        return array
    placed = np.zeros(tuple(full), array.dtype)
    inside = [(max(0, at), min(size, at + edge)) for at, size, edge in zip(first, full, array.shape, strict=True)]
    there = tuple(slice(low, high) for low, high in inside)
    here = tuple(slice(low - at, high - at) for (low, high), at in zip(inside, first, strict=True))
    placed[there] = array[here]
    return placed


def _point_by_point(array: np.ndarray, to_voxel: Affine, source: Volume) -> np.ndarray:
    given = array.astype(np.float32, copy=False)
    return ndimage.affine_transform(given, to_voxel[:3, :3], to_voxel[:3, 3], source.array.shape, order=1)
