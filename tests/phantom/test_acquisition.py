"""Simulated CT and MR against the table of tissues, closed forms and scipy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, special, stats

from medical_gans.phantom import TISSUES, Grid, Tissue, head, limb, simulate_ct, simulate_mr
from medical_gans.phantom.acquisition import add_rician_noise
from medical_gans.phantom.sequences import SEQUENCES, SpinEcho

BRAIN_GRID = Grid.axial((60, 60, 30), 1.5, (0, -10, 10))
LIMB_GRID = Grid.axial((80, 80, 12), (2.5, 2.5, 2.5))
CLEAN = {"blur_mm": 0.0, "bias": 0.0, "noise": 0.0}


@pytest.fixture(scope="module")
def brain():
    return head(seed=1)


@pytest.fixture(scope="module")
def thigh():
    return limb(seed=1)


def depths(labels: np.ndarray, tissue: Tissue, voxels: int) -> np.ndarray:
    return ndimage.binary_erosion(labels == tissue, iterations=voxels)


@pytest.mark.parametrize("tissue", [Tissue.MUSCLE, Tissue.FAT, Tissue.FATTY_MARROW])
def test_ct_of_a_limb_has_the_hounsfield_number_of_each_tissue(thigh, tissue):
    ct = simulate_ct(thigh, LIMB_GRID)
    where = depths(thigh.tissues(LIMB_GRID), tissue, 1)
    assert where.sum() > 30
    assert ct[where].mean() == pytest.approx(TISSUES[tissue].hu, abs=12)


@pytest.mark.parametrize("tissue", [Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.CSF])
def test_ct_of_a_brain_has_the_hounsfield_number_of_each_tissue(brain, tissue):
    ct = simulate_ct(brain, BRAIN_GRID, blur_mm=0)
    where = brain.tissues(BRAIN_GRID) == tissue
    assert ct[where].mean() == pytest.approx(TISSUES[tissue].hu, abs=1)


def test_ct_is_int16_with_air_that_never_falls_below_minus_1024(thigh):
    ct = simulate_ct(thigh, LIMB_GRID, noise_hu=40)
    assert ct.dtype == np.int16
    assert ct.min() == -1024
    air = ndimage.binary_erosion(thigh.tissues(LIMB_GRID) == Tissue.AIR, iterations=2)
    assert np.median(ct[air]) == pytest.approx(-1000, abs=3)


@pytest.mark.parametrize("blur", [0.0, 1.0, 3.0])
def test_ct_noise_has_the_deviation_asked_for_whatever_the_blur(brain, blur):
    first, second = (simulate_ct(brain, BRAIN_GRID, blur_mm=blur, noise_hu=20, seed=seed) for seed in (1, 2))
    difference = first.astype(float) - second
    inner = difference[5:-5, 5:-5, 5:-5]  # at the border scipy's filter mirrors the noise
    assert inner.std() == pytest.approx(20 * np.sqrt(2), rel=0.06)


class HalfSpace:
    """Muscle at negative x, air at positive x, without texture."""

    def tissues(self, grid: Grid) -> np.ndarray:
        x = grid.affine[0, 0] * np.arange(grid.shape[0]) + grid.affine[0, 3]
        label = np.where(x < 0, Tissue.MUSCLE, Tissue.AIR)
        return np.broadcast_to(label[:, None, None], grid.shape).astype(np.uint8)

    def texture(self, points: np.ndarray) -> np.ndarray:
        return np.zeros(points.shape[1], dtype=np.float32)


@pytest.mark.parametrize("spacing", [0.25, 0.5])
def test_point_spread_in_mm_turns_a_straight_edge_into_an_error_function(spacing):
    grid = Grid.axial((100, 3, 3), (spacing, 1, 1))
    ct = simulate_ct(HalfSpace(), grid, blur_mm=3.0, noise_hu=0)[:, 1, 1]
    x = spacing * (np.arange(100) - 49.5)
    sigma = 3.0 / (2 * np.sqrt(2 * np.log(2)))
    expected = 55 + (-1000 - 55) * (1 + special.erf(x / sigma / np.sqrt(2))) / 2
    np.testing.assert_allclose(ct, expected, atol=6)


def test_wide_voxel_shows_the_mean_of_its_parts(thigh):
    thick = Grid.axial((60, 60, 4), (2, 2, 4))
    thin = thick.subdivided((1, 1, 2))
    whole = simulate_ct(thigh, thick, blur_mm=0, noise_hu=0).astype(float)
    parts = simulate_ct(thigh, thin, blur_mm=0, noise_hu=0).astype(float)
    np.testing.assert_allclose(whole, parts.reshape(60, 60, 4, 2).mean(axis=3), atol=1)


def test_couch_lies_behind_the_body_and_leaves_it_alone(thigh):
    grid = Grid.axial((80, 110, 6), (3, 3, 3))
    without = simulate_ct(thigh, grid, noise_hu=0)
    couch = simulate_ct(thigh, grid, noise_hu=0, couch=True)
    added = couch.astype(int) - without > 100
    body = np.argwhere(thigh.body_mask(grid))
    assert added.sum() > 500
    assert np.argwhere(added)[:, 1].mean() < body[:, 1].min() + 15
    inner = ndimage.binary_erosion(thigh.body_mask(grid), iterations=2)
    np.testing.assert_array_equal(couch[inner], without[inner])


@pytest.mark.parametrize("name", ["T1w", "T2w", "FLAIR", "PD"])
def test_mr_without_blemishes_has_the_signal_of_the_equation(brain, name):
    image = simulate_mr(brain, BRAIN_GRID, name, **CLEAN)
    labels = brain.tissues(BRAIN_GRID)
    signals = {t: float(SEQUENCES[name].signal(p.t1, p.t2, p.t2_star, p.proton_density)) for t, p in TISSUES.items()}
    brightest = max(signals.values())
    for tissue in (Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.CSF):
        expected = 1000 * signals[tissue] / brightest
        assert image[labels == tissue].mean() == pytest.approx(expected, rel=0.01, abs=0.5)


def test_mr_takes_repetition_and_echo_times_or_a_sequence_of_its_own(brain):
    by_name = simulate_mr(brain, BRAIN_GRID, "T2w", repetition_time_ms=2500, echo_time_ms=40, **CLEAN)
    by_object = simulate_mr(brain, BRAIN_GRID, SpinEcho(2500, 40), **CLEAN)
    np.testing.assert_array_equal(by_name, by_object)
    assert not np.array_equal(by_name, simulate_mr(brain, BRAIN_GRID, "T2w", **CLEAN))


@pytest.mark.parametrize("signal", [0.0, 1.5, 10.0])
def test_noise_of_the_magnitude_is_rician(signal):
    image = np.full((40, 40, 40), signal * 20, dtype=np.float32)
    noisy = add_rician_noise(image, 20, np.random.default_rng(0))
    found = stats.kstest(noisy.ravel(), stats.rice(signal, scale=20).cdf)
    assert found.pvalue > 0.01


def test_air_of_an_mr_is_rayleigh_with_the_noise_asked_for(thigh):
    image = simulate_mr(thigh, LIMB_GRID, noise=0.02)
    air = ndimage.binary_erosion(thigh.tissues(LIMB_GRID) == Tissue.AIR, iterations=3)
    assert image[air].mean() == pytest.approx(20 * np.sqrt(np.pi / 2), rel=0.02)


def test_bias_field_is_smooth_seeded_and_of_the_strength_asked_for(brain):
    grid = Grid.axial((20, 20, 20), 5)
    clean = simulate_mr(brain, grid, **CLEAN)
    first, again, other = (simulate_mr(brain, grid, blur_mm=0, noise=0, bias=0.2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    field, other_field = (np.log(image[clean > 1] / clean[clean > 1]) for image in (first, other))
    assert np.abs(field - other_field).max() > 0.05
    assert 0.02 < np.hypot(field.std(), field.mean()) < 0.6
    everywhere = np.where(clean > 1, np.log(np.maximum(first, 1e-9) / np.maximum(clean, 1e-9)), np.nan)
    assert np.nanmax(np.abs(np.diff(everywhere, axis=0))) < 0.2 * 2 * np.pi / 200 * 5 * 3


def test_bone_is_bright_in_ct_and_dark_in_mr_at_the_same_place(thigh):
    ct, mr = simulate_ct(thigh, LIMB_GRID), simulate_mr(thigh, LIMB_GRID)
    bone, muscle = ct > 900, (ct > 30) & (ct < 80)
    assert bone.sum() > 100
    assert np.median(mr[bone]) < 0.4 * np.median(mr[muscle])


def test_images_are_the_same_for_a_seed_and_noise_differs_between_seeds(thigh):
    np.testing.assert_array_equal(simulate_ct(thigh, LIMB_GRID, seed=3), simulate_ct(thigh, LIMB_GRID, seed=3))
    assert not np.array_equal(simulate_ct(thigh, LIMB_GRID, seed=3), simulate_ct(thigh, LIMB_GRID, seed=4))
    np.testing.assert_array_equal(simulate_mr(thigh, LIMB_GRID, seed=3), simulate_mr(thigh, LIMB_GRID, seed=3))
    assert not np.array_equal(simulate_mr(thigh, LIMB_GRID, seed=3), simulate_mr(thigh, LIMB_GRID, seed=4))
