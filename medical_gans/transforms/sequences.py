"""The sequences of a case on one grid, normalised, as a network sees them; and the way back to the case's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from medical_gans.errors import InputError
from medical_gans.io.grid import Affine, corners, largest_distance
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.volumes import Volume, check_same_grid, read_label_map, read_mask, read_volume
from medical_gans.transforms import body_mask

if TYPE_CHECKING:
    from os import PathLike

_CONSTANT_SHARE = 0.2  # of all voxels with one value: a background that was masked away
_OUTLIERS = (0.5, 99.5)  # percentiles that mean and deviation are taken within
_HIGHEST = 6.0  # deviations
_SAME_GRID_MM = 0.01
_LEAST_OVERLAP = 0.5  # of the first sequence's corners' box that another one must cover


@dataclass(eq=False)
class SequenceVolume:
    """A case as a network sees it, and where it came from.

    Attributes:
        image: ``(channel, *spatial)`` float32 in RAS order; each channel has mean 0 and deviation 1 within the
            foreground and is 0 outside; a missing channel is 0.
        foreground: ``(*spatial)``, head or brain.
        affine: of `image`, voxel index -> RAS+ mm.
        label: ``(*spatial)`` uint8 on the grid of `image`, None without labels.
        source_label: the label as stored, in classes, on the grid of `source`.
        source: the first sequence that is there; outputs belong on its grid.
        notes: sentences for the report.
    """

    image: np.ndarray
    foreground: np.ndarray
    affine: Affine
    label: np.ndarray | None
    source_label: np.ndarray | None
    source: Volume
    notes: tuple[str, ...] = ()

    def to_source_grid(self, maps: np.ndarray) -> np.ndarray:
        """``(class, *spatial)`` on the grid of `image` to ``(class, *spatial)`` on the grid of `source`, linearly."""
        orientation = _orientation(self.source.affine)
        shape = _canonical(np.empty(self.source.array.shape, bool), orientation).shape
        return np.stack([_stored_order(_interpolated(one, shape), orientation) for one in maps])


def read_sequence_case(
    case: SequenceCase,
    channels: Sequence[str],
    *,
    spacing: Sequence[float | None] | None = None,
    label_groups: Sequence[Sequence[int]] | None = None,
    num_classes: int | None = None,
    strict: bool = False,
) -> SequenceVolume:
    """Read the sequences of a case onto one grid, in RAS order and normalised.

    Args:
        case: its files.
        channels: names of its sequences, for messages.
        spacing: mm along left-right, back-front, foot-head that the image is brought to, as closely as whole
            voxels allow; None keeps the source's.
        label_groups: label values that make class 1, class 2, ...; None takes them as classes.
        num_classes: refuse labels from this on.
        strict: refuse an image that can be read in two ways.

    Raises:
        InputError: as `read_volume`; not MR; a sequence that shows another place; a label map on another grid, with
            fractions, or out of range.
    """
    present = [
        (name, read_volume(path, modality="MR")) for name, path in zip(channels, case.channels, strict=True) if path
    ]
    for name, volume in present:
        if volume.modality not in (None, "MR"):
            raise InputError(f"{name} of case {case.name} is a {volume.modality}; an MR is needed.")
        if strict:
            volume.check_certain()
    first = present[0][1]
    notes = [f"{name}: {note}" for name, volume in present[1:] for note in volume.notes]
    arrays = [_on_grid_of(first, volume, (present[0][0], name), case.name, notes) for name, volume in present]
    label = _read_label(case.label, first, label_groups, num_classes) if case.label else None
    mask = _read_mask(case.mask, first) if case.mask else _foreground(arrays[0], first.spacing)

    orientation = _orientation(first.affine)
    canonical = _canonical(arrays[0], orientation)
    shape = _network_shape(canonical.shape, _canonical_spacing(first, orientation), spacing)
    foreground = _resized(_canonical(mask, orientation).astype(np.float32), shape) > 0.5
    if not foreground.any():
        raise InputError(f"No head can be found in {first.source}. Give a mask beside it, or check the image.")
    made = (_normalised(_resized(_canonical(array, orientation), shape), foreground) for array in arrays)
    image = np.stack([next(made) if path else np.zeros(shape, np.float32) for path in case.channels])
    return SequenceVolume(
        image=image,
        foreground=foreground,
        affine=_resized_affine(first, orientation, canonical.shape, shape),
        label=None if label is None else _resized_label(_canonical(label, orientation), shape),
        source_label=label,
        source=first,
        notes=tuple(notes),
    )


def _on_grid_of(first: Volume, volume: Volume, names: tuple[str, str], case: str, notes: list[str]) -> np.ndarray:
    array = volume.array.astype(np.float32, copy=False)
    same_shape = volume.array.shape == first.array.shape
    places = corners(first.array.shape, first.affine)
    if same_shape and largest_distance(places, corners(volume.array.shape, volume.affine)) <= _SAME_GRID_MM:
        return array
    to_voxel = np.linalg.inv(volume.affine) @ first.affine
    lattice = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 9) for n in first.array.shape), indexing="ij")).reshape(
        3, -1
    )
    there = to_voxel[:3, :3] @ lattice + to_voxel[:3, 3:]
    inside = ((there > -0.5) & (there < np.array(volume.array.shape)[:, None] - 0.5)).all(0).mean()
    if inside < _LEAST_OVERLAP:
        raise InputError(
            f"{names[1]} of case {case} covers {100 * inside:.0f} % of the field of view of {names[0]}; at least "
            f"{100 * _LEAST_OVERLAP:.0f} % are needed. Check that they belong together, or register them."
        )
    notes.append(f"{names[1]} lies on another grid than {names[0]} and was resampled to it.")
    return ndimage.affine_transform(
        array, to_voxel[:3, :3], to_voxel[:3, 3], first.array.shape, order=1, cval=float(array.min())
    )


def _read_label(
    path: str | PathLike[str], first: Volume, groups: Sequence[Sequence[int]] | None, num_classes: int | None
) -> np.ndarray:
    volume = read_label_map(path)
    check_same_grid(first, volume)
    label, values = volume.array, np.unique(volume.array)
    if groups is not None:
        known = {0, *(int(value) for group in groups for value in group)}
        _refuse_unknown(path, [int(v) for v in values if v not in known], f"label_groups {list(groups)}")
        table = np.zeros(256, np.uint8)
        for index, group in enumerate(groups, start=1):
            table[list(group)] = index
        return table[label]
    if num_classes is not None:
        beyond = [int(v) for v in values if v >= num_classes]
        _refuse_unknown(path, beyond, f"num_classes {num_classes} (0 to {num_classes - 1})")
    return label


def _refuse_unknown(path: str | PathLike[str], values: list[int], allowed: str) -> None:
    if values:
        raise InputError(
            f"{path} holds the labels {values[:6]}, which {allowed} does not name. Correct the labels, or say what "
            "makes which class, such as label_groups: [[1, 2, 3, 4]]."
        )


def _read_mask(path: str | PathLike[str], first: Volume) -> np.ndarray:
    mask = read_mask(path)
    check_same_grid(first, mask)
    return mask.array


def _foreground(array: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """What is not background: all but the value of a background masked away, else the body."""
    edge = array[0, 0, 0]
    masked = array == edge
    return ~masked if masked.mean() >= _CONSTANT_SHARE else body_mask(array, spacing)


def _normalised(array: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    inside = array[foreground]
    low, high = np.percentile(inside, _OUTLIERS)
    kept = inside[(inside >= low) & (inside <= high)]
    deviation = max(float(kept.std()), 1e-6)
    scaled = np.clip((array - float(kept.mean())) / deviation, -_HIGHEST, _HIGHEST)
    return np.where(foreground, scaled, 0.0).astype(np.float32)


def _orientation(affine: Affine) -> np.ndarray:
    import nibabel as nib

    return nib.orientations.io_orientation(affine)


def _canonical(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    import nibabel as nib

    return nib.orientations.apply_orientation(array, orientation)


def _stored_order(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    import nibabel as nib

    back = nib.orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), orientation)
    return np.ascontiguousarray(nib.orientations.apply_orientation(array, back))


def _canonical_spacing(volume: Volume, orientation: np.ndarray) -> list[float]:
    spacing = [0.0, 0.0, 0.0]
    for stored, axis in enumerate(orientation[:, 0].astype(int)):
        spacing[axis] = volume.spacing[stored]
    return spacing


def _network_shape(
    shape: Sequence[int], have: Sequence[float], wanted: Sequence[float | None] | None
) -> tuple[int, ...]:
    if wanted is None:
        return tuple(shape)
    return tuple(
        n if new is None else max(1, round(n * old / new)) for n, old, new in zip(shape, have, wanted, strict=True)
    )


def _resized(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """On another number of voxels over the same extent: averaged where it gets coarser, linear where finer."""
    now = np.ascontiguousarray(array, dtype=np.float32)
    for axis, size in enumerate(shape):
        if size < now.shape[axis]:
            now = _averaged(now, axis, size)
    return _interpolated(now, shape)


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


def _resized_label(label: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Each voxel gets the class of the largest share."""
    if label.shape == tuple(shape):
        return np.ascontiguousarray(label)
    classes = np.unique(label)
    shares = np.stack([_resized(label == value, shape) for value in classes])
    return classes[shares.argmax(0)]


def _resized_affine(
    volume: Volume, orientation: np.ndarray, canonical_shape: Sequence[int], shape: Sequence[int]
) -> Affine:
    import nibabel as nib

    canonical = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.array.shape)
    scale = np.array(canonical_shape) / np.array(shape)
    change = np.diag([*scale, 1.0])
    change[:3, 3] = (scale - 1) / 2  # the outer faces stay where they are
    return canonical @ change
