"""How well one mask of lesions agrees with another, in voxels, lesions, mm and ml.

Empty masks: two empty ones agree perfectly (1, 0 mm). Where only one is empty every score is 0, and the surface
distance is the diagonal of the volume, so that a method gains nothing by saying nothing (the convention of BraTS:
373.13 mm is the diagonal of its 240 x 240 x 155 mm).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

_LESION_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)  # faces, edges and corners
_ML = 1000.0  # mm3


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """2 |P and T| / (|P| + |T|) of two masks of one shape."""
    predicted, true = _masks(prediction, truth)
    whole = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / whole if whole else 1.0


def sensitivity(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true voxels that were found: recall."""
    return _found(*_masks(truth, prediction))


def precision(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Share of the predicted voxels that are true."""
    return _found(*_masks(prediction, truth))


def hausdorff_95_mm(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """95th percentile of the distances from one surface to the other, the larger of the two directions.

    Surfaces are the voxels of a mask that touch its outside by a face, or lie at the border of the volume; distances
    are between voxel centres.

    Args:
        prediction: ``(i, j, k)``.
        truth: ``(i, j, k)``.
        spacing: voxel size in mm along i, j, k.

    Raises:
        ValueError: the masks differ in shape.
    """
    predicted, true = _masks(prediction, truth)
    some = predicted.any(), true.any()
    if not any(some):
        return 0.0
    if not all(some):
        return float(np.linalg.norm(np.array(predicted.shape) * spacing))
    box = ndimage.find_objects((predicted | true).astype(np.uint8))[0]
    surfaces = [_surface(mask[box]) * np.asarray(spacing) for mask in (predicted, true)]
    apart = [KDTree(there).query(here)[0] for here, there in (surfaces, surfaces[::-1])]
    return float(max(np.percentile(distances, 95) for distances in apart))


def lesion_f1(prediction: np.ndarray, truth: np.ndarray) -> float:
    """F1 over lesions instead of voxels, by the rule of the WMH challenge (Kuijf et al. 2019, arXiv 1904.00682).

    A lesion is a 26-connected component. A true one is found, and a predicted one is right, where at least one of
    its voxels lies in the other mask; F1 is the harmonic mean of the share of true lesions found and the share of
    predicted lesions right. One blob over several lesions finds them all: read it beside Dice and precision.
    """
    predicted, true = _masks(prediction, truth)
    found, right = _touched(true, predicted), _touched(predicted, true)
    return 2 * found * right / (found + right) if found + right > 0 else 0.0


def volume_error_ml(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Predicted minus true volume in ml; `spacing` in mm."""
    predicted, true = _masks(prediction, truth)
    voxel = float(np.prod(spacing)) / _ML
    return (np.count_nonzero(predicted) - np.count_nonzero(true)) * voxel


def segmentation_metrics(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """All figures of a mask against the true one.

    Args:
        prediction: ``(i, j, k)``, every value but 0 counts.
        truth: as `prediction`.
        spacing: voxel size in mm along i, j, k.

    Raises:
        ValueError: the masks differ in shape.
    """
    error = volume_error_ml(prediction, truth, spacing)
    return {
        "dice": dice(prediction, truth),
        "hausdorff_95_mm": hausdorff_95_mm(prediction, truth, spacing),
        "sensitivity": sensitivity(prediction, truth),
        "precision": precision(prediction, truth),
        "lesion_f1": lesion_f1(prediction, truth),
        "volume_error_ml": error,
        "absolute_volume_error_ml": abs(error),
    }


def _masks(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if first.shape != second.shape:
        raise ValueError(f"masks of one shape are needed, got {first.shape} and {second.shape}")
    return first != 0, second != 0


def _surface(mask: np.ndarray) -> np.ndarray:
    """Indices ``(n, 3)`` of the voxels at the outside."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def _found(mask: np.ndarray, other: np.ndarray) -> float:
    """Share of a mask that lies in the other; an empty mask beside one that is not has none."""
    if not mask.any():
        return float(not other.any())
    return np.count_nonzero(mask & other) / np.count_nonzero(mask)


def _touched(mask: np.ndarray, other: np.ndarray) -> float:
    """Share of the lesions of a mask that the other mask touches; as `_found` where it has none."""
    lesions, number = ndimage.label(mask, _LESION_NEIGHBOURS)
    if not number:
        return float(not other.any())
    return np.count_nonzero(np.unique(lesions[other])) / number
