"""Lesions as connected components of a label map: volume, place, count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

COLUMNS = (
    *("lesion", "class", "volume_ml", "voxels", "side", "right_mm", "anterior_mm", "superior_mm"),
    "mean_probability",
)
_TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong together
_MIDLINE_MM = 5.0  # to each side, in which a centre counts as neither left nor right


def lesion_table(
    label: np.ndarray,
    probability: np.ndarray | None,
    affine: ArrayLike,
    *,
    classes: Sequence[str] = ("background", "lesion"),
    middle_mm: float | None = None,
) -> list[dict[str, Any]]:
    """One row a lesion, the largest first.

    Voxels of one class that share a face, an edge or a corner are one lesion.

    Args:
        label: ``(i, j, k)`` integers, 0 is background.
        probability: ``(class, i, j, k)``; None leaves its column out.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
        classes: names of the classes, the background first.
        middle_mm: where the head's middle lies along left-right, in mm to the right; None: where the volume's does.

    Returns:
        Rows of ``lesion`` (number), ``class`` (name), ``volume_ml``, ``voxels``, ``side`` (left, right or middle, as
        the patient has it), ``right_mm``, ``anterior_mm``, ``superior_mm`` (the centre of mass in RAS+),
        ``mean_probability`` (of its class).
    """
    grid = np.asarray(affine, dtype=np.float64)
    voxel_ml = _voxel_ml(grid)
    if middle_mm is None:
        middle_mm = float((grid[:3, :3] @ ((np.array(label.shape) - 1) / 2) + grid[:3, 3])[0])
    rows: list[dict[str, Any]] = []
    for value, box in _boxes(label):
        components, count = ndimage.label(label[box] == value, _TOUCHING)
        places = np.nonzero(components)
        number = components[places]
        voxels = np.bincount(number, minlength=count + 1)[1:]
        coordinates = [place + part.start for place, part in zip(places, box, strict=True)]
        inside = np.column_stack([_means(one, number, voxels) for one in coordinates])
        centres = inside @ grid[:3, :3].T + grid[:3, 3]
        sure = None if probability is None else _means(probability[value][box][places], number, voxels)
        rows += [
            {
                "class": classes[value] if value < len(classes) else f"class {value}",
                "volume_ml": float(voxels[n] * voxel_ml),
                "voxels": int(voxels[n]),
                "side": _side(centres[n, 0] - middle_mm),
                **dict(zip(("right_mm", "anterior_mm", "superior_mm"), centres[n].tolist(), strict=True)),
                **({} if sure is None else {"mean_probability": float(sure[n])}),
            }
            for n in range(count)
        ]
    rows.sort(key=lambda row: -row["voxels"])
    return [{"lesion": number, **row} for number, row in enumerate(rows, start=1)]


def larger_lesions(label: np.ndarray, affine: ArrayLike, min_volume_ml: float) -> np.ndarray:
    """A label map without the lesions below a volume."""
    if min_volume_ml <= 0:
        return label
    fewest = min_volume_ml / _voxel_ml(np.asarray(affine, dtype=np.float64))
    kept = label.copy()
    for value, box in _boxes(label):
        components, _ = ndimage.label(label[box] == value, _TOUCHING)
        small = np.bincount(components.ravel()) < fewest - 1e-6  # a volume given in whole voxels is kept
        small[0] = False
        kept[box][small[components]] = 0
    return kept


def _means(values: np.ndarray, number: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Mean over the voxels of each component, which are numbered from 1."""
    return np.bincount(number, weights=values, minlength=len(voxels) + 1)[1:] / voxels


def _boxes(label: np.ndarray) -> list[tuple[int, tuple[slice, ...]]]:
    """Each label that occurs, and the box around it."""
    found = ndimage.find_objects(label)
    return [(value, tuple(box)) for value, box in enumerate(found, start=1) if box is not None]


def _voxel_ml(grid: np.ndarray) -> float:
    return float(abs(np.linalg.det(grid[:3, :3]))) / 1000


def _side(right_of_middle_mm: float) -> str:
    if abs(right_of_middle_mm) <= _MIDLINE_MM:
        return "middle"
    return "right" if right_of_middle_mm > 0 else "left"
