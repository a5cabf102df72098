"""Two CT that cannot be compared are refused before any dose: no HU, mirrored, displaced."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io import Volume
from medical_gans.phantom import head, simulate_ct
from medical_gans.studies.radiotherapy.agreement import check_hounsfield, check_place
from medical_gans.studies.radiotherapy.density import DensityTable


@pytest.fixture(scope="module")
def ct() -> np.ndarray:
    phantom = head(3)
    return simulate_ct(phantom, phantom.grid(4.0))


@pytest.fixture(scope="module")
def density(ct) -> np.ndarray:
    return DensityTable.read().electron_density(ct)


def volume(array: np.ndarray) -> Volume:
    return Volume(array, np.diag([4.0, 4, 4, 1]), Path("synthetic_ct.nii.gz"))


def test_hounsfield_units_pass_and_give_the_body(ct):
    body = check_hounsfield(volume(ct), "synthetic CT")
    assert 0.2 < body.mean() < 0.9


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: hu + 1024,
        lambda hu: hu + 1000,
        lambda hu: np.clip((hu + 1024) / 16, 0, 255).astype(np.uint8),
        lambda hu: (hu / 1000).astype(np.float32),
        lambda hu: hu - 1024,
        lambda hu: np.full_like(hu, -1000),
    ],
    ids=["no intercept", "+ 1000", "8 bit", "density", "intercept twice", "air"],
)
def test_what_is_no_hounsfield_unit_is_refused(ct, change):
    with pytest.raises(InputError, match=r"The synthetic CT .*synthetic_ct\.nii\.gz"):
        check_hounsfield(volume(change(ct)), "synthetic CT")


def test_the_same_place_has_no_offset(density):
    noisy = density + np.random.default_rng(0).normal(0, 0.03, density.shape)
    assert abs(check_place(density, noisy, 4.0, 5.0)).max() < 0.05


@pytest.mark.parametrize(("axis", "sides"), [(0, "left and right"), (1, "front and back"), (2, "head and foot")])
def test_a_mirror_image_is_refused(density, axis, sides):
    with pytest.raises(InputError, match=f"{sides} exchanged"):
        check_place(density, np.flip(density, axis), 4.0, 50.0)


def test_a_mirror_image_is_seen_in_spite_of_the_errors_of_a_synthetic_ct(density):
    bone_as_water = np.minimum(density, 1.0)
    blurred = ndimage.gaussian_filter(bone_as_water, 0.7)
    assert abs(check_place(density, blurred, 4.0, 5.0)).max() < 1.0
    with pytest.raises(InputError, match="left and right exchanged"):
        check_place(density, blurred[::-1], 4.0, 50.0)


@pytest.mark.parametrize("shift", [(8.0, 0, 0), (0, -12.0, 4.0), (1.0, 2.0, -3.0)])
def test_a_displacement_is_measured_with_its_sign(density, shift):
    moved = ndimage.shift(density, np.array(shift) / 4.0, order=1, cval=0.001)
    np.testing.assert_allclose(check_place(density, moved, 4.0, 50.0), shift, atol=0.6)


def test_a_large_displacement_is_refused(density):
    moved = ndimage.shift(density, (2, 0, 0), order=0, cval=0.001)
    with pytest.raises(InputError, match=r"8\.0 mm off the reference \(\+8\.0, [+-]0\.0, [+-]0\.0 mm"):
        check_place(density, moved, 4.0, 5.0)
