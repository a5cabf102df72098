"""A nodule of a patch is found, gets a body, and becomes part of a CT without a seam."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.studies.placement import nodule_body, place_nodule, segment_nodule

SPACING = (0.6, 0.6)
AXES = ((0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
LUNG, NODULE = -850.0, 40.0


def grid(size=56, dims=2, spacing=0.6):
    step = (np.arange(size) - (size - 1) / 2) * spacing
    return np.meshgrid(*[step] * dims, indexing="ij")


def disc(radius=6.0, dims=2, row=0.0, column=0.0, noise=0.0):
    rows, columns, *slices = grid(dims=dims)
    distance = np.sqrt((rows - row) ** 2 + (columns - column) ** 2 + sum(np.square(one) for one in slices))
    sharp = np.where(distance <= radius, NODULE, LUNG)
    patch = ndimage.gaussian_filter(sharp, 0.6 / 0.6)
    return np.rint(patch + np.random.default_rng(0).normal(0, noise, patch.shape)).astype(np.int16)


def lung(shape=(60, 60, 60), spacing=(1.0, 1.0, 1.0), noise=0.0):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return np.rint(-800 + np.random.default_rng(1).normal(0, noise, shape)).astype(np.int16), affine


def placed(patch, volume, affine, position=(0.0, 0.0, 0.0)):
    spacing = SPACING if patch.ndim == 2 else (0.6, 0.6, 0.6)
    return place_nodule(volume, affine, nodule_body(patch, spacing), position, AXES)


@pytest.mark.parametrize("radius", [2.0, 4.0, 8.0, 12.0])
def test_a_disc_is_segmented_as_large_as_it_is(radius):
    area = segment_nodule(disc(radius, noise=25), SPACING).sum() * 0.36
    assert 2 * np.sqrt(area / np.pi) == pytest.approx(2 * radius, abs=0.9)


def test_vessel_and_chest_wall_beside_a_nodule_are_not_the_nodule():
    rows, columns = grid()
    patch = disc(5.0).astype(float)
    patch[(np.abs(rows) < 0.8) & (columns > 4)] = NODULE  # a vessel that ends in it
    patch[columns < -5] = NODULE  # a chest wall that it sits on
    mask = segment_nodule(patch, SPACING)
    assert mask.sum() * 0.36 == pytest.approx(np.pi * 25, rel=0.25)
    assert not mask[columns < -8].any() and not mask[columns > 8].any()


def test_a_cavity_belongs_to_the_nodule():
    rows, columns = grid()
    patch = np.where(np.hypot(rows, columns) < 3, LUNG, disc(8.0))
    assert segment_nodule(patch, SPACING).sum() * 0.36 == pytest.approx(np.pi * 64, rel=0.15)


@pytest.mark.parametrize("patch", [np.full((56, 56), -850), np.full((56, 56), 40), disc(4, row=14)])
def test_a_patch_without_a_nodule_at_its_centre_is_refused(patch):
    with pytest.raises(InputError, match="no nodule at its centre"):
        segment_nodule(patch, SPACING)


def test_a_body_made_from_a_slice_is_as_high_as_wide():
    volume, affine = lung(spacing=(0.5, 0.5, 0.5))
    _, mask = placed(disc(6.0), volume, affine)
    extent = np.ptp(np.argwhere(mask), axis=0) * 0.5 + 0.5
    assert extent == pytest.approx([12.0] * 3, abs=1.1)
    assert mask.sum() * 0.125 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.1)


def test_a_volume_is_placed_as_it_is():
    volume, affine = lung(spacing=(0.6, 0.6, 0.6))
    patch = disc(6.0, dims=3, row=1.0)
    made, mask = placed(patch, volume, affine)
    assert mask.sum() * 0.216 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.1)
    inside = ndimage.binary_erosion(mask, iterations=4)
    assert np.abs(made[inside] - NODULE).max() <= 15


def test_inside_the_hounsfield_are_those_of_the_patch_and_beyond_the_border_those_of_the_ct():
    volume, affine = lung(noise=30)
    made, mask = placed(disc(7.0), volume, affine)
    outside = ndimage.distance_transform_edt(~mask)
    assert np.array_equal(made[outside > 4.0], volume[outside > 4.0])
    assert np.abs(made[ndimage.binary_erosion(mask, iterations=3)] - NODULE).mean() <= 20


def test_there_is_no_halo_whatever_the_lung_of_the_patch_is():
    """Around the nodule the mean stays that of the CT, though lung is 50 HU denser there than in the patch."""
    volume, affine = lung(noise=0)
    made, mask = placed(disc(7.0), volume, affine)
    outside = ndimage.distance_transform_edt(~mask)
    shell = made[(outside > 2.5) & (outside < 4.0)]
    assert np.abs(shell + 800).max() <= 30


def test_vessels_of_the_ct_stay_beside_the_nodule():
    volume, affine = lung()
    volume[:, 37:39, 29:31] = 30  # passes at 8 mm from the centre
    made, mask = placed(disc(6.0), volume, affine)
    assert np.array_equal(made[:, 38, 29:31], volume[:, 38, 29:31]) and not mask[:, 38].any()


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_nodule_lies_the_same_way_round_in_any_volume(flips, order):
    """A patch whose right front is brighter: it must be brighter there in the patient, however the CT is stored."""
    rows, columns = grid()
    patch = np.where(np.hypot(rows, columns) < 8, np.where((rows < 0) & (columns < 0), 300.0, 0.0), LUNG)
    volume, affine = lung((50, 54, 58))
    affine[:3, 3] += (3, 40, -7)
    stored = affine.copy()
    stored[:3, :3] = affine[:3, :3][:, list(order)] * np.take(flips, order)
    shape = np.take(volume.shape, order)
    centre = np.array([4.0, 38.0, -8.0])
    stored[:3, 3] = centre - stored[:3, :3] @ ((shape - 1) / 2)
    made, _ = placed(patch, np.full(shape, -800, np.int16), stored, centre)
    for right, front, hounsfield in [(3, 3, 300), (-3, 3, 0), (3, -3, 0), (-3, -3, 0)]:
        world = np.append(centre + np.array([right, front, 0]), 1)
        index = np.round(np.linalg.inv(stored) @ world).astype(int)[:3]
        assert made[tuple(index)] == pytest.approx(hounsfield, abs=80)


def test_thick_slices_show_the_mean_over_their_extent():
    fine, fine_affine = lung((60, 60, 60), (0.6, 0.6, 0.6))
    thick, thick_affine = lung((60, 60, 12), (0.6, 0.6, 3.0))
    made_fine, _ = placed(disc(6.0), fine, fine_affine)
    made_thick, _ = placed(disc(6.0), thick, thick_affine)
    averaged = made_fine.reshape(60, 60, 12, 5).mean(axis=3)
    assert np.abs(averaged - made_thick).mean() <= 3 and np.abs(averaged - made_thick).max() <= 60


def test_a_nodule_that_does_not_fit_is_refused():
    volume, affine = lung()
    with pytest.raises(InputError, match=r"would reach .* mm beyond the border of the CT"):
        placed(disc(6.0), volume, affine, (26.0, 0.0, 0.0))
    with pytest.raises(InputError, match="beyond the border"):
        placed(disc(6.0), *lung((60, 60, 6)))


@pytest.mark.real_data
def test_real_nodules_find_their_place(shared_data):
    from medical_gans.io import read_nodules

    if not (shared_data / "lung_nodules").is_dir():
        pytest.skip("the LIDC-IDRI nodules are not there")
    patches = read_nodules(shared_data / "lung_nodules")
    volume, affine = lung((80, 80, 80), noise=20)
    found = 0
    for patch in patches.select(np.flatnonzero(patches.label == 1)[:10]).hounsfield:
        try:
            made, mask = placed(patch, volume, affine)
        except InputError:
            continue
        found += mask.sum() > 5
        far = ~ndimage.binary_dilation(mask, iterations=8)
        assert np.array_equal(made[far], volume[far])
    assert found >= 9
