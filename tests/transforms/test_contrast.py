"""Random contrast keeps anatomy, labels and the level of an image, and turns the contrast of lesions round."""

import numpy as np
import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.transforms import RandConvolutionContrastd, RandPaintRegionsd
from medical_gans.transforms.contrast import deformed, regions_of


@pytest.fixture
def patch():
    """Two tissues and a lesion that looks like neither, in an empty background."""
    rng = np.random.default_rng(0)
    image = np.zeros((24, 24, 24), np.float32)
    image[2:22, 2:22, 2:12], image[2:22, 2:22, 12:22] = -1.0, 1.0
    label = np.zeros(image.shape, np.int64)
    label[6:12, 6:12, 4:10] = 1
    image[label == 1] = 2.5
    image[image != 0] += 0.1 * rng.standard_normal(np.count_nonzero(image))
    return {"image": torch.from_numpy(image[None]), "label": torch.from_numpy(label[None])}


def drawn(transform, patch, seed):
    return transform.set_random_state(seed=seed)(patch)


@pytest.mark.parametrize("make", [RandConvolutionContrastd, RandPaintRegionsd])
def test_what_is_drawn_follows_from_the_state_and_the_background_stays_zero(make, patch):
    transform = make("image")
    first, again, other = (drawn(transform, patch, seed)["image"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert torch.equal(first != 0, patch["image"] != 0) and first.isfinite().all()
    assert torch.equal(drawn(transform, patch, 3)["label"], patch["label"])
    assert torch.equal(drawn(make("image", prob=0.0), patch, 3)["image"], patch["image"])


def test_random_convolutions_keep_the_norm_and_one_layer_of_one_voxel_is_a_line(patch):
    made = drawn(RandConvolutionContrastd("image"), patch, 1)["image"]
    assert float(made.norm()) == pytest.approx(float(patch["image"].norm()), rel=1e-4)
    inside = patch["image"] != 0
    lines = 0
    for seed in range(12):  # a kernel of one voxel in half of the draws
        made = drawn(RandConvolutionContrastd("image", layers=1), patch, seed)["image"][inside].double()
        given = patch["image"][inside].double()
        design = torch.stack([given, torch.ones_like(given)], 1)
        lines += float((design @ torch.linalg.lstsq(design, made[:, None]).solution - made[:, None]).abs().max()) < 1e-4
    assert 2 <= lines <= 10


def test_a_lesion_is_brighter_in_some_draws_and_darker_in_others(patch):
    transform = RandPaintRegionsd("image")
    lesion, around = patch["label"] == 1, (patch["image"] < -0.5) & (patch["label"] == 0)
    contrasts = []
    for seed in range(40):
        made = drawn(transform, patch, seed)["image"]
        contrasts.append(float(made[lesion].mean() - made[around].mean()))
    signs = np.sign(contrasts)
    assert 8 <= (signs > 0).sum() <= 32 and np.abs(contrasts).mean() > 0.3


def test_mean_and_deviation_are_those_of_the_image(patch):
    inside = patch["image"] != 0
    made = drawn(RandPaintRegionsd("image"), patch, 5)["image"]
    assert float(made[inside].mean()) == pytest.approx(float(patch["image"][inside].mean()), abs=1e-3)
    assert float(made[inside].std()) == pytest.approx(float(patch["image"][inside].std()), rel=1e-3)


def test_tissues_are_told_apart_and_lesions_are_regions_of_their_own(patch):
    image, label = patch["image"][0].numpy(), patch["label"][0].numpy()
    region = regions_of(image, image != 0, label, 2)
    assert (region[label == 1] == 3).all() and set(np.unique(region)) == {0, 1, 2, 3}
    tissue = (image != 0) & (label == 0)
    dark = np.zeros(image.shape, bool)
    dark[:, :, :12] = True
    agrees = (region == 1)[tissue] == dark[tissue]
    assert agrees.mean() > 0.9


def test_an_empty_patch_stays_empty():
    empty = {"image": torch.zeros(1, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8)}
    assert not RandPaintRegionsd("image")(empty)["image"].any()
    assert not RandConvolutionContrastd("image")(empty)["image"].any()


def test_lesions_get_another_shape_and_copies_elsewhere_as_the_label_says(patch):
    before = patch["label"] == 1
    moved = RandPaintRegionsd("image", elastic=3.0)
    shapes = [drawn(moved, patch, seed)["label"] == 1 for seed in range(6)]
    for shape in shapes:
        assert not torch.equal(shape, before) and 0.4 < float((shape & before).sum() / before.sum()) < 1.0
        assert not (shape & (patch["image"] == 0)).any()
    plain = {"region": 0.0, "texture": 0.0, "bias": 0.0, "lines": 0.0, "spots": 0.0, "gamma": 0.0, "blur": (0.0, 0.0)}
    paste = RandPaintRegionsd("image", paste=1.0, regions=(2, 2), detail=0.0, painter={**plain, "thick": 0.0})
    pasted = [drawn(paste, patch, seed) for seed in range(12)]
    assert all((one["label"] == 1)[before].all() for one in pasted)
    copies = [(one["label"] == 1) & ~before for one in pasted]
    assert sum(bool(copy.any()) for copy in copies) >= 8
    for one, copy in zip(pasted, copies, strict=True):  # a copy is painted as the lesion is, whatever it covers
        if copy.any():
            assert float(one["image"][copy].mean()) == pytest.approx(float(one["image"][before].mean()), abs=0.15)


def test_a_moved_label_keeps_its_values_and_without_reach_itself():
    label = np.zeros((12, 12, 12), np.int64)
    label[4:8, 4:8, 4:8] = 2
    rng = np.random.default_rng(0)
    assert np.array_equal(deformed(label, (0.0, 0.0, 0.0), rng), label)
    moved = deformed(label, (3.0, 3.0, 3.0), rng)
    assert set(np.unique(moved)) == {0, 2} and not np.array_equal(moved, label)


@pytest.mark.parametrize("wrong", [{"regions": (1, 3)}, {"regions": (5, 3)}, {"regions": (3,)}])
def test_regions_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError, match="fewest and the most tissues"):
        RandPaintRegionsd("image", **wrong)
