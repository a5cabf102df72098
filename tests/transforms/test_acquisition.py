"""Other coils and slice thicknesses change what a scanner changes, and nothing else."""

import numpy as np
import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.transforms import RandSensitivityd, RandThickSlicesd


@pytest.fixture
def patch():
    image = torch.randn(2, 16, 18, 20, generator=torch.Generator().manual_seed(0))
    image[:, :3] = 0
    return {"image": image}


@pytest.mark.parametrize("make", [RandSensitivityd, RandThickSlicesd])
def test_what_is_drawn_follows_from_the_state_and_the_background_stays_zero(make, patch):
    transform = make("image")
    first, again, other = (transform.set_random_state(seed=seed)(patch)["image"] for seed in (3, 3, 6))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert torch.equal(first != 0, patch["image"] != 0)
    assert torch.equal(make("image", prob=0.0)(patch)["image"], patch["image"])


def test_the_field_multiplies_the_signal_smoothly_and_keeps_its_mean(patch):
    made = RandSensitivityd("image", strength=0.3, level=3.0).set_random_state(seed=1)(patch)["image"][0]
    given = patch["image"][0]
    inside = given != 0
    assert float(made[inside].mean()) == pytest.approx(float(given[inside].mean()), abs=1e-4)
    # in a uniform image the same field alone is seen: it is smooth, and within its strength
    even = {"image": torch.full((1, 16, 18, 20), 1.0)}
    field = RandSensitivityd("image", strength=0.3, level=3.0).set_random_state(seed=1)(even)["image"][0] / 4
    assert float(field.max() - field.min()) < 0.6 and float(field.std()) > 0.01
    assert float(field.diff(dim=0).abs().max()) < 0.06


def test_thick_slices_are_means_along_one_axis():
    image = torch.zeros(1, 12, 12, 12)
    image += 1.0
    image[0, 6, 6, 6] = 7.0
    axes = set()
    for seed in range(12):
        made = RandThickSlicesd("image", thickness=(6.0, 6.0), spacing=(2.0, 2.0, 2.0)).set_random_state(seed=seed)(
            {"image": image}
        )["image"][0]
        changed = np.argwhere((made - image[0]).abs().numpy() > 1e-6)
        varying = [axis for axis in range(3) if len(set(changed[:, axis])) > 1]
        assert len(varying) == 1
        assert float(made.max()) == pytest.approx(1 + 6 / 3)  # a voxel of three in the slice
        axes |= set(varying)
    assert axes == {0, 1, 2}


def test_slices_thinner_than_the_voxels_change_nothing(patch):
    made = RandThickSlicesd("image", thickness=(1.0, 2.0), spacing=(3.0, 3.0, 3.0))(patch)["image"]
    assert torch.equal(made, patch["image"])


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match=r"strength is 1\.0"):
        RandSensitivityd("image", strength=1.0)
    with pytest.raises(SettingError, match="thinnest and the thickest"):
        RandThickSlicesd("image", thickness=(4.0, 2.0))
