"""Stored order and RAS order, held against nibabel."""

import itertools

import nibabel
import numpy as np
import pytest

from medical_gans.io.orientation import ras_affine, ras_shape, ras_spacing, ras_view, stored_order

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
TILT = np.array([[0.98, -0.17, 0.0], [0.17, 0.98, 0.05], [0.0, -0.05, 0.99]])


def stored(order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A small tilted volume with unlike edges, whose axes run as told."""
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = np.eye(4)
    affine[:3, :3] = TILT @ (np.eye(3)[:, list(order)] * np.array(signs)) @ np.diag([1.0, 2.0, 3.5])
    affine[:3, 3] = [5.0, -7.0, 11.0]
    return array, affine


@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_ras_order_is_that_of_nibabel(order, signs):
    array, affine = stored(order, signs)
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))

    np.testing.assert_array_equal(ras_view(array, affine), np.asarray(expected.dataobj))
    np.testing.assert_allclose(ras_affine(affine, array.shape), expected.affine)
    np.testing.assert_allclose(ras_spacing(affine), nibabel.affines.voxel_sizes(expected.affine))
    assert ras_shape(array.shape, affine) == expected.shape


@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_stored_order_is_the_way_back(order, signs):
    array, affine = stored(order, signs)

    back = stored_order(ras_view(array, affine), affine)

    np.testing.assert_array_equal(back, array)
    assert back.flags.c_contiguous


def test_ras_order_is_a_view_that_writes_through():
    array, affine = stored((2, 0, 1), (1, -1, 1))

    ras_view(array, affine)[...] = 0

    assert not array.any()
