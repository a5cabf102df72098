"""Radiomic measures of nodule patches: intensity, shape of the nodule, texture, sharpness; none of them is learned.

They follow the definitions of the Image Biomarker Standardisation Initiative (Zwanenburg et al. 2020) where it has one:
first-order statistics, grey-level co-occurrence with steps of 50 HU. Work on patches of two or three axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage

from medical_gans.errors import InputError

_LEVEL_HU = 50.0
_RINGS = 5
_BANDS = 4
_LUNG_HU = -500.0
_COOCCURRENCE = ("contrast", "correlation", "homogeneity", "energy", "entropy")


def radiomic_measures(
    hounsfield: np.ndarray, spacing: Sequence[float], window: Sequence[float] = (-1000.0, 400.0)
) -> tuple[np.ndarray, list[str]]:
    """All measures of all patches.

    Args:
        hounsfield: ``(n, *spatial)`` in HU, the nodule in the middle.
        spacing: mm along the spatial axes.
        window: HU beyond which values are cut.

    Returns:
        ``(n, measures)``, every one finite, and the names of the measures.

    Raises:
        InputError: patches have not two or three axes, or not as many as `spacing`.
    """
    if hounsfield.ndim not in (3, 4) or len(spacing) != hounsfield.ndim - 1:
        raise InputError(
            f"Patches (n, *spatial) of 2 or 3 axes with a spacing each are needed; got {hounsfield.shape}, {spacing}."
        )
    low, high = window
    rows = [_measures(np.clip(patch, low, high).astype(np.float64), spacing, (low, high)) for patch in hounsfield]
    names = list(rows[0]) if rows else []
    return np.array([list(row.values()) for row in rows]).reshape(len(rows), len(names)), names


def nodule_mask(patch: np.ndarray) -> np.ndarray:
    """The object in the middle of a patch ``(*spatial)`` in HU: above half way from lung to the middle's level.

    Thin vessels are cut by an opening, and a nodule on the chest wall at the ball that the patch holds.
    """
    radius = _radius(patch.shape)
    middle = patch[radius < 0.12 * min(patch.shape)]
    lung = patch[patch < _LUNG_HU]
    level = float(np.percentile(middle, 75))
    ground = float(np.median(lung)) if lung.size else float(patch.min())
    above = (patch > (level + ground) / 2.0) & (radius < min(patch.shape) / 2.0)
    opened = ndimage.binary_opening(above)
    labels, count = ndimage.label(opened if opened.any() else above)
    if count == 0:
        return radius < 1.0
    inside = np.where(labels > 0, radius, np.inf)
    found: np.ndarray = labels == labels[np.unravel_index(inside.argmin(), inside.shape)]
    return found


def _measures(patch: np.ndarray, spacing: Sequence[float], window: tuple[float, float]) -> dict[str, float]:
    mask = nodule_mask(patch)
    return {
        **_intensity(patch, "patch"),
        **_intensity(patch[mask], "nodule"),
        **_shape(patch, mask, spacing),
        **_cooccurrence(patch, window),
        **_rings(patch),
        **_sharpness(patch),
    }


def _intensity(values: np.ndarray, name: str) -> dict[str, float]:
    """First-order statistics in HU; a flat region has no skewness."""
    values = values.ravel()
    deviation = float(values.std())
    normal = (values - values.mean()) / max(deviation, 1e-6)
    percentiles = zip((10, 50, 90), np.percentile(values, (10, 50, 90)).tolist(), strict=True)
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_deviation": deviation,
        **{f"{name}_percentile_{share}": value for share, value in percentiles},
        f"{name}_skewness": float(np.mean(normal**3)),
        f"{name}_kurtosis": float(np.mean(normal**4)) - 3.0 if deviation > 1e-6 else 0.0,
    }


def _shape(patch: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Size, roundness, elongation, place and edge of the nodule."""
    dimensions = patch.ndim
    size = float(mask.sum() * np.prod(spacing))
    points = np.argwhere(mask) * np.asarray(spacing)
    centre = (np.asarray(patch.shape) - 1) / 2.0 * np.asarray(spacing)
    spread = np.linalg.eigvalsh(np.atleast_2d(np.cov(points.T, bias=True)) + np.diag(np.square(spacing) / 12.0))
    # a ball of `size` has the smallest mean distance of its points from their centre
    radius = (size / {2: np.pi, 3: np.pi * 4 / 3}[dimensions]) ** (1 / dimensions)
    second_moment = radius**2 * dimensions / (dimensions + 2)
    gradient = np.sqrt(sum(np.square(g) for g in np.gradient(patch, *spacing)))
    edge = mask ^ ndimage.binary_erosion(mask)
    return {
        "log_size": float(np.log(size)),
        "compactness": second_moment / float(spread.sum()),
        "elongation": float(np.sqrt(spread[0] / spread[-1])),
        "border_share": float(edge.sum() / mask.sum()),
        "off_centre": float(np.linalg.norm(points.mean(0) - centre)),
        "edge_gradient": float(gradient[edge].mean()),
        "edge_gradient_deviation": float(gradient[edge].std()),
    }


