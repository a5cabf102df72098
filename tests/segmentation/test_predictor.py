"""Windows, blending and grids: what comes out lies where it belongs and is what the network says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer, sliding_window_inference
from monai.networks.nets import UNet
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.inference.lesions import LesionSegmentation, fitting_window
from medical_gans.io import Volume
from medical_gans.networks import MultiScaleSegmenter
from medical_gans.transforms.sequence_volume import SequenceVolume


class Bright(nn.Module):
    """Lesion where the first channel exceeds 1; knows its own number of calls."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape))
        return torch.stack([torch.zeros_like(image[:, 0]), 20 * (image[:, 0] - 1)], 1)


def case_of(image: np.ndarray, foreground: np.ndarray | None = None):
    """A case with 1 mm voxels, cut to its head as preprocessing does."""
    source = Volume(image[0], np.eye(4), Path("flair.nii.gz"))
    foreground = image.any(axis=0) if foreground is None else foreground
    bounds = [np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(found[0], found[-1] + 1) for found in bounds)
    affine = np.eye(4)
    affine[:3, 3] = [part.start for part in box]
    cut = image[(slice(None), *box)].astype(np.float32)
    return SequenceVolume(cut, foreground[box], affine, None, None, source)


@pytest.fixture
def head() -> np.ndarray:
    image = np.zeros((1, 40, 36, 30), np.float32)
    image[0, 6:34, 5:31, 4:27] = np.random.default_rng(0).normal(size=(28, 26, 23))
    return image


def tiny(in_channels: int = 1, classes: int = 2, **options) -> nn.Module:
    torch.manual_seed(0)
    options = {"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1, "norm": "instance", **options}
    return UNet(3, in_channels, classes, **options).eval()


def segmentation_of(network, *, roi_size=None, overlap=0.5, sw_batch_size=4, **options) -> LesionSegmentation:
    inferer = SlidingWindowInferer(roi_size, sw_batch_size, overlap, mode="gaussian", device="cpu")
    return LesionSegmentation(network, inferer, **options)


@pytest.mark.parametrize(
    ("settings", "edge"),
    [({}, 48), ({"patch_size": [32] * 3}, 32), ({"patch_size": [32] * 3, "roi_size": [16] * 3}, 16)],
)
def test_windows_are_as_large_as_the_patches_of_training_unless_told_otherwise(settings, edge):
    """Instance norm sees a larger window in another way."""
    network = Bright()
    segmentation = segmentation_of(network, **settings)
    segmentation(case_of(np.ones((1, 60, 60, 60), np.float32)))
    assert {shape[2:] for shape in segmentation.network.seen} == {(edge,) * 3}


def test_probabilities_are_those_of_monai_on_the_box_of_the_head(head):
    network = tiny(classes=3)
    made = segmentation_of(network, roi_size=(16, 16, 16), overlap=0.5, sw_batch_size=3)(case_of(head)).probability
    box = (slice(None), slice(6, 34), slice(5, 31), slice(4, 27))
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(head[box])[None], (16, 16, 16), 2, network, 0.5, mode="gaussian"
        )
    np.testing.assert_allclose(made[box], logits[0].softmax(0).numpy(), atol=1e-5)
    assert made.shape == (3, 40, 36, 30) and made.dtype == np.float32
    np.testing.assert_allclose(made.sum(axis=0), 1, atol=1e-5)


def test_what_lies_outside_the_head_is_background(head):
    foreground = head[0] != 0
    foreground[:, :, :10] = False
    made = segmentation_of(tiny(), roi_size=(16, 16, 16))(case_of(head, foreground)).probability
    assert (made[0][~foreground] == 1).all() and (made[0][foreground] < 1).all()


def test_what_lies_outside_of_a_brain_that_was_found_is_background(head):
    """Its mask lies on the grid of the image, not on that of the network."""
    case = case_of(head)
    free = segmentation_of(tiny(), roi_size=(16, 16, 16))(case)
    case.brain = np.zeros(head[0].shape, bool)
    case.brain[9:25, :, 7:] = True
    made = segmentation_of(tiny(), roi_size=(16, 16, 16))(case)
    assert np.array_equal(made.probability[:, case.brain], free.probability[:, case.brain])
    assert (made.probability[0][~case.brain] == 1).all() and not made.label[~case.brain].any()
    assert np.array_equal(made.label[case.brain], free.label[case.brain])


