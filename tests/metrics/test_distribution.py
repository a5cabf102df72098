"""Distances between sets of features, checked against closed forms, brute force and a direct MS-SSIM."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import correlate1d
from scipy.signal.windows import gaussian

from medical_gans.errors import InputError
from medical_gans.metrics.distribution import (
    MS_SSIM_SCALES,
    frechet_distance,
    kernel_distance,
    memorisation_ratio,
    ms_ssim,
    ms_ssim_diversity,
    nearest,
    precision_recall_density_coverage,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def with_moments(rng, mean, covariance, n=60):
    """Samples whose mean and covariance are exactly those given."""
    x = rng.normal(size=(n, len(mean)))
    x -= x.mean(0)
    own = np.linalg.cholesky(np.cov(x.T))
    return x @ np.linalg.inv(own).T @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form(rng):
    first, second = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.25])
    shift = np.array([1.0, -2.0, 0.5])
    x, y = with_moments(rng, shift, np.diag(first)), with_moments(rng, np.zeros(3), np.diag(second))
    expected = shift @ shift + np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_frechet_distance_of_any_gaussians_is_that_of_the_matrix_square_root(rng):
    from scipy.linalg import sqrtm

    a, b = rng.normal(size=(2, 5, 5))
    first, second = a @ a.T + np.eye(5), b @ b.T + np.eye(5)
    x, y = with_moments(rng, np.zeros(5), first), with_moments(rng, np.ones(5), second, n=40)
    expected = 5 + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_frechet_distance_is_zero_for_equal_sets_even_where_the_covariance_is_singular(rng):
    x = rng.normal(size=(10, 30))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x[::-1] + 2.0) == pytest.approx(30 * 4.0)


def test_frechet_distance_is_symmetric(rng):
    x, y = rng.normal(size=(20, 6)), 2 * rng.normal(size=(35, 6))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))


def test_kernel_distance_is_the_unbiased_sum_over_pairs(rng):
    x, y = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)) + 0.3

    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    within = [
        np.mean([kernel(a, b) for a, b in itertools.permutations(values, 2)])
        for values in (x, y)
    ]  # fmt: skip
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * between)


def test_kernel_distance_of_one_distribution_is_zero_on_average(rng):
    found = [kernel_distance(rng.normal(size=(30, 8)), rng.normal(size=(20, 8))) for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)
    assert min(found) < 0 < max(found)


def brute_manifolds(real, generated, k):
    def radius(x, i):
        return sorted(np.linalg.norm(x[i] - y) for j, y in enumerate(x) if j != i)[k - 1]

    def within(x, i, y):
        return np.linalg.norm(x[i] - y) < radius(x, i)

    balls = np.array([[within(real, i, y) for y in generated] for i in range(len(real))])
    recalled = [any(within(generated, j, x) for j in range(len(generated))) for x in real]
    return {
        "precision": balls.any(0).mean(),
        "recall": np.mean(recalled),
        "density": balls.sum() / (k * len(generated)),
        "coverage": balls.any(1).mean(),
    }


@pytest.mark.parametrize("k", [1, 3])
def test_manifold_figures_are_those_of_the_definitions(rng, k):
    real, generated = rng.normal(size=(15, 3)), 1.3 * rng.normal(size=(12, 3)) + 0.4
    found = precision_recall_density_coverage(real, generated, k)
    assert found == pytest.approx(brute_manifolds(real, generated, k))


def test_manifold_figures_are_those_of_the_prdc_package(rng):
    prdc = pytest.importorskip("prdc")
    real, generated = rng.normal(size=(40, 5)), rng.normal(size=(50, 5)) + 0.5
    expected = prdc.compute_prdc(real, generated, nearest_k=5)
    assert precision_recall_density_coverage(real, generated, 5) == pytest.approx(expected)


def test_a_generator_of_one_mode_keeps_precision_and_loses_recall(rng):
    real = np.concatenate([rng.normal(size=(50, 4)), rng.normal(size=(50, 4)) + 20])
    found = precision_recall_density_coverage(real, rng.normal(size=(100, 4)))
    assert found["precision"] > 0.8
    assert found["recall"] < 0.6 and found["coverage"] < 0.6


def direct_ms_ssim(first, second, data_range):
    """Wang et al. 2003, written down once more with scipy, for images of two axes."""
    weights = np.array(MS_SSIM_SCALES) / sum(MS_SSIM_SCALES)
    window = gaussian(11, 1.5)
    window /= window.sum()

    def mean(image):
        smooth = correlate1d(correlate1d(image, window, 0), window, 1)
        return smooth[5:-5, 5:-5]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    result = 1.0
    for scale, weight in enumerate(weights):
        m, n = mean(first), mean(second)
        covariance = mean(first * second) - m * n
        contrast = (2 * covariance + c2) / (mean(first**2) - m**2 + mean(second**2) - n**2 + c2)
        luminance = (2 * m * n + c1) / (m**2 + n**2 + c1)
        last = scale == len(weights) - 1
        result *= max((contrast * luminance if last else contrast).mean(), 0) ** weight
        first, second = (x.reshape(len(x) // 2, 2, -1, 2).mean((1, 3)) for x in (first, second))
    return result


def test_ms_ssim_is_that_of_the_paper_at_three_scales(rng):
    smooth = rng.normal(size=(4, 14, 14)).repeat(4, 1).repeat(4, 2) * 200 - 500
    noisy = smooth + rng.normal(size=smooth.shape) * 60
    both = np.concatenate([smooth, noisy])
    expected = [direct_ms_ssim(a - both.min(), b - both.min(), 1400.0) for a, b in zip(smooth, noisy, strict=True)]
    assert ms_ssim(smooth, noisy, 1400.0) == pytest.approx(expected, abs=1e-4)
    assert ms_ssim(smooth, smooth, 1400.0) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(3, 56, 57), (1, 44, 45, 44)])
def test_ms_ssim_is_that_of_monai_in_any_dimensions(rng, shape):
    import torch
    from monai.metrics.regression import compute_ms_ssim

    first = rng.random(shape) * 1400
    second = 0.7 * first + 0.3 * 1400 * rng.random(shape)
    lowest = min(first.min(), second.min())
    pair = (torch.from_numpy(x - lowest).float()[:, None] for x in (first, second))
    weights = (np.array(MS_SSIM_SCALES) / sum(MS_SSIM_SCALES)).tolist()
    expected = compute_ms_ssim(*pair, spatial_dims=len(shape) - 1, data_range=1400.0, weights=weights)
    assert ms_ssim(first, second, 1400.0) == pytest.approx(expected[:, 0].numpy(), abs=1e-4)


def test_images_too_small_for_three_scales_are_refused(rng):
    with pytest.raises(InputError, match="44"):
        ms_ssim(np.zeros((2, 40, 56)), np.zeros((2, 40, 56)), 1.0)


def test_diversity_is_low_where_all_images_are_alike(rng):
    various = rng.normal(size=(8, 56, 56))
    alike = various[:1] + 0.05 * rng.normal(size=(8, 56, 56))
    assert ms_ssim_diversity(alike, 6.0, np.random.default_rng(1)) > 0.9
    assert ms_ssim_diversity(various, 6.0, np.random.default_rng(1)) < 0.5


@pytest.mark.parametrize("chunk", [1 << 24, 64])
def test_nearest_is_that_of_brute_force_whatever_is_held_at_once(rng, monkeypatch, chunk):
    monkeypatch.setattr("medical_gans.metrics.distribution._CHUNK", chunk)
    samples, reference = rng.integers(-1000, 400, (9, 4, 5)), rng.integers(-1000, 400, (23, 4, 5))
    samples[3] = reference[7]
    apart = np.linalg.norm((samples[:, None] - reference[None]).reshape(9, 23, -1), axis=2)
    distance, index = nearest(samples.astype(np.int16), reference.astype(np.int16))
    assert distance == pytest.approx(apart.min(1))
    assert index.tolist() == apart.argmin(1).tolist()
    assert distance[3] == 0


def test_copies_are_nearer_than_new_samples(rng):
    training, held_out, honest = (rng.normal(size=(n, 6)) for n in (200, 80, 80))
    copies = training[:80] + 0.01 * rng.normal(size=(80, 6))
    expected = nearest(held_out, training)[0]
    assert memorisation_ratio(nearest(copies, training)[0], expected) < 0.1
    assert memorisation_ratio(nearest(honest, training)[0], expected) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("figure", [frechet_distance, kernel_distance, precision_recall_density_coverage])
def test_features_that_cannot_be_compared_are_refused(figure):
    with pytest.raises(InputError, match="features"):
        figure(np.zeros((10, 3)), np.zeros((10, 4)))
    with pytest.raises(InputError, match="At least"):
        figure(np.zeros((10, 3)), np.zeros((1, 3)))
    with pytest.raises(InputError, match="NaN"):
        figure(np.zeros((10, 3)), np.full((10, 3), np.nan))


def test_memorisation_without_held_out_distances_is_refused():
    with pytest.raises(InputError, match="kinds"):
        memorisation_ratio(np.ones(3), np.ones(0))
    with pytest.raises(InputError, match="copies"):
        memorisation_ratio(np.ones(3), np.zeros(4))
    with pytest.raises(InputError, match="one shape"):
        nearest(np.ones((2, 3)), np.ones((2, 4)))
