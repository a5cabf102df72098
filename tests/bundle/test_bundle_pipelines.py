"""Promises of the parts that other programs build: exact grids, the same voxels, refusals that say why."""

import numpy as np
import pytest
import tiny_data
import torch

from medical_gans.errors import InputError
from medical_gans.inference.synthesis import SliceSynthesis, SynthesisInferer, translation_preprocessing
from medical_gans.networks import ResnetGenerator
from medical_gans.transforms import ReadImaged


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_data.mr_to_ct_synthesis(folder)
    return folder


def request(path):
    """What MONAI Label passes on: it adds the path a second time, and settings."""
    return {"image": str(path), "image_path": str(path), "device": "cpu"}


def test_an_mr_is_read_as_it_is_stored(data):
    import nibabel

    path = data / "inference/head.nii.gz"
    image = ReadImaged("image")(request(path))["image"]
    stored = nibabel.load(path)
    np.testing.assert_array_equal(image[0].numpy(), np.asarray(stored.dataobj))
    assert image.dtype == torch.int16
    np.testing.assert_array_equal(image.meta["original_affine"], stored.affine)
    assert tuple(image.meta["spatial_shape"]) == stored.shape


def test_an_mr_that_cannot_be_trusted_is_refused(tmp_path):
    tiny_data.save(tmp_path / "flat.nii.gz", np.full((9, 9, 9), 7))
    reader = translation_preprocessing().transforms[0]  # MONAI Label calls them one by one
    with pytest.raises(InputError, match="constant"):
        reader(request(tmp_path / "flat.nii.gz"))


def test_the_inferer_makes_the_voxels_of_whole_volume_synthesis(data):
    from medical_gans.io import read_volume

    network = ResnetGenerator(width=4, blocks=1).eval()
    path = data / "inference/head.nii.gz"
    preprocessing = translation_preprocessing((1.0, 1.0, None))
    read = preprocessing(request(path))
    with torch.no_grad():
        made = SynthesisInferer(preprocessing=preprocessing, flips=True)(read["image"][None], network)[0]
    expected = SliceSynthesis([network], spacing=(1.0, 1.0, None), flips=True)(read_volume(path))
    np.testing.assert_array_equal(made[0].numpy(), expected.hounsfield)
    assert made.dtype == torch.int16
