"""What the gate measures, on arrays whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.checks.quality.measures import (
    TISSUES,
    cut_areas,
    cut_outline,
    largest_void,
    mahalanobis,
    slice_quantiles,
    tissue_figures,
    uncertainty_figures,
    void_object,
)


def test_tissues_are_counted_and_their_medians_taken():
    hounsfield = np.array([-1000, -100, -90, -80, 40, 50, 60, 70, 200, 1000]).reshape(1, 2, 5)
    body = np.ones(hounsfield.shape, dtype=bool)
    figures = tissue_figures(hounsfield, body)
    assert figures == {
        "air_share": 0.1,
        "fat_share": 0.3,
        "fat_hu": -90,
        "soft_share": 0.4,
        "soft_hu": 55,
        "bone_share": 0.1,
        "bone_hu": 1000,
    }
    assert "bone_hu" not in tissue_figures(np.full((1, 1, 4), 40), np.ones((1, 1, 4), dtype=bool))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_tissue_figures_are_those_of_all_voxels_at_once(dtype):
    rng = np.random.default_rng(0)
    for number in range(20):
        hounsfield = rng.normal(rng.integers(-100, 300), 200, (9, 8, 5)).astype(dtype)
        body = rng.random(hounsfield.shape) < (0.02 if number % 2 else 0.8)
        values = hounsfield[body]
        figures = tissue_figures(hounsfield, body)
        for name, (low, high) in TISSUES.items():
            found = values[(values >= low) & (values < high)]
            assert figures[f"{name}_share"] == found.size / values.size
            if name != "air" and found.size:
                assert figures[f"{name}_hu"] == np.median(found)


def test_a_void_is_the_same_wherever_it_lies_in_the_picture():
    mr, body = np.full((40, 44, 36), 500.0), np.ones((40, 44, 36), dtype=bool)
    mr[0:9, 20:34, 10:30] = 0.0  # at the side of the picture, which counts as going on
    mr[30:33, 5:9, 5:9] = 0.0
    volume, middle = void_object(mr, body, (2.0, 2.0, 2.0))
    padded = np.pad(mr, 5, mode="edge"), np.pad(body, 5, mode="edge")
    wider, shifted = void_object(*padded, (2.0, 2.0, 2.0))
    assert volume == pytest.approx(8 * 9 * 14 * 20 / 1000, rel=0.15)  # its edges are rounded
    assert wider > volume and shifted[1:] == (middle[1] + 5, middle[2] + 5)


def test_the_sides_that_cut_the_body_are_named_in_ras():
    body = np.zeros((6, 8, 10), dtype=bool)
    body[0, 2:4, 3:5] = True  # at the first index along x: left
    body[2:4, -1, 3:6] = True  # at the last along y: front
    areas = cut_areas(body, (10.0, 5.0, 2.0))
    assert areas["left"] == pytest.approx(4 * 10 / 100) and areas["front"] == pytest.approx(6 * 20 / 100)
    assert {side for side, area in areas.items() if not area} == {"right", "back", "foot", "head"}


@pytest.mark.parametrize("slices", [3, 30])
def test_the_cut_outline_is_a_length_per_slice_whatever_the_length_of_the_scan(slices):
    body = np.zeros((6, 8, slices + 2), dtype=bool)
    body[0, 2:4, 1:-1] = True  # 2 voxels of 5 mm
    body[2:5, -1, 1:-1] = True  # 3 voxels of 10 mm
    body[0, 2:4, 1] = False
    body[1, 2:4, 1] = True
    assert cut_outline(body, (10.0, 5.0, 2.5)) == pytest.approx((4 * slices - 1) / slices)
    assert cut_outline(np.zeros_like(body), (10.0, 5.0, 2.5)) == 0


def test_quantiles_are_those_of_the_body_of_each_slice():
    mr = np.zeros((20, 20, 4))
    body = np.zeros(mr.shape, dtype=bool)
    body[4:16, 4:16, 1:3] = True
    mr[body] = 100
    mr[:, :, 2] *= 0.5
    shown, rows = slice_quantiles(mr, body)
    assert shown.tolist() == [1, 2]
    assert np.ptp(rows, axis=1).max() == 0 and rows[0, 0] > rows[1, 0]


def test_distance_is_in_standard_deviations():
    rng = np.random.default_rng(0)
    rows = rng.normal([1.0, -2.0], [0.5, 3.0], (20_000, 2))
    precision = np.linalg.inv(np.cov(rows.T))
    found = mahalanobis(np.array([[1.0, -2.0], [2.0, -2.0], [1.0, 7.0]]), rows.mean(axis=0), precision)
    np.testing.assert_allclose(found, [0, 2, 3], atol=0.05)


def test_a_void_is_found_and_a_cortex_is_none():
    mr = np.full((60, 60, 40), 500.0)
    body = np.ones(mr.shape, dtype=bool)
    mr[:, 28:31] = 5  # a dark sheet of 6 mm: bone
    assert largest_void(mr, body, (2.0, 2.0, 2.0)) == 0
    x, y, z = np.indices(mr.shape)
    ball = (x - 15) ** 2 + (y - 12) ** 2 + (z - 20) ** 2 <= 36  # radius 12 mm
    mr[ball] = 5
    assert largest_void(mr, body, (2.0, 2.0, 2.0)) == pytest.approx(4 / 3 * np.pi * 12**3 / 1000, rel=0.1)
    assert void_object(mr, body, (2.0, 2.0, 2.0))[1] == (15, 12, 20)


def test_uncertainty_is_that_of_the_body():
    spread = np.array([[[10, 30, 200, 999]]])
    assert uncertainty_figures(spread, spread < 900) == pytest.approx((80, 1 / 3))
    assert uncertainty_figures(spread, spread > 1000) == (0, 0)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.977, 0.977, 3.27), (1.4, 1.2, 5.0)])
def test_a_void_is_what_two_distance_transforms_of_the_volume_find(spacing):
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(60, 70, 50)), 4)
    mr = np.where(smooth > np.quantile(smooth, 0.2), 100.0, 0.0)
    steps = [max(1, round(2 / edge)) for edge in spacing]
    edges = np.array(spacing) * steps
    dark = mr[:: steps[0], :: steps[1], :: steps[2]] == 0
    depth = ndimage.distance_transform_edt(dark, sampling=edges)
    labels, _ = ndimage.label(ndimage.distance_transform_edt(depth <= 4.0, sampling=edges) <= 4.0)
    sizes = np.bincount(labels.ravel())[1:]
    inmost = np.unravel_index(np.where(labels == np.argmax(sizes) + 1, depth, -1.0).argmax(), depth.shape)
    volume, middle = void_object(mr, np.ones(mr.shape, dtype=bool), spacing)
    assert len(sizes) > 1 and volume == pytest.approx(sizes.max() * edges.prod() / 1000)
    assert middle == tuple(np.array(inmost) * steps)
