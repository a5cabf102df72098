"""Water-equivalent depth is the ray sum of density, from the side that the gantry stands on."""

import numpy as np
import pytest

from medical_gans.studies.radiotherapy.water_equivalent import water_equivalent_depth

SPACING = 2.0
SIDES = {0: (1, -1), 90: (0, 0), 180: (1, 0), 270: (0, -1)}
"""Gantry angle -> axis and end (RAS) that the beam enters by: front, left, back, right."""


@pytest.mark.parametrize(("angle", "side"), SIDES.items())
@pytest.mark.parametrize("turns", [0, 1, -1])
def test_depth_in_layers_is_the_sum_of_density_times_path(angle, side, turns):
    axis, end = side
    layers = np.random.default_rng(1).uniform(0.2, 1.8, 9)
    shape = [6, 7, 5]
    shape[axis] = 9
    density = np.broadcast_to(layers.reshape([9 if a == axis else 1 for a in range(3)]), shape)
    ordered = layers if end == 0 else layers[::-1]
    expected = SPACING * (np.cumsum(ordered) - ordered / 2)
    expected = expected if end == 0 else expected[::-1]
    found = water_equivalent_depth(density, SPACING, angle + 360 * turns)
    np.testing.assert_allclose(np.moveaxis(found, axis, 0)[:, 2, 3], expected, rtol=1e-5)
    assert np.ptp(np.moveaxis(found, axis, 0), axis=(1, 2)).max() < 1e-4


@pytest.mark.parametrize("angle", [0, 30, 72, 135, 200, 311.5])
def test_depth_in_a_cylinder_of_water_is_the_chord(angle):
    count, radius = 61, 40.0
    x, y = np.meshgrid(*[SPACING * (np.arange(count) - 30)] * 2, indexing="ij")
    density = np.clip((radius - np.hypot(x, y)) / SPACING + 0.5, 0, 1)[:, :, None].repeat(2, axis=2)
    found = water_equivalent_depth(density, SPACING, angle)[:, :, 0]
    # the beam comes from (sin, cos) towards the middle: 0 from the front (+y), 90 from the left (-x)
    toward = np.deg2rad(angle)
    source = np.array([-np.sin(toward), np.cos(toward)])
    along = x * source[0] + y * source[1]
    across = x * source[1] - y * source[0]
    chord = np.sqrt(np.clip(radius**2 - across**2, 0, None)) - along
    inside = np.hypot(x, y) < radius - 6
    np.testing.assert_allclose(found[inside], chord[inside], atol=1.2)
    assert abs(found[inside] - chord[inside]).mean() < 0.35


def test_the_shape_is_kept_where_sides_differ():
    density = np.ones((11, 24, 3))
    for angle in (0, 45, 90, 123):
        assert water_equivalent_depth(density, 1.0, angle).shape == density.shape
