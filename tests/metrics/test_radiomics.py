"""Radiomic measures of nodules whose size, place and texture are known."""

import numpy as np
import pytest
from scipy import stats

from medical_gans.errors import InputError
from medical_gans.metrics.radiomics import nodule_mask, radiomic_measures

SPACING = (0.6, 0.6)


def patch(radius=8.0, centre=(27.5, 27.5), inside=40.0, outside=-850.0, stretch=1.0, noise=0.0, shape=(56, 56), seed=0):
    """An ellipse, longer along the columns by `stretch`, in lung."""
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    scale = (1.0, stretch, 1.0)
    distance = np.sqrt(sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, scale, strict=False)))
    image = np.where(distance < radius, inside, outside)
    return image + noise * np.random.default_rng(seed).normal(size=shape)


def measures_of(image, spacing=SPACING):
    values, names = radiomic_measures(image[None], spacing)
    return dict(zip(names, values[0].tolist(), strict=True))


def test_size_is_that_of_the_disc_in_square_mm():
    assert np.exp(measures_of(patch())["log_size"]) == pytest.approx(np.pi * 8**2 * 0.36, rel=0.05)


def test_a_disc_is_compact_and_an_ellipse_is_elongated():
    disc, ellipse = measures_of(patch(10)), measures_of(patch(8, stretch=2.0))
    assert disc["compactness"] == pytest.approx(1, abs=0.02) and disc["elongation"] == pytest.approx(1, abs=0.02)
    assert ellipse["elongation"] == pytest.approx(0.5, abs=0.03)
    # moments of an ellipse with axes a and 2a against those of the disc of equal area
    assert ellipse["compactness"] == pytest.approx(4 / 5, abs=0.03)


def test_a_nodule_out_of_place_is_told_in_mm():
    assert measures_of(patch(6, centre=(27.5, 32.5)))["off_centre"] == pytest.approx(3.0, abs=0.1)


def test_a_thin_vessel_and_the_chest_wall_are_left_out():
    image = patch(6)
    image[27, :] = 40.0
    image[:, 54:] = 40.0
    area = nodule_mask(image).sum()
    assert area == pytest.approx(np.pi * 36, rel=0.1)


def test_intensity_inside_the_nodule_is_told_from_the_patch():
    found = measures_of(patch(8, inside=-600.0))
    assert found["nodule_mean"] == pytest.approx(-600)
    assert found["patch_percentile_50"] == -850
    assert found["ring_0"] > found["ring_4"] == -850


def test_cooccurrence_is_that_of_scikit_image():
    feature = pytest.importorskip("skimage.feature")
    image = patch(9, noise=80.0)
    found = measures_of(image)
    level = np.minimum(((np.clip(image, -1000, 400) + 1000) / 50).astype(np.uint8), 27)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    # at 45 degrees scikit-image rounds longer distances off the diagonal
    matrix = feature.graycomatrix(level, [1], angles, levels=28, symmetric=True, normed=True)
    for ours, theirs in (("contrast", "contrast"), ("correlation", "correlation"), ("energy", "ASM")):
        assert found[f"cooccurrence_{ours}_1"] == pytest.approx(feature.graycoprops(matrix, theirs).mean())
    assert found["cooccurrence_homogeneity_1"] == pytest.approx(feature.graycoprops(matrix, "homogeneity").mean())
    natural = feature.graycoprops(matrix, "entropy").mean()
    assert found["cooccurrence_entropy_1"] == pytest.approx(natural / np.log(2))


def test_intensity_has_the_moments_of_scipy():
    image = patch(9, noise=80.0)
    found, values = measures_of(image), np.clip(image, -1000, 400)
    assert found["patch_skewness"] == pytest.approx(stats.skew(values, axis=None))
    assert found["patch_kurtosis"] == pytest.approx(stats.kurtosis(values, axis=None))


def test_noise_raises_and_blur_lowers_the_fine_power():
    from scipy.ndimage import gaussian_filter

    plain = patch(8, noise=20.0)
    noisy, blurred = patch(8, noise=60.0), gaussian_filter(plain, 1.0)
    found = [measures_of(image) for image in (blurred, plain, noisy)]
    for name in ("log_power_4", "log_noise"):
        assert found[0][name] < found[1][name] < found[2][name]


def test_mirrored_patches_have_equal_measures():
    image = patch(7, centre=(25, 30), stretch=1.5, noise=30.0)
    one, other = measures_of(image), measures_of(image[:, ::-1])
    assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-6)


def test_empty_flat_and_full_patches_have_finite_measures():
    images = np.stack([np.full((56, 56), value) for value in (-1000.0, 0.0, 400.0)])
    values, names = radiomic_measures(images, SPACING)
    assert values.shape == (3, len(names)) and np.isfinite(values).all()


def test_volumes_have_the_same_measures():
    ball = patch(6, centre=(13.5, 13.5, 13.5), shape=(28, 28, 28))
    found = measures_of(ball, (1.0, 1.0, 1.0))
    assert np.exp(found["log_size"]) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
    assert found["compactness"] == pytest.approx(1, abs=0.03)
    assert list(found) == list(measures_of(patch()))


def test_patches_without_a_spacing_for_each_axis_are_refused():
    with pytest.raises(InputError, match="spacing"):
        radiomic_measures(np.zeros((2, 56, 56)), (0.6, 0.6, 0.6))
