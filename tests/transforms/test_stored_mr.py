"""An MR that is scaled where it is cut is the MR that was scaled as a whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Identityd, Lambdad

from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.inference.synthesis.volume import translation_preprocessing
from medical_gans.io import Volume
from medical_gans.networks import ResnetGenerator
from medical_gans.transforms.intensity import NormaliseMRd, StoredMR, scaled_when_cut
from medical_gans.transforms.reading import preprocessed, with_background_at_zero


def _mr(dtype) -> Volume:
    rng = np.random.default_rng(0)
    array = np.zeros((30, 36, 24), order="F")
    array[4:26, 5:32, 2:22] = rng.integers(300, 1200, (22, 27, 20))
    return Volume(array.astype(dtype), np.diag([-2.0, 2.0, 2.5, 1.0]), Path("mr.nii.gz"))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("planes", "adjacent", "spacing"),
    [("axial", 1, (None, None, None)), ("axial,sagittal", 3, (1.6, 2.2, 1.5))],
)
def test_hounsfield_are_those_of_a_volume_scaled_before(dtype, planes, adjacent, spacing):
    torch.manual_seed(0)
    network, mr = ResnetGenerator(in_channels=adjacent, width=4, blocks=1), _mr(dtype)
    synthesis = SliceSynthesis([network], spacing, planes, adjacent=adjacent)
    whole = preprocessed(synthesis.preprocessing, {"image": mr})["image"]
    assert whole.dtype == torch.float32 and float(whole.min()) >= -1
    made, expected = synthesis(mr), synthesis.translate(whole)
    np.testing.assert_array_equal(made.hounsfield, expected.hounsfield)
    assert np.ptp(made.hounsfield) > 0


def test_only_what_is_looked_at_becomes_float():
    stored = torch.arange(-20, 40, dtype=torch.int16).reshape(3, 4, 5)
    mr = StoredMR(stored, 0.05)
    expected = np.clip(stored.numpy() * np.float32(0.05) - 1, -1, 1)
    np.testing.assert_allclose(mr[1:], expected[1:], rtol=1e-6)
    np.testing.assert_allclose(mr.movedim(2, 0)[3], np.moveaxis(expected, 2, 0)[3], rtol=1e-6)
    assert mr.stored is stored and mr.shape == (3, 4, 5) and len(mr) == 3


def test_an_image_that_a_later_step_asks_for_is_scaled_before():
    steps = list(translation_preprocessing().transforms)
    assert len(scaled_when_cut(Compose([*steps, Identityd("ct", allow_missing_keys=True)]), "image").transforms) == 3
    assert scaled_when_cut(Compose([*steps, Lambdad("image", lambda image: image * 0.5)]), "image") is None
    assert scaled_when_cut(Compose(steps[:2]), "image") is None
    assert scaled_when_cut(NormaliseMRd("image"), "image") is None


def test_the_outermost_voxels_of_any_order_are_the_background():
    rng = np.random.default_rng(1)
    array = np.full((20, 24, 18), -0.5, dtype=np.float32)
    array[4:-4, 4:-4, 4:-4] = rng.uniform(0.2, 1.0, (12, 16, 10))
    for stored in (array, np.asfortranarray(array), array.transpose(2, 0, 1)[::-1]):
        shifted = with_background_at_zero(Volume(stored, np.eye(4), Path("mr.nii.gz")))
        np.testing.assert_allclose(shifted.array, stored + 0.5, atol=1e-6)
