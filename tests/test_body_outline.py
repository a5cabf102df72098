"""The body outline against scipy's labels and filled holes, slice by slice."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.inference.synthesis.body import body_outline


def reference(dense: np.ndarray, pixel_mm2: float) -> np.ndarray:
    body = np.zeros_like(dense)
    for k in range(dense.shape[2]):
        labels, count = ndimage.label(ndimage.binary_fill_holes(dense[:, :, k]))
        for island in range(1, count + 1):
            if np.count_nonzero(labels == island) * pixel_mm2 >= 100:
                body[:, :, k] |= labels == island
    return body


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("smoothness", [0, 0.7, 1.5, 3])
def test_holes_are_filled_and_specks_left_out_in_every_slice(smoothness, order):
    random = np.random.default_rng(round(10 * smoothness))
    for edge, level in [(1.0, 0), (2.0, -400), (2.0, 400), (5.0, 0), (12.0, -700)]:
        noise = ndimage.gaussian_filter(random.normal(size=(31, 26, 35)), (smoothness, smoothness, 0))
        hounsfield = np.asarray(noise / noise.std() * 800 + level, dtype=np.int16, order=order)
        body = body_outline(hounsfield, np.diag([-edge, edge, 3, 1]))
        assert np.array_equal(body, reference(hounsfield > -400, edge**2))


def test_a_body_that_fills_the_slice_or_is_not_there_stays_so():
    affine = np.diag([2.0, 2, 2, 1])
    assert body_outline(np.full((8, 9, 3), 40, dtype=np.int16), affine).all()
    assert not body_outline(np.full((8, 9, 3), -1000, dtype=np.int16), affine).any()