def _cooccurrence(patch: np.ndarray, window: tuple[float, float]) -> dict[str, float]:
    """Grey-level co-occurrence of the patch at one and two voxels, mean over directions (Haralick et al. 1973)."""
    count = int(np.ceil((window[1] - window[0]) / _LEVEL_HU))
    level = np.minimum(((patch - window[0]) / _LEVEL_HU).astype(np.int64), count - 1)
    found: dict[str, float] = {}
    for distance in (1, 2):
        offsets = [o for o in product((-1, 0, 1), repeat=patch.ndim) if o > (0,) * patch.ndim]
        values = [_haralick(_pairs(level, tuple(distance * o for o in offset), count)) for offset in offsets]
        found |= {
            f"cooccurrence_{name}_{distance}": value
            for name, value in zip(_COOCCURRENCE, np.mean(values, axis=0).tolist(), strict=True)
        }
    return found


def _pairs(level: np.ndarray, offset: tuple[int, ...], count: int) -> np.ndarray:
    """Symmetric share ``(count, count)`` of the pairs of levels that lie an offset apart."""
    here = tuple(slice(max(-o, 0), min(n - o, n)) for o, n in zip(offset, level.shape, strict=True))
    there = tuple(slice(max(o, 0), min(n + o, n)) for o, n in zip(offset, level.shape, strict=True))
    pairs = np.bincount((level[here] * count + level[there]).ravel(), minlength=count**2).reshape(count, count)
    both = pairs + pairs.T
    shares: np.ndarray = both / both.sum()
    return shares


def _haralick(shares: np.ndarray) -> list[float]:
    row, column = np.indices(shares.shape)
    levels = np.arange(len(shares))
    marginal = shares.sum(0)
    mean = float(marginal @ levels)
    variance = float(marginal @ (levels - mean) ** 2)
    covariance = float((shares * (row - mean) * (column - mean)).sum())
    present = shares[shares > 0]
    return [
        float((shares * (row - column) ** 2).sum()),
        covariance / variance if variance > 1e-9 else 1.0,
        float((shares / (1.0 + (row - column) ** 2)).sum()),
        float((shares**2).sum()),
        float(-(present * np.log2(present)).sum()),
    ]


def _rings(patch: np.ndarray) -> dict[str, float]:
    """Mean HU in rings around the middle."""
    ring = np.minimum(_radius(patch.shape) / (min(patch.shape) / 2.0) * _RINGS, _RINGS).astype(int)
    means = ndimage.mean(patch, ring, range(_RINGS))
    return {f"ring_{number}": float(mean) for number, mean in enumerate(means)}


def _sharpness(patch: np.ndarray) -> dict[str, float]:
    """Logarithm of the power between octaves of frequency, which noise raises and blur lowers, and of the noise."""
    windowed = (patch - patch.mean()) * _hann(patch.shape)
    power = np.abs(np.fft.fftn(windowed)) ** 2 / patch.size
    means = ndimage.mean(power, _octaves(patch.shape), range(1, _BANDS + 1))
    found = {f"log_power_{band}": float(np.log(mean + 1.0)) for band, mean in enumerate(means, start=1)}
    residual = patch - ndimage.gaussian_filter(patch, 1.0)
    found["log_noise"] = float(np.log(1.4826 * np.median(np.abs(residual)) + 1.0))
    return found


@cache
def _octaves(shape: tuple[int, ...]) -> np.ndarray:
    """Number of the octave of each frequency, the highest that the voxels hold being `_BANDS`; 0 for all below."""
    axes = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    frequency = np.sqrt(sum(np.square(axis) for axis in axes))
    octaves: np.ndarray = np.floor(np.log2(np.maximum(frequency, 1e-6) / 0.5)) + _BANDS
    return np.clip(octaves, 0, _BANDS).astype(np.int64)


@cache
def _hann(shape: tuple[int, ...]) -> np.ndarray:
    window = np.ones(())
    for n in shape:
        window = np.multiply.outer(window, np.hanning(n))
    return window


@cache
def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Distance of each voxel from the middle of the patch, in voxels."""
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2.0 for n in shape), indexing="ij")
    radius: np.ndarray = np.sqrt(sum(np.square(axis) for axis in axes))
    return radius
