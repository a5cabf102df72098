"""Figures of an MR and its synthetic CT that need no true CT. Arrays are canonical: right, anterior, superior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medical_gans.transforms import mr_reference_intensity, normalise_mr

TISSUES: Mapping[str, tuple[float, float]] = {
    "air": (-np.inf, -200.0),
    "fat": (-200.0, -30.0),
    "soft": (-30.0, 150.0),
    "bone": (250.0, np.inf),
}
"""HU ranges; what lies between soft tissue and bone is a mixture and counts as neither."""

SLICE_QUANTILES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
_LEAST_BODY = 0.02  # of a slice: less shows nothing
FOOT_AND_HEAD = ("foot", "head")
_SIDES = (("left", "right"), ("back", "front"), FOOT_AND_HEAD)  # first and last index of each axis
_VOID_INTENSITY = 0.06  # of the reference: air, metal and dense bone
_VOID_RADIUS_MM = 4.0  # the cortex of a long bone is thinner than twice this
_GRID_MM = 2.0


def tissue_figures(hounsfield: np.ndarray, body: np.ndarray) -> dict[str, float]:
    """``<tissue>_share`` of the body, and ``<tissue>_hu``, the median HU of fat, soft tissue and bone.

    A median of a tissue that is not there is left out.
    """
    values = hounsfield[body]
    figures = {}
    for name, (low, high) in TISSUES.items():
        found = values[(values >= low) & (values < high)]
        figures[f"{name}_share"] = found.size / max(values.size, 1)
        if name != "air" and found.size:
            figures[f"{name}_hu"] = float(np.median(found))
    return figures


def cut_areas(body: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Area in cm2 where the body meets each side of the picture."""
    areas: dict[str, float] = {}
    for axis, ends in enumerate(_SIDES):
        pixel = float(np.prod([edge for other, edge in enumerate(spacing) if other != axis]))
        for index, side in zip((0, -1), ends, strict=True):
            areas[side] = float(np.count_nonzero(body.take(index, axis)) * pixel / 100)
    return areas


def cut_outline(body: np.ndarray, spacing: Sequence[float]) -> float:
    """Length in cm of the body's outline that the sides of the picture cut, mean over the axial slices with body.

    Other than an area it does not grow with the number of slices.
    """
    shown = np.count_nonzero(body.any(axis=(0, 1)))
    areas = cut_areas(body, spacing)
    total = sum(area for side, area in areas.items() if side not in FOOT_AND_HEAD)
    return 10 * total / (shown * spacing[2]) if shown else 0.0


def slice_quantiles(mr: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the axial slices that show body, and the quantiles of their intensity ``(slice, quantile)``.

    Intensity is that of `transforms.normalise_mr` with the reference of the whole volume.
    """
    unit = normalise_mr(mr, mr_reference_intensity(mr, body))
    shown = np.flatnonzero(body.mean(axis=(0, 1)) > _LEAST_BODY)
    rows = [np.quantile(unit[:, :, k][body[:, :, k]], SLICE_QUANTILES) for k in shown]
    return shown, np.array(rows).reshape(len(rows), len(SLICE_QUANTILES))


def mahalanobis(rows: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Distance of each row from the mean, ``(rows,)``."""
    offset = rows - mean
    return np.sqrt(np.einsum("ri,ij,rj->r", offset, precision, offset))


def largest_void(mr: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> float:
    """Volume in ml of the largest dark object in the body that is thicker than a cortex, as metal leaves it."""
    return void_object(mr, body, spacing)[0]


def void_object(
    mr: np.ndarray, body: np.ndarray, spacing: Sequence[float]
) -> tuple[float, tuple[float, float, float] | None]:
    """Volume in ml of what `largest_void` measures, and the voxel in its middle; None where there is none."""
    steps = [max(1, round(_GRID_MM / edge)) for edge in spacing]
    part = tuple(slice(None, None, step) for step in steps)
    coarse, inside = mr[part], body[part]
    edges = np.array(spacing) * steps
    dark = inside & (coarse < _VOID_INTENSITY * mr_reference_intensity(mr, body))
    depth = ndimage.distance_transform_edt(np.pad(dark, 1, mode="edge"), sampling=edges)[1:-1, 1:-1, 1:-1]
    core = depth > _VOID_RADIUS_MM
    if not core.any():
        return 0.0, None
    thick = ndimage.distance_transform_edt(~core, sampling=edges) <= _VOID_RADIUS_MM
    labels, count = ndimage.label(thick)
    sizes = ndimage.sum_labels(thick, labels, range(1, count + 1))
    largest = labels == int(np.argmax(sizes)) + 1
    inmost = np.unravel_index(int(np.where(largest, depth, -1.0).argmax()), depth.shape)
    first, second, third = (float(index * step) for index, step in zip(inmost, steps, strict=True))
    return float(np.max(sizes) * edges.prod() / 1000), (first, second, third)


def uncertainty_figures(standard_deviation: np.ndarray, body: np.ndarray) -> tuple[float, float]:
    """Mean standard deviation in the body in HU, and the share of the body above 100 HU."""
    inside = standard_deviation[body]
    return (float(inside.mean()), float(np.mean(inside > 100))) if inside.size else (0.0, 0.0)
