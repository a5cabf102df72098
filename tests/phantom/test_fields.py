"""Random fields and solids that the phantoms are made of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.phantom.fields import WaveField, box, capsule, ellipsoid, smooth_union

POINTS = np.random.default_rng(0).uniform(-60, 60, size=(3, 20_000)).astype(np.float32)


def test_wave_field_has_the_deviation_asked_for_in_each_component():
    field = WaveField(np.random.default_rng(1), (8, 20), waves=20, components=3, deviation=1.7)
    values = field(POINTS)
    assert values.shape == (3, POINTS.shape[1])
    np.testing.assert_allclose(values.std(axis=1), 1.7, rtol=0.05)
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=0.1)


def test_distance_to_zero_agrees_with_a_euclidean_distance_transform():
    field = WaveField(np.random.default_rng(2), (40, 60), waves=12)
    step = 0.5
    axis = (np.arange(80) - 40) * step
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1).astype(np.float32)
    positive = (field(lattice) > 0).reshape(80, 80, 80)
    reference = ndimage.distance_transform_edt(positive) + ndimage.distance_transform_edt(~positive)
    reference = (reference - 0.5) * step
    inner = (slice(20, 60),) * 3  # beyond this the nearest sheet may lie outside the lattice
    estimate = field.distance_to_zero(lattice).reshape(80, 80, 80)[inner]
    near = reference[inner] < 2
    assert near.sum() > 1000
    assert np.abs(estimate - reference[inner])[near].mean() < 0.3


def test_solids_have_the_distance_of_their_closed_forms():
    radius = np.linalg.norm(POINTS, axis=0)
    np.testing.assert_allclose(ellipsoid(POINTS, (0, 0, 0), (20, 20, 20)), radius - 20, atol=1e-3)
    from_axis = np.hypot(POINTS[0], POINTS[1])
    beside = np.abs(POINTS[2]) < 30
    rod = capsule(POINTS, (0, 0, -30), (0, 0, 30), 5, 8)
    expected = from_axis - (6.5 + 0.05 * POINTS[2])
    np.testing.assert_allclose(rod[beside], expected[beside], atol=1e-3)
    inside = box(POINTS, (5, 0, 0), (10, 20, 30)) < 0
    np.testing.assert_array_equal(
        inside, (np.abs(POINTS[0] - 5) < 10) & (np.abs(POINTS[1]) < 20) & (np.abs(POINTS[2]) < 30)
    )


def test_ellipsoid_holds_the_volume_of_its_axes():
    inside = ellipsoid(POINTS, (3, -4, 5), (40, 30, 20)) < 0
    assert inside.mean() * 120**3 == pytest.approx(4 / 3 * np.pi * 40 * 30 * 20, rel=0.08)


def test_smooth_union_only_adds_and_only_near_the_seam():
    first, second = ellipsoid(POINTS, (-20, 0, 0), (25, 25, 25)), ellipsoid(POINTS, (20, 0, 0), (25, 25, 25))
    joined, sharp = smooth_union(first, second, 6), np.minimum(first, second)
    assert (joined <= sharp).all()
    np.testing.assert_array_equal(joined[np.abs(first - second) > 6], sharp[np.abs(first - second) > 6])
    assert (sharp - joined).max() == pytest.approx(6 / 4, rel=0.05)