def test_a_hole_of_the_head_is_segmented_too(head):
    foreground = head[0] != 0
    foreground[15:17, 15, 15] = False
    made = segmentation_of(tiny(), roi_size=(16, 16, 16))(case_of(head, foreground)).probability
    assert (made[0, 15:17, 15, 15] < 1).all()


def test_windows_that_show_nothing_cost_nothing_and_change_nothing(head):
    image = np.zeros((1, 64, 16, 16), np.float32)
    image[0, :10], image[0, 54:] = 2.0, 2.0
    network, steps = Bright(), []
    segmentation = segmentation_of(network, roi_size=(16, 16, 16), overlap=0.0, sw_batch_size=2)
    made = segmentation(case_of(image), lambda done, total: steps.append((done, total)))
    assert np.array_equal(made.label, (image[0] > 1).astype(np.uint8))
    assert sum(shape[0] for shape in segmentation.network.seen) == 2
    assert steps == [(2, 4), (4, 4)]


@pytest.mark.parametrize("shape", [(5, 6, 7), (16, 16, 16), (40, 17, 23)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_progress_ends_with_all_windows(shape, overlap):
    steps = []
    segmentation = segmentation_of(Bright(), roi_size=(16, 16, 16), overlap=overlap, sw_batch_size=3)
    segmentation(case_of(np.full((1, *shape), 2.0)), lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]


def test_a_volume_smaller_than_a_window_is_padded():
    made = segmentation_of(tiny(), roi_size=(24, 24, 24))(case_of(np.ones((1, 9, 13, 7), np.float32))).probability
    assert made.shape == (2, 9, 13, 7)


def test_windows_are_rounded_up_to_what_the_strides_need():
    assert fitting_window(tiny(), (15, 16, 17)) == (16, 16, 20)
    assert fitting_window(tiny(strides=[2, 4]), (9, 9, 9)) == (16, 16, 16)
    options = {"channels": (2, 2), "joint_channels": (3, 3), "residual": (2,)}
    assert fitting_window(MultiScaleSegmenter(1, 2, **options), (17, 16, 15)) == (17, 16, 15)
    segmentation_of(tiny(), roi_size=(15, 15, 15))(case_of(np.ones((1, 20, 20, 20), np.float32)))


def test_a_network_that_changes_the_size_is_refused():
    with pytest.raises(SettingError, match=r"cannot take windows.*changes the size"):
        segmentation_of(nn.Conv3d(1, 2, 3), roi_size=(16, 16, 16))


@pytest.mark.parametrize("wrong", [{"overlap": 1.0}, {"overlap": -0.1}, {"sw_batch_size": 0}, {"roi_size": (16, 16)}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError, match="overlap from 0 to below 1"):
        segmentation_of(tiny(), **wrong)


def test_another_number_of_channels_is_refused(head):
    with pytest.raises(SettingError, match="takes 2 channels, but the case has 1"):
        segmentation_of(tiny(in_channels=2), roi_size=(16, 16, 16))(case_of(head))


def test_the_given_network_is_left_alone(head):
    network = tiny().train()
    segmentation_of(network, roi_size=(16, 16, 16))(case_of(head))
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_a_label_map_holds_the_most_probable_class(head):
    found = segmentation_of(tiny(classes=3), roi_size=(16, 16, 16))(case_of(head))
    assert found.label.dtype == np.uint8 and found.label.any()
    assert np.array_equal(found.label, found.probability.argmax(axis=0))


def test_another_inferer_takes_the_place_of_windows(head):
    network = Bright()
    segmentation = LesionSegmentation(network, SimpleInferer())
    found = segmentation(case_of(head))
    assert segmentation.network.seen == [(1, 1, 28, 26, 23)]
    assert np.array_equal(found.label, (head[0] > 1).astype(np.uint8))


def test_a_postprocessing_that_leaves_the_grid_is_refused(head):
    with pytest.raises(SettingError, match="leaves no pred on the grid of the image"):
        segmentation_of(Bright(), roi_size=(16, 16, 16), postprocessing=lambda item: item)(case_of(head))
