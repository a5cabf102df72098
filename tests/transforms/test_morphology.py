"""Masks are opened, closed, filled and grown as scipy does."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.transforms.morphology import closed, filled_by_slice, grown, opened

_IN_A_SLICE = ndimage.generate_binary_structure(2, 1)[:, :, None]
_SHAPES = [(20, 17, 23), (1, 9, 8), (12, 2, 1), (3, 3, 3)]


def masks(shape):
    """From nearly empty to nearly full, rough and smooth, in both orders of memory."""
    random = np.random.default_rng(shape[0])
    for smoothness in (0.0, 0.7, 1.5):
        texture = ndimage.gaussian_filter(random.normal(size=shape), smoothness)
        for share in (0.05, 0.3, 0.6, 0.9):
            mask = texture < np.quantile(texture, share)
            yield from (np.ascontiguousarray(mask), np.asfortranarray(mask))


@pytest.mark.parametrize("shape", _SHAPES)
def test_masks_are_opened_as_scipy_does(shape):
    for mask in masks(shape):
        assert np.array_equal(opened(mask), ndimage.binary_opening(mask))


@pytest.mark.parametrize("voxels", [1, 3])
@pytest.mark.parametrize("shape", _SHAPES)
def test_masks_are_closed_as_scipy_does(shape, voxels):
    for mask in masks(shape):
        assert np.array_equal(closed(mask, voxels), ndimage.binary_closing(mask, iterations=voxels))


@pytest.mark.parametrize("shape", _SHAPES)
def test_holes_are_filled_slice_by_slice_as_scipy_does(shape):
    for mask in masks(shape):
        assert np.array_equal(filled_by_slice(mask), ndimage.binary_fill_holes(mask, structure=_IN_A_SLICE))


@pytest.mark.parametrize("shape", _SHAPES)
def test_masks_grow_as_far_as_scipy_lets_them(shape):
    for number, mask in enumerate(masks(shape)):
        begin = mask & (np.random.default_rng(number).random(shape) < 0.1)
        assert np.array_equal(grown(begin, mask), ndimage.binary_propagation(begin, mask=mask))
