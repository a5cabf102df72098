"""Grids of any orientation."""

from __future__ import annotations

import numpy as np
import pytest

from medical_gans.errors import SettingError
from medical_gans.phantom import Grid

OBLIQUE = np.array([[0.9, 0.2, -0.4, 10], [-0.3, 1.1, 0.5, -7], [0.2, -0.1, 2.5, 3], [0, 0, 0, 1]])


def test_slabs_cover_every_voxel_once_at_its_place():
    grid = Grid((40, 60, 50), OBLIQUE)
    points = np.full((3, *grid.shape), np.nan)
    for planes, found in grid.slabs():
        assert np.isnan(points[:, planes]).all()
        points[:, planes] = found.reshape(3, -1, 60, 50)
    indices = np.stack([*np.indices(grid.shape).reshape(3, -1), np.ones(np.prod(grid.shape))])
    expected = (OBLIQUE @ indices)[:3].reshape(points.shape)
    np.testing.assert_allclose(points, expected, atol=1e-4)


def test_axial_grid_lies_around_its_centre():
    grid = Grid.axial((11, 21, 31), (1, 2, 3), centre=(4, 5, 6))
    np.testing.assert_allclose(grid.affine @ (5, 10, 15, 1), (4, 5, 6, 1))
    assert grid.spacing == (1, 2, 3)


def test_subdivided_voxels_average_to_the_place_of_the_whole():
    grid, parts = Grid((2, 3, 4), OBLIQUE), (1, 2, 3)
    fine = grid.subdivided(parts)
    assert fine.shape == (2, 6, 12)
    corner = np.mean([fine.affine @ (0, j, k, 1) for j in range(2) for k in range(3)], axis=0)
    np.testing.assert_allclose(corner, grid.affine @ (0, 0, 0, 1))
    np.testing.assert_allclose(np.multiply(fine.spacing, parts), grid.spacing)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((4, 4), np.eye(4), "three positive sizes"),
        ((4, 0, 4), np.eye(4), "three positive sizes"),
        ((4, 4, 4), np.diag([1, 0, 1, 1]), "singular"),
        ((4, 4, 4), np.eye(3), "4 x 4"),
        ((4, 4, 4), np.full((4, 4), np.nan), "finite"),
    ],
)
def test_impossible_grids_are_refused(shape, affine, message):
    with pytest.raises(SettingError, match=message):
        Grid(shape, affine)
