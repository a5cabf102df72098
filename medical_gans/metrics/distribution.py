"""How close a set of generated images is to a set of real ones, and whether it only copies them.

Frechet and kernel distance, precision, recall, density and coverage work on features ``(n, features)``, MS-SSIM on
images ``(n, *spatial)``. All of them depend on n: compare figures of equal n only, and with those of real against real.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from medical_gans.errors import InputError

MS_SSIM_SCALES = (0.0448, 0.2856, 0.3001)
"""Weights of the first scales of Wang et al. (2003), here scaled to a sum of 1: 56, 28 and 14 pixels of a patch of 56,
the coarsest that a window of 11 pixels fits into."""
_WINDOW = 11
_CHUNK = 1 << 24  # numbers held at once


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance between the Gaussians of two sets of features (Heusel et al. 2017, eq. 6), squared.

    The trace of the root of the product of the covariances is the sum of the singular values of ``R1 R2^T``, where
    ``R^T R`` is a covariance: no root of an ill-conditioned matrix is taken, and equal sets are 0 apart.

    Args:
        first: ``(n, features)``.
        second: ``(m, features)``.

    Raises:
        InputError: fewer than two samples, different features, or a value that is not finite.
    """
    first, second = _checked(first, second, least=2)
    shift = first.mean(0) - second.mean(0)
    one, other = (np.asarray(np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r")) for x in (first, second))
    traces = float(np.square(one).sum() + np.square(other).sum())
    shared = float(np.linalg.svd(one @ other.T, compute_uv=False).sum())
    return max(float(shift @ shift) + traces - 2.0 * shared, 0.0)


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared maximum mean discrepancy with the kernel ``(x y / features + 1)^3``, unbiased (Binkowski et al. 2018).

    Without bias means that it is below 0 about as often as above for two sets from one distribution.

    Args:
        first: ``(n, features)``.
        second: ``(m, features)``.

    Raises:
        InputError: as `frechet_distance`.
    """
    first, second = _checked(first, second, least=2)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float(values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    return within(first) + within(second) - 2.0 * float(kernel(first, second).mean())


def precision_recall_density_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> dict[str, float]:
    """Share of one set within the manifold of the other, a manifold being balls up to the k-th neighbour.

    Args:
        real: ``(n, features)``.
        generated: ``(m, features)``.
        k: neighbours, the sample itself not counted.

    Returns:
        ``precision``: generated within a real ball; ``recall``: real within a generated ball (Kynkaanniemi et al.
        2019). ``density``: real balls over a generated sample, divided by k, may exceed 1; ``coverage``: real balls
        that hold a generated sample (Naeem et al. 2020).

    Raises:
        InputError: a set has no k neighbours, and as `frechet_distance`.
    """
    real, generated = _checked(real, generated, least=k + 1)
    real_radius, generated_radius = (np.partition(cdist(x, x), k, axis=1)[:, k] for x in (real, generated))
    apart = cdist(real, generated)
    in_real = apart < real_radius[:, None]
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float((apart < generated_radius[None, :]).any(1).mean()),
        "density": float(in_real.sum(0).mean() / k),
        "coverage": float((apart.min(1) < real_radius).mean()),
    }


def ms_ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> np.ndarray:
    """Multi-scale structural similarity (Wang et al. 2003) of pairs of images, with `MS_SSIM_SCALES`.

    Args:
        first: ``(n, *spatial)`` with two or three axes.
        second: of the same shape.
        data_range: span of the values, such as the width of the window in HU.

    Returns:
        ``(n,)``; 1 for equal images.

    Raises:
        InputError: shapes differ, or an edge is below 44 voxels.
    """
    smallest = _WINDOW * 2 ** (len(MS_SSIM_SCALES) - 1)
    if first.shape != second.shape or first.ndim not in (3, 4) or min(first.shape[1:]) < smallest:
        raise InputError(
            f"MS-SSIM compares images of one shape with edges of {smallest} voxels or more; "
            f"got {first.shape} and {second.shape}."
        )
    # the constants of SSIM expect values above 0
    lowest = min(first.min(), second.min())
    first, second = (np.asarray(x - lowest, dtype=np.float32) for x in (first, second))
    weights = np.array(MS_SSIM_SCALES) / sum(MS_SSIM_SCALES)
    similarity = np.ones(len(first))
    for scale, weight in enumerate(weights, start=1):
        luminance, structure = _luminance_and_structure(first, second, data_range)
        values = structure * luminance if scale == len(weights) else structure
        similarity *= np.maximum(values.reshape(len(first), -1).mean(1), 0.0) ** weight
        first, second = _halved(first), _halved(second)
    return similarity


def _luminance_and_structure(first: np.ndarray, second: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of SSIM, the second with contrast, where the window lies within the images."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    stacked = np.stack([first, second, first * first, second * second, first * second])
    mean_first, mean_second, square_first, square_second, product = _smoothed(stacked)
    means = mean_first**2 + mean_second**2
    structure = (2 * (product - mean_first * mean_second) + c2) / (square_first + square_second - means + c2)
    return (2 * mean_first * mean_second + c1) / (means + c1), structure


def _smoothed(stacked: np.ndarray) -> np.ndarray:
    """Gaussian means (sigma 1.5 voxels) along the spatial axes of ``(maps, n, *spatial)``, as products of matrices."""
    window = np.exp(-0.5 * np.square((np.arange(_WINDOW) - _WINDOW // 2) / 1.5))
    for axis in range(2, stacked.ndim):
        size = stacked.shape[axis]
        rows = size - _WINDOW + 1
        matrix = np.zeros((size, rows), dtype=np.float32)
        for offset, weight in enumerate(window / window.sum()):
            matrix[np.arange(rows) + offset, np.arange(rows)] = weight
        stacked = np.moveaxis(np.moveaxis(stacked, axis, -1) @ matrix, -1, axis)
    return stacked


def _halved(images: np.ndarray) -> np.ndarray:
    """Means over blocks of two voxels along each spatial axis."""
    for axis in range(1, images.ndim):
        even = np.moveaxis(images, axis, 0)[: images.shape[axis] // 2 * 2]
        images = np.moveaxis((even[::2] + even[1::2]) / 2.0, 0, axis)
    return images


def ms_ssim_diversity(images: np.ndarray, data_range: float, rng: np.random.Generator) -> float:
    """Mean MS-SSIM of random pairs, each image in one pair (after Odena et al. 2017): high where all look alike.

    Args:
        images: ``(n, *spatial)``.
        data_range: span of the values.
        rng: draws the pairs.

    Raises:
        InputError: fewer than two images, and as `ms_ssim`.
    """
    if len(images) < 2:
        raise InputError(f"Pairs of images need 2 images or more, got {len(images)}.")
    order = rng.permutation(len(images))
    half = len(order) // 2
    return float(ms_ssim(images[order[:half]], images[order[half : 2 * half]], data_range).mean())


def nearest(samples: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance ``(n,)`` of each sample to the nearest of `reference`, and that one's index ``(n,)``.

    Args:
        samples: ``(n, *shape)``, features or images.
        reference: ``(m, *shape)``.

    Raises:
        InputError: a set is empty, or shapes differ.
    """
    if not len(samples) or not len(reference) or samples.shape[1:] != reference.shape[1:]:
        raise InputError(f"Two sets of samples of one shape are needed; got {samples.shape} and {reference.shape}.")
    least, index = np.full(len(samples), np.inf), np.zeros(len(samples), dtype=np.int64)
    step = max(1, _CHUNK // int(np.prod(reference.shape[1:])))
    sample_rows = [slice(start, start + step) for start in range(0, len(samples), step)]
    for start in range(0, len(reference), step):
        part = _flat(reference[start : start + step])
        squared = np.square(part).sum(1)
        for rows in sample_rows:
            # without the square of the sample itself, which does not change what is nearest
            apart = squared - 2.0 * (_flat(samples[rows]) @ part.T)
            best = apart.min(1)
            index[rows] = np.where(best < least[rows], apart.argmin(1) + start, index[rows])
            least[rows] = np.minimum(best, least[rows])
    # from the differences: expanded squares leave rounding where a copy is exactly 0 apart
    distances = [np.linalg.norm(_flat(samples[rows]) - _flat(reference[index[rows]]), axis=1) for rows in sample_rows]
    return np.concatenate(distances), index


def memorisation_ratio(distance: np.ndarray, held_out: np.ndarray) -> float:
    """Median distance to the nearest training sample, generated over held-out: below 1 generated ones are nearer.

    Args:
        distance: ``(n,)`` of generated samples, see `nearest`.
        held_out: ``(m,)`` of real samples of other patients.

    Raises:
        InputError: there are none, or most held-out samples are training samples.
    """
    if not len(distance) or not len(held_out):
        raise InputError(f"Distances of both kinds are needed; got {len(distance)} and {len(held_out)}.")
    expected = float(np.median(held_out))
    if expected == 0.0:
        raise InputError("Most held-out samples are copies of training samples. Split them by patient.")
    return float(np.median(distance)) / expected


def _flat(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(len(samples), -1).astype(np.float64)


def _checked(first: np.ndarray, second: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InputError(f"Two sets of features (n, features) are needed; got {first.shape} and {second.shape}.")
    if min(len(first), len(second)) < least:
        raise InputError(f"At least {least} samples of each kind are needed; got {len(first)} and {len(second)}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("Features hold NaN or infinite values; every one must be a finite number.")
    return first, second
