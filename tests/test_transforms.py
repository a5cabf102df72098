"""Promises of the intensity and grid conversions."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from medical_gans.cli.config_files import configs_dir
from medical_gans.transforms import (
    HOUNSFIELD_KNOTS,
    MR_CEILING,
    body_mask,
    hounsfield_to_unit,
    mr_reference_intensity,
    normalise_mr,
    resize_in_plane,
    unit_to_hounsfield,
)


def test_hounsfield_survive_the_way_there_and_back():
    hounsfield = np.arange(-1024, 2401, dtype=np.float32)
    back = unit_to_hounsfield(torch.from_numpy(hounsfield_to_unit(hounsfield)).double())
    assert np.abs(back.numpy() - hounsfield).max() < 1e-3


def test_encoding_passes_through_its_knots_and_saturates_beyond():
    for hounsfield, unit in HOUNSFIELD_KNOTS:
        assert hounsfield_to_unit(np.array([hounsfield])) == pytest.approx(unit, abs=1e-6)
        assert float(unit_to_hounsfield(torch.tensor(unit, dtype=torch.float64))) == pytest.approx(hounsfield)
    assert hounsfield_to_unit(np.array([-3000.0, 9000.0])).tolist() == [-1.0, 1.0]


def test_mr_zero_is_minus_one_and_the_ceiling_one():
    values = normalise_mr(np.array([0, 500, 500 * MR_CEILING, 1e6]), 500.0)
    assert values == pytest.approx([-1.0, 2 / MR_CEILING - 1, 1.0, 1.0])


def test_reference_is_the_percentile_inside_the_mask():
    array = np.zeros((20, 20, 20))
    mask = np.zeros(array.shape, bool)
    mask[5:15, 5:15, 5:15] = True
    array[mask] = np.arange(1000)
    array[0, 0, 0] = 1e9
    assert mr_reference_intensity(array, mask) == pytest.approx(np.percentile(np.arange(1000), 99))


@pytest.mark.parametrize(("modality", "air", "tissue"), [("MR", 3.0, 400.0), ("CT", -1000.0, 40.0)])
def test_body_is_the_largest_object_with_its_holes_filled(modality, air, tissue):
    x, y, _ = np.meshgrid(*[np.arange(n) * s for n, s in ((96, 1.0), (80, 1.0), (20, 3.0))], indexing="ij")
    body = (x - 48) ** 2 / 40**2 + (y - 40) ** 2 / 30**2 < 1
    cavity = (x - 48) ** 2 + (y - 40) ** 2 < 10**2
    couch = (y > 76) & (x > 20) & (x < 70)
    array = np.where((body & ~cavity) | couch, tissue, air) + np.random.default_rng(0).normal(0, 1, x.shape)
    found = body_mask(array, (1.0, 1.0, 3.0), modality)
    dice = 2 * (found & body).sum() / (found.sum() + body.sum())
    assert found.shape == array.shape
    assert dice > 0.97
    assert found[48, 40, 10]
    assert not found[40, 78, 10]


def test_nothing_but_air_has_no_body():
    assert not body_mask(np.full((16, 16, 16), -1000.0), (1.0, 1.0, 1.0), "CT").any()


@pytest.mark.parametrize("size", [(60, 45), (24, 30, 20)])
def test_resampling_keeps_positions_and_the_field_of_view(size):
    """A linear ramp in mm stays the same ramp at the new voxel centres."""
    spacing = (1.5, 2.0, 3.0)[: len(size)]
    axes = [(np.arange(n) + 0.5) * s for n, s in zip(size, spacing, strict=True)]
    ramp = sum(c * m for c, m in zip((1.0, 10.0, 100.0), np.meshgrid(*axes, indexing="ij"), strict=False))
    resized, true = resize_in_plane(torch.from_numpy(ramp)[None, None], spacing, [1.0] * len(size))
    new = resized.shape[2:]
    assert [n * s for n, s in zip(new, true, strict=True)] == pytest.approx(
        [n * s for n, s in zip(size, spacing, strict=True)]
    )
    axes = [(np.arange(n) + 0.5) * s for n, s in zip(new, true, strict=True)]
    expected = sum(c * m for c, m in zip((1.0, 10.0, 100.0), np.meshgrid(*axes, indexing="ij"), strict=False))
    inner = tuple(slice(4, -4) for _ in new)
    assert np.allclose(resized[0, 0].numpy()[inner], expected[inner], atol=1e-3)


def test_an_axis_without_wanted_spacing_and_an_equal_one_stay_untouched():
    image = torch.randn(1, 1, 10, 12)
    same, spacing = resize_in_plane(image, (1.0, 2.0), (1.004, None))
    assert same is image
    assert spacing == (1.0, 2.0)


def configured_augmentation(**settings):
    """What `mr_to_ct train` does to a view, by its config."""
    parser = ConfigParser()
    parser.read_config(configs_dir() / "mr_to_ct_train.yaml")
    parser.update(settings)
    return parser.get_parsed_content("augmentation")


def test_augmented_pairs_move_together_and_only_the_mr_changes_contrast():
    augmentation = configured_augmentation(crop_size=[32, 32], rotation=20.0, mr_gain=0.3, mr_gamma=0.2, mr_bias=0.0)
    image = torch.rand(1, 40, 40) - 0.5
    augmentation.set_random_state(seed=3)
    moved = augmentation({"mr": image, "ct": image.clone()})
    mr, ct = np.asarray(moved["mr"]).ravel(), np.asarray(moved["ct"]).ravel()
    assert not np.allclose(mr, ct)
    order = np.argsort(ct)
    assert (np.diff(mr[order]) > -1e-5).all()  # gain and gamma keep the order of grey values, voxel by voxel
    augmentation.set_random_state(seed=3)
    again = augmentation({"mr": image, "ct": image.clone()})
    assert np.array_equal(np.asarray(again["mr"]).ravel(), mr)


def test_outside_the_image_there_is_air():
    augmentation = configured_augmentation(crop_size=[64, 64], rotation=0.0, scaling=0.0, flip=False)
    moved = np.asarray(augmentation({"ct": torch.zeros(1, 32, 32)})["ct"])
    assert moved[0, :8].max() == pytest.approx(-1.0)
    assert moved[0, 32, 32] == pytest.approx(0.0, abs=1e-6)
