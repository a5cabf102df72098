"""A network sees in inference what it saw in training: one preprocessing, one grid."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage
from torch import nn

from medical_gans.cli.config_files import configs_dir
from medical_gans.data.slices import prepare_volume
from medical_gans.inference.synthesis import SliceSynthesis, translation_preprocessing
from medical_gans.io import Case, read_volume
from medical_gans.transforms.grid import SlicePlane

STAGES = ("train", "pretrain", "evaluate", "inference", "dose")
SPACING = (1.0, 1.0, 3.0)  # mm, of the file


class Watching(nn.Module):
    """Keeps what it is shown."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 1)
        self.stride = 1
        self.shown: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        SHOWN.append(images.clone())
        return images


SHOWN: list[torch.Tensor] = []


@pytest.fixture(scope="module")
def mr(tmp_path_factory) -> Path:
    """White noise in an ellipsoid: all frequencies, so that any other way to resample shows."""
    shape = (96, 80, 11)
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    body = sum(p**2 for p in places[:2]) < 0.7
    array = np.where(body, 300 + 200 * np.random.default_rng(0).random(shape), 0).astype(np.int16)
    path = tmp_path_factory.mktemp("mr") / "mr.nii.gz"
    # stored in another order than the network sees it
    nibabel.save(
        nibabel.Nifti1Image(
            array[::-1].transpose(1, 0, 2),
            np.array(
                [[0, -SPACING[0], 0, 40], [SPACING[1], 0, 0, -20], [0, 0, SPACING[2], 5], [0, 0, 0, 1]], dtype=float
            ),
        ),
        path,
    )
    return path


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
@pytest.mark.parametrize("edge", [0.5, 1.0, 2.0, 1.7], ids=["finer", "equal", "coarser", "by no whole number"])
def test_the_network_sees_the_same_slice_in_training_and_in_inference(mr, edge, plane, tmp_path):
    spacing = (edge, edge, None)
    preprocessing = translation_preprocessing(spacing, plane)
    prepared = prepare_volume(Case("p", mr, None), "mr", preprocessing, tmp_path)
    trained_on = torch.from_numpy(np.moveaxis(prepared.array(), {"axial": 2, "sagittal": 0}[plane], 0).copy())
    SHOWN.clear()
    SliceSynthesis([Watching()], preprocessing=preprocessing, slice_batch=1)(read_volume(mr))
    assert len(SHOWN) > 5
    first = next(n for n, whole in enumerate(trained_on) if _holds(whole, SHOWN[0][0, 0]))
    for number, image in enumerate(SHOWN):
        assert _holds(trained_on[first + number], image[0, 0]), number


def _holds(whole: torch.Tensor, part: torch.Tensor) -> bool:
    """Whether a slice has the pixels of a part of it somewhere, to 1e-5."""
    windows = whole.unfold(0, part.shape[0], 1).unfold(1, part.shape[1], 1)
    return float((windows - part).abs().amax((2, 3)).min()) < 1e-5


def test_neighbours_are_as_far_apart_in_training_as_in_inference(mr, tmp_path):
    from medical_gans.data.slices import TranslationViews

    preprocessing = translation_preprocessing((1.0, 1.0, 4.0))
    prepared = prepare_volume(Case("p", mr, None), "mr", preprocessing, tmp_path)
    views = TranslationViews([prepared], [prepared], crop_size=(16, 16), views_per_epoch=1, adjacent=3)
    there = [np.arange(30, 50), np.arange(30, 50), None]
    stack = views._stack(prepared, 5, {0: there[0], 1: there[1]})
    image = preprocessing({"image": str(mr)})["image"]
    plane = SlicePlane(image.shape[1:], SPACING, (1.0, 1.0, 4.0), 2, 3)
    expected = plane.images(image.as_tensor()[0], (slice(0, 96), slice(0, 80), slice(5, 6)))[0][:, 30:50, 30:50]
    torch.testing.assert_close(stack, expected, atol=1e-5, rtol=0)
    assert not torch.equal(stack[0], stack[1])


def test_coarser_grids_are_antialiased_against_an_independent_reference(mr):
    """White noise of deviation s has, averaged over 2 x 2 voxels and filtered linearly, far less than s left."""
    image = translation_preprocessing((2.0, 2.0, None))({"image": str(mr)})["image"].as_tensor()[0]
    whole = tuple(slice(0, n) for n in image.shape)
    made = SlicePlane(image.shape, SPACING, (2.0, 2.0, None), 2).images(image, whole)[:, 0, 18:30, 15:25]
    triangle = np.array([0.125, 0.375, 0.375, 0.125])  # linear filter, as wide as the new voxel to either side
    filtered = ndimage.correlate1d(image.numpy(), triangle, axis=0, origin=0)
    filtered = ndimage.correlate1d(filtered, triangle, axis=1, origin=0)
    expected = filtered[1::2, 1::2][18:30, 15:25]
    np.testing.assert_allclose(np.moveaxis(made.numpy(), 0, 2), expected, atol=1e-5)


def test_all_stages_have_one_preprocessing_word_for_word():
    texts = {}
    for stage in STAGES:
        lines = (configs_dir() / f"mr_to_ct_{stage}.yaml").read_text().splitlines()
        start = next(n for n, line in enumerate(lines) if line.startswith("preprocessing:"))
        end = next(n for n in range(start + 1, len(lines)) if lines[n] and not lines[n].startswith(" "))
        texts[stage] = [line for line in lines[start:end] if line]
        assert yaml.safe_load("\n".join(texts[stage]))["preprocessing"]["_target_"] == "Compose"
    assert all(text == texts["train"] for text in texts.values())
