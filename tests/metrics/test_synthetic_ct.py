"""SynthRAD figures against a plain implementation in double precision, and against skimage."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.signal import fftconvolve

from medical_gans.errors import InputError
from medical_gans.metrics import synthetic_ct_metrics


def head(shape: tuple[int, int, int], *, air_around: int = 4, seed: int = 0):
    """(prediction, reference, mask) of an ellipsoid with a bone shell, an air cavity and a metal voxel."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    half = [max(n / 2 - air_around, 2) for n in shape]
    radius = np.sqrt(sum((axis / h) ** 2 for axis, h in zip(axes, half, strict=True)))
    tissue = gaussian_filter(generator.normal(size=shape), 2) * 300
    reference = np.where(radius < 0.75, tissue, np.where(radius < 0.85, 900, 20 + tissue / 3))
    reference = np.where(radius < 0.25, -900, reference)
    reference[tuple(n // 2 + n // 4 for n in shape)] = 3500
    mask = radius < 1
    reference = np.where(mask, reference, -1000)
    prediction = gaussian_filter(reference, 1) + generator.normal(0, 40, size=shape)
    return prediction.round().astype(np.int16), reference.round().astype(np.int16), mask


def plain_ssim_parts(first: np.ndarray, second: np.ndarray, data_range: float):
    """Luminance, contrast and structure of every voxel."""
    sample = 343 / 342
    mean1, mean2 = uniform_filter(first, 7), uniform_filter(second, 7)
    variance1 = (sample * (uniform_filter(first**2, 7) - mean1**2)).clip(0)
    variance2 = (sample * (uniform_filter(second**2, 7) - mean2**2)).clip(0)
    covariance = sample * (uniform_filter(first * second, 7) - mean1 * mean2)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    deviations = np.sqrt(variance1 * variance2)
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    contrast = (2 * deviations + c2) / (variance1 + variance2 + c2)
    return luminance, contrast, (covariance + c2 / 2) / (deviations + c2 / 2)


def plain_ssim(prediction, reference, mask):
    pair = [np.where(mask, image.astype(float).clip(-1024, 3000), -1024) + 1024 for image in (prediction, reference)]
    luminance, contrast, structure = plain_ssim_parts(*pair, 4024)
    inner = (slice(3, -3),) * 3
    return (luminance * contrast * structure)[inner][mask[inner]].mean()


def plain_ms_ssim(prediction, reference, mask):
    pair = [np.where(mask, image.astype(float).clip(-1024, 3071), -1024) + 1024 for image in (prediction, reference)]
    padding = [((97 - n) // 2, 97 - n - (97 - n) // 2) if n < 97 else (0, 0) for n in mask.shape]
    first, second, mask = (np.pad(image, padding, mode="edge") for image in (*pair, mask))
    value = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        luminance, contrast, structure = plain_ssim_parts(first, second, 4095)
        values = luminance**weight * contrast**weight * structure.clip(0) ** weight
        value *= values[3:-3, 3:-3, 3:-3][mask[3:-3, 3:-3, 3:-3]].mean()
        blurred = (fftconvolve(image, np.full((2, 2, 2), 1 / 8), mode="same") for image in (first, second))
        first, second, mask = (image[::2, ::2, ::2] for image in (*blurred, mask))
    return value


def plain_figures(prediction, reference, mask):
    p, r = prediction[mask].astype(float), reference[mask].astype(float)
    absolute = np.abs(p - r)

    def psnr(high):
        return 20 * np.log10((high + 1024) / np.sqrt(((np.clip(p, -1024, high) - np.clip(r, -1024, high)) ** 2).mean()))

    def dice(a, b):
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    return {
        "mae": absolute.mean(),
        "mean_error": p.mean() - r.mean(),
        "mae_air": absolute[r < -200].mean(),
        "mae_soft_tissue": absolute[np.abs(r - 25) <= 225].mean(),
        "mae_bone": absolute[r > 250].mean(),
        "psnr_2023": psnr(3000),
        "psnr_2025": psnr(3071),
        "ssim_2023": plain_ssim(prediction, reference, mask),
        "ms_ssim_2025": plain_ms_ssim(prediction, reference, mask),
        "dice_air": dice(p < -200, r < -200),
        "dice_bone": dice(p > 250, r > 250),
    }


@pytest.mark.parametrize(
    ("shape", "air_around"),
    [((48, 40, 36), 4), ((101, 44, 41), 3), ((45, 38, 30), -6)],
    ids=["smaller than 97", "one axis larger, more than one slab", "mask touches the border"],
)
def test_figures_equal_a_plain_implementation(shape, air_around):
    case = head(shape, air_around=air_around)
    got, expected = synthetic_ct_metrics(*case), plain_figures(*case)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-6 if "ssim" in name else 1e-9), name


def test_negative_structure_is_cut_at_every_scale():
    _, reference, mask = head((40, 40, 40))
    inverted = (-reference).astype(np.int16)
    expected = plain_ms_ssim(inverted, reference, mask)
    assert synthetic_ct_metrics(inverted, reference, mask)["ms_ssim_2025"] == pytest.approx(expected, abs=1e-6)


def test_ssim_and_psnr_equal_skimage():
    metrics = pytest.importorskip("skimage.metrics")
    prediction, reference, mask = head((40, 36, 32))
    pair = [np.where(mask, image.clip(-1024, 3000), -1024).astype(float) + 1024 for image in (reference, prediction)]
    _, values = metrics.structural_similarity(*pair, data_range=4024, full=True)
    inner = (slice(3, -3),) * 3
    got = synthetic_ct_metrics(prediction, reference, mask)
    assert got["ssim_2023"] == pytest.approx(values[inner][mask[inner]].mean(), abs=1e-6)
    psnr = metrics.peak_signal_noise_ratio(*(image[mask] for image in pair), data_range=4024)
    assert got["psnr_2023"] == pytest.approx(psnr, abs=1e-9)


def test_equal_images_are_perfect():
    _, reference, mask = head((32, 32, 32))
    figures = synthetic_ct_metrics(reference, reference, mask)
    assert all(figures[name] == 0 for name in figures if "mae" in name or "error" in name)
    assert figures["psnr_2023"] == figures["psnr_2025"] == np.inf
    for name in ("ssim_2023", "ms_ssim_2025", "dice_air", "dice_bone"):
        assert figures[name] == pytest.approx(1, abs=1e-6)


def test_mean_error_is_positive_where_the_prediction_is_too_dense():
    _, reference, mask = head((24, 24, 24))
    figures = synthetic_ct_metrics(reference + np.int16(30), reference, mask)
    assert figures["mean_error"] == figures["mae"] == figures["mae_bone"] == 30


def test_nothing_outside_the_mask_counts():
    prediction, reference, mask = head((30, 30, 30))
    figures = synthetic_ct_metrics(prediction, reference, mask)
    prediction[~mask], reference[~mask] = 2000, -300
    assert synthetic_ct_metrics(prediction, reference, mask.astype(np.uint8) * 5) == figures


def test_absent_tissue_has_no_figure():
    water = np.zeros((20, 20, 20))
    figures = synthetic_ct_metrics(water, water, np.ones_like(water))
    assert all(np.isnan(figures[name]) for name in ("mae_air", "mae_bone", "dice_air", "dice_bone"))
    assert figures["mae_soft_tissue"] == 0
    bone = water + 700
    assert synthetic_ct_metrics(bone, water, np.ones_like(water))["dice_bone"] == 0


@pytest.mark.parametrize("shape", [(20, 20, 5), (20, 20, 20)])
def test_mask_at_the_border_only_has_no_ssim_but_an_error(shape):
    image = np.zeros(shape)
    mask = np.zeros(shape)
    mask[..., 1] = 1
    figures = synthetic_ct_metrics(image + 10, image, mask)
    assert figures["mae"] == 10
    assert np.isnan(figures["ssim_2023"])


def test_unusable_input_is_refused():
    image, mask = np.zeros((8, 8, 8)), np.ones((8, 8, 8))
    with pytest.raises(InputError, match=r"one shape.*\(8, 8, 7\)"):
        synthetic_ct_metrics(image[..., :7], image, mask)
    with pytest.raises(InputError, match="3D"):
        synthetic_ct_metrics(image[0], image[0], mask[0])
    with pytest.raises(InputError, match="mask is empty"):
        synthetic_ct_metrics(image, image, np.zeros_like(mask))
    for value in (np.nan, np.inf):
        broken = image.copy()
        broken[0, 0, 0] = value
        with pytest.raises(InputError, match="prediction holds NaN"):
            synthetic_ct_metrics(broken, image, mask)
        with pytest.raises(InputError, match="reference holds NaN"):
            synthetic_ct_metrics(image, broken, mask)
