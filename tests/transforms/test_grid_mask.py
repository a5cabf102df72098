"""A mask on a coarse grid answers as the array of its voxels."""

import numpy as np
import pytest

from medical_gans.transforms.grid_mask import GridMask

SHAPE, STEPS = (11, 14, 9), (3, 2, 4)


@pytest.fixture
def mask():
    coarse = np.random.default_rng(0).random([-(-n // s) for n, s in zip(SHAPE, STEPS, strict=True)]) < 0.3
    return GridMask(coarse, STEPS, SHAPE)


@pytest.fixture
def voxels(mask):
    indices = [np.arange(n) // s for n, s in zip(SHAPE, STEPS, strict=True)]
    return mask.coarse[np.ix_(*indices)]


@pytest.mark.parametrize(
    "where",
    [
        np.s_[:, :, :],
        np.s_[:, :, 5],
        np.s_[:, :, -1],
        np.s_[2],
        np.s_[3:8],
        np.s_[::3, 1::2, ::-1],
        np.s_[4, :, 2:7],
        np.s_[np.int64(10), 13, 8],
        (np.array([0, 10, 3]), np.array([13, 0, 5]), np.array([8, 8, 0])),
    ],
)
def test_a_look_shows_the_voxels(mask, voxels, where):
    assert np.array_equal(mask[where], voxels[where])


def test_sums_over_planes_are_those_of_the_voxels(mask, voxels):
    assert np.array_equal(np.asarray(mask), voxels) and mask.any() == voxels.any()
    for axes in ((0, 1), (0, 2), (1, 2)):
        assert np.array_equal(mask.any(axis=axes), voxels.any(axis=axes))
        assert np.array_equal(mask.mean(axis=axes), voxels.mean(axis=axes))
    for axis in range(3):
        for index in (0, -1, 4):
            assert np.array_equal(mask.take(index, axis), voxels.take(index, axis))


def test_either_of_two(mask, voxels):
    other = GridMask(~mask.coarse, STEPS, SHAPE)
    assert np.asarray(mask | other).all() and not np.asarray(GridMask(np.zeros_like(mask.coarse), STEPS, SHAPE)).any()
