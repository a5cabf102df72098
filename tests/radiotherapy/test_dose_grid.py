"""The dose grid holds the body, and what is sampled on it lies where it was."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medical_gans.errors import InputError
from medical_gans.io import Volume
from medical_gans.studies.radiotherapy.dose_grid import DoseGrid

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (12, -20, 33), degrees=True).as_matrix() * [1.0, 1.5, 2.5]
OBLIQUE[:3, 3] = (-40, 25, 300)
FLIPPED = np.array([[0.0, 0, -2, 50], [1.5, 0, 0, -20], [0, -1, 0, 90], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [OBLIQUE, FLIPPED], ids=["oblique", "flipped and permuted"])
def test_a_linear_field_is_found_at_its_place(affine):
    shape = (40, 36, 30)
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    field = (points @ [0.3, -0.2, 0.5] + 7).reshape(shape)
    body = np.zeros(shape, dtype=bool)
    body[12:28, 11:25, 10:20] = True
    grid = DoseGrid.around(body, affine, 3.0)
    x, y, z = np.meshgrid(*grid.axes, indexing="ij")
    expected = 0.3 * x - 0.2 * y + 0.5 * z + 7
    well_inside = grid.sample(body, affine, 0.0) > 0.999
    assert well_inside.sum() > 60
    np.testing.assert_allclose(grid.sample(field, affine, -1000.0)[well_inside], expected[well_inside], atol=0.02)


@pytest.mark.parametrize("affine", [OBLIQUE, FLIPPED], ids=["oblique", "flipped and permuted"])
def test_the_grid_holds_the_whole_body_with_its_volume(affine):
    body = np.zeros((40, 36, 30), dtype=bool)
    body[10:30, 9:27, 8:22] = True
    grid = DoseGrid.around(body, affine, 2.0)
    inside = grid.inside(Volume(body, affine, Path("body.nii")))
    volume = np.count_nonzero(body) * abs(np.linalg.det(affine[:3, :3]))
    assert np.count_nonzero(inside) * 8 == pytest.approx(volume, rel=0.03)
    assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any() and not inside[:, :, [0, -1]].any()


def test_outside_the_image_lies_what_is_asked_for():
    grid = DoseGrid((8, 8, 8), 2.0, np.array([100.0, 0, 0]))
    assert (grid.sample(np.ones((4, 4, 4)), np.eye(4), -1000.0) == -1000).all()


def test_a_sphere_has_its_volume_and_place():
    grid = DoseGrid((40, 40, 40), 2.0, np.array([-40.0, -30, 10]))
    sphere = grid.sphere(np.array([5.0, 4, 50]), 20)
    assert np.count_nonzero(sphere) * 8 == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.02)
    centre = grid.first + 2 * np.argwhere(sphere).mean(axis=0)
    np.testing.assert_allclose(centre, [5, 4, 50], atol=0.2)


def test_a_ct_without_body_has_no_grid():
    with pytest.raises(InputError, match="no body"):
        DoseGrid.around(np.zeros((4, 4, 4), dtype=bool), np.eye(4), 3.0)
