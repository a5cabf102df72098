"""What is measured of a volume to tell whether weights know its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medical_gans.transforms import body_mask, hounsfield_to_unit, mr_reference_intensity, normalise_mr

QUANTILE_LEVELS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
_GRID_MM = 2.0
_MOST_VOXELS = 2_000_000
_SCALP_MM = (3.0, 8.0)
_BRAIN_MM = (12.0, 20.0)
_FEWEST_VOXELS = 50


@dataclass(frozen=True)
class Measurement:
    """Figures of one volume, whatever the order and direction of its axes.

    Attributes:
        scalars: by name: ``spacing_1`` to ``_3`` and ``extent_1`` to ``_3`` (mm, ascending), ``body_volume``
            (litres), ``body_fraction`` and ``border`` (shares), ``background`` and ``rim`` (normalised
            intensity). A figure that cannot be taken is left out.
        quantiles: of the normalised intensity inside the body, at `QUANTILE_LEVELS`.
        saturated: share of the body at the very highest value.
    """

    scalars: dict[str, float]
    quantiles: tuple[float, ...]
    saturated: float


def measure(array: np.ndarray, spacing: Sequence[float], modality: str) -> Measurement | None:
    """Measure a volume on a coarse grid, so that the cost does not grow with resolution.

    Args:
        array: ``(i, j, k)``, scanner units for MR, HU for CT.
        spacing: mm.
        modality: ``"MR"`` or ``"CT"``.

    Returns:
        None when nothing in the volume looks like a body.
    """
    extent = np.array(array.shape) * spacing
    grid = max(_GRID_MM, float(np.prod(extent) / _MOST_VOXELS) ** (1 / 3))
    steps = [max(1, round(grid / size)) for size in spacing]
    coarse = np.asarray(array[tuple(slice(None, None, step) for step in steps)], dtype=np.float32)
    coarse_spacing = [size * step for size, step in zip(spacing, steps, strict=True)]
    body = body_mask(coarse, coarse_spacing, modality)
    if np.count_nonzero(body) < _FEWEST_VOXELS or coarse.min() == coarse.max():
        return None
    if modality == "CT":
        unit = hounsfield_to_unit(coarse)
    else:
        unit = normalise_mr(coarse, mr_reference_intensity(coarse, body))
    scalars = {
        **{f"spacing_{n}": float(size) for n, size in enumerate(sorted(spacing), 1)},
        **{f"extent_{n}": float(size) for n, size in enumerate(sorted(extent), 1)},
        "body_volume": float(np.count_nonzero(body) * np.prod(coarse_spacing) / 1e6),
        "body_fraction": float(body.mean()),
        "border": _border(body),
    }
    if np.count_nonzero(~body) >= _FEWEST_VOXELS:
        scalars["background"] = float(np.median(unit[~body]))
    rim = _rim(unit, body, coarse_spacing)
    if rim is not None:
        scalars["rim"] = rim
    inside = coarse[body]
    return Measurement(
        scalars=scalars,
        quantiles=tuple(float(q) for q in np.quantile(unit[body], QUANTILE_LEVELS)),
        saturated=float(np.mean(inside == inside.max())),
    )


def _border(body: np.ndarray) -> float:
    """How much of the border of the picture the body covers: the median of the three pairs of faces.

    A whole head is cut by the lower face at most, so that the median is near 0; a limb that fills the field
    of view is cut on several sides.
    """
    return float(np.median([(body.take(0, axis).mean() + body.take(-1, axis).mean()) / 2 for axis in range(3)]))


def _rim(unit: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> float | None:
    """Median intensity 3 to 8 mm below the surface minus that at 12 to 20 mm.

    Scalp over skull and limb fat over muscle make it positive; a brain without scalp and skull does not.
    Where the picture ends there is no surface.
    """
    if body.all():
        return None
    depth = ndimage.distance_transform_edt(np.pad(body, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1, 1:-1]
    layers = [unit[(depth > near) & (depth <= far)] for near, far in (_SCALP_MM, _BRAIN_MM)]
    if min(layer.size for layer in layers) < _FEWEST_VOXELS:
        return None
    return float(np.median(layers[0]) - np.median(layers[1]))
