"""Fields, dephasing and phase masks against closed forms of a sphere, a straight slope and a ramp of phase."""

from __future__ import annotations

import numpy as np
import pytest

from medical_gans.phantom import Grid
from medical_gans.phantom.susceptibility import dephasing, dipole_field, phase_mask

CUBE = Grid.axial((48, 48, 48), 1.0)


def sphere(grid: Grid, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions (3, *grid) from the middle, and the share of a sphere in each voxel."""
    points = np.concatenate([found for _, found in grid.slabs()], axis=1).reshape(3, *grid.shape)
    distance = np.linalg.norm(points, axis=0)
    return points, np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
def test_field_of_a_sphere_is_that_of_a_dipole_outside_and_none_inside(turned):
    affine = CUBE.affine if not turned else CUBE.affine[:, [2, 0, 1, 3]]
    points, share = sphere(Grid(CUBE.shape, affine), 6.0)
    field = dipole_field(share, Grid(CUBE.shape, affine))
    distance = np.linalg.norm(points, axis=0)
    cosine = points[2] / distance
    expected = (6.0 / distance) ** 3 * (3 * cosine**2 - 1) / 3
    outside = (distance > 8) & (distance < 20)
    assert np.abs(field - expected)[outside].max() < 0.02
    assert np.abs(field[distance < 4]).max() < 0.03


def test_dephasing_on_a_slope_is_the_sinc_of_the_cycles_across_the_acquired_voxel():
    slope, width, echo_time = 0.05, 3.0, 25.0  # ppm / mm, mm, ms
    field = np.broadcast_to(slope * np.arange(20, dtype=np.float32) * 2, (5, 6, 20))
    grid = Grid.axial((5, 6, 20), 2.0)
    kept = dephasing(field, grid, tesla=1.5, echo_time_ms=echo_time, voxel_mm=(1, 1, width))
    place = np.linspace(-width / 2, width / 2, 20_001)
    phase = 2 * np.pi * 42.577 * 1.5 * slope * place * echo_time / 1000
    np.testing.assert_allclose(kept, abs(np.exp(1j * phase).mean()), rtol=1e-3)


def test_jump_of_the_field_at_a_surface_counts_for_neither_side():
    field = np.zeros((4, 4, 20), dtype=np.float32)
    field[:, :, 10:] = 3
    assert (dephasing(field, Grid.axial(field.shape, 1), tesla=3, echo_time_ms=20, voxel_mm=(1, 1, 2)) == 1).all()


def test_phase_mask_is_linear_in_negative_phase_and_one_elsewhere():
    grid = Grid.axial((64, 64, 3), 1.0)
    for phase in (-2.0, -1.0, 1.0):
        image = np.ones(grid.shape, dtype=np.complex64)
        image[32, 32] = np.exp(1j * phase)
        expected = min(1, 1 + phase / np.pi)
        mask = phase_mask(image, grid)
        assert mask[32, 32, 1] == pytest.approx(expected, abs=0.03)
        assert mask[5, 5, 1] == pytest.approx(1, abs=0.01)


def test_slowly_varying_phase_does_not_darken():
    grid = Grid.axial((128, 128, 2), 1.0)
    x = np.arange(128, dtype=np.float32)
    slow = 6 * np.sin(2 * np.pi * x / 128)[:, None, None]
    image = np.broadcast_to(np.exp(1j * slow), grid.shape).astype(np.complex64)
    assert phase_mask(image, grid).min() > 0.9
