"""Views made in batches are those that MONAI makes one at a time."""

import math

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandFlipd, RandGaussianNoised, RandRotated
from stage_components import component

from medical_gans.data.batched_augmentation import batched

KEYS = ("mr", "ct")


def _augmentation(**settings):
    return component("mr_to_ct_train", "augmentation", crop_size=[32, 24], **settings)


def _batch(number=5, channels=2, size=(40, 30)):
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    smooth = torch.stack([torch.sin(3 * rows * (1 + n) + columns) for n in range(number)])
    image = (0.8 * smooth)[:, None].repeat(1, channels, 1, 1)
    image[:, 1:] *= -0.5
    return {"mr": image, "ct": 0.9 * image.flip(2)}


def _one_by_one(augmentation, batch, seeds):
    views = []
    for number, seed in enumerate(seeds):
        augmentation.set_random_state(seed=seed)
        made = augmentation({key: images[number].clone() for key, images in batch.items()})
        views.append({key: image.as_tensor() if hasattr(image, "as_tensor") else image for key, image in made.items()})
    return {key: torch.stack([view[key] for view in views]) for key in batch}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rotation": 60.0, "scaling": 0.4, "flip": False},
        {"mr_gamma": 0.0, "mr_bias": 0.0, "mr_gain": 0.0},
        {"mr_gamma": 0.7, "mr_bias": 0.5, "mr_gain": 0.4},
    ],
)
def test_views_in_batches_are_those_of_the_config_one_by_one(settings):
    augmentation = _augmentation(**settings)
    batch, seeds = _batch(), [3, 1415, 92, 65, 2**31 - 1]
    made = batched(augmentation)(batch, seeds)
    expected = _one_by_one(augmentation, batch, seeds)
    for key in KEYS:
        assert made[key].shape == (5, 2, 32, 24)
        torch.testing.assert_close(made[key], expected[key], rtol=0, atol=2e-5)
    assert (made["mr"][0] - made["mr"][1]).abs().max() > 0.05


def test_shear_and_shift_are_those_of_monai():
    step = RandAffined(
        KEYS,
        prob=0.7,
        rotate_range=(0.5,),
        shear_range=(0.3, 0.2),
        translate_range=(4, 6),
        scale_range=(0.2, 0.3),
        spatial_size=(28, 36),
        mode="bilinear",
        padding_mode="zeros",
        allow_missing_keys=True,
    )
    augmentation, batch, seeds = Compose([step]), _batch(8), range(8)
    made = batched(augmentation)(batch, seeds)
    expected = _one_by_one(augmentation, batch, seeds)
    for key in KEYS:
        torch.testing.assert_close(made[key], expected[key], rtol=0, atol=2e-5)


def test_a_view_depends_on_its_own_seed_alone():
    form, batch = batched(_augmentation()), _batch()
    together = form(batch, [1, 2, 3, 4, 5])
    alone = form({key: images[3:4] for key, images in batch.items()}, [4])
    for key in KEYS:
        torch.testing.assert_close(together[key][3:4], alone[key], rtol=0, atol=1e-6)


def test_a_key_that_is_missing_is_left_out():
    augmentation = _augmentation()
    batch = {"ct": _batch()["ct"]}
    made = batched(augmentation)(batch, range(5))
    torch.testing.assert_close(made["ct"], _one_by_one(augmentation, batch, range(5))["ct"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "step",
    [
        RandGaussianNoised("mr", prob=1.0),
        RandRotated("mr", range_x=math.pi),
        RandAdjustContrastd("mr", prob=1.0, invert_image=True),
        RandFlipd("mr", prob=1.0, spatial_axis=(0, 1)),
    ],
    ids=lambda step: type(step).__name__,
)
def test_what_has_no_batched_form_is_left_to_monai(step):
    assert batched(Compose([RandFlipd("mr", prob=0.5, spatial_axis=0)])) is not None
    assert batched(Compose([RandFlipd("mr", prob=0.5, spatial_axis=0), step])) is None
    assert batched(lambda view: view) is None


def test_a_turned_batch_is_turned_as_numpy_turns():
    """Against an implementation of its own: a quarter turn about the middle."""
    augmentation = _augmentation(rotation=0.0, scaling=0.0, flip=False, mr_gamma=0.0, mr_bias=0.0, mr_gain=0.0)
    affine = next(step for step in augmentation.transforms if type(step).__name__ == "RandAffined")
    affine.rand_affine.rand_affine_grid.rotate_range = ((math.pi / 2, math.pi / 2),)
    image = torch.rand(1, 1, 24, 24) * 2 - 1
    affine.rand_affine.spatial_size = (24, 24)
    made = batched(augmentation)({"mr": image}, [7])["mr"][0, 0].numpy()
    expected = np.rot90(image[0, 0].numpy(), 1), np.rot90(image[0, 0].numpy(), -1)
    assert min(np.abs(made - one).max() for one in expected) < 1e-4
