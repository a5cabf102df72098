"""Promises of the parts that other programs build: exact grids, the same voxels, refusals that say why."""

import numpy as np
import pytest
import tiny_data
import torch

from medical_gans.errors import InputError
from medical_gans.inference.lesions import LesionSegmentation, label_map
from medical_gans.inference.pipelines import brain_lesion, mr_to_ct
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.networks import ResnetGenerator, segmentation_network

TINY_UNET = {"channels": [2, 4], "strides": [2], "num_res_units": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_data.mr_to_ct_synthesis(folder)
    tiny_data.brain_lesion_segmentation(folder)
    return folder


def request(path):
    """What MONAI Label passes on: it adds the path a second time, and settings."""
    return {"image": str(path), "image_path": str(path), "device": "cpu"}


def test_an_mr_is_read_as_it_is_stored(data):
    import nibabel

    path = data / "inference/head.nii.gz"
    image = mr_to_ct.preprocessing()(request(path))["image"]
    stored = nibabel.load(path)
    np.testing.assert_array_equal(image[0].numpy(), np.asarray(stored.dataobj))
    assert image.dtype == torch.int16
    np.testing.assert_array_equal(image.meta["original_affine"], stored.affine)
    assert tuple(image.meta["spatial_shape"]) == stored.shape


def test_an_mr_that_cannot_be_trusted_is_refused(tmp_path):
    tiny_data.save(tmp_path / "flat.nii.gz", np.full((9, 9, 9), 7))
    (reader,) = mr_to_ct.preprocessing().transforms  # MONAI Label calls them one by one
    with pytest.raises(InputError, match="constant"):
        reader(request(tmp_path / "flat.nii.gz"))


def test_the_inferer_makes_the_voxels_of_whole_volume_synthesis(data):
    from medical_gans.io import read_volume

    network = ResnetGenerator(width=4, blocks=1).eval()
    path = data / "inference/head.nii.gz"
    read = mr_to_ct.preprocessing()(request(path))
    with torch.no_grad():
        read["pred"] = mr_to_ct.SynthesisInferer(spacing=(1.0, 1.0, None), flips=True)(read["image"][None], network)[0]
    made = mr_to_ct.postprocessing()(read)["pred"]
    expected = SliceSynthesis([network], spacing=(1.0, 1.0, None), flips=True)(read_volume(path))
    np.testing.assert_array_equal(made[0].numpy(), expected.hounsfield)
    assert made.dtype == torch.int16


@pytest.mark.parametrize("place", ["case0", "case0/FLAIR.nii.gz"])
def test_lesions_lie_on_the_grid_of_the_image(data, place):
    import nibabel

    torch.manual_seed(0)
    network = segmentation_network(name="UNet", in_channels=1, out_channels=2, options=TINY_UNET).eval()
    path = data / "inference" / place
    settings = {"spacing": [2.0, 2.0, 2.0], "roi_size": [16, 16, 16]}
    read = brain_lesion.preprocessing(["FLAIR"], spacing=settings["spacing"])(request(path))
    case = read["image"].meta["case"]
    assert read["image"].shape[1:] == case.image.shape[1:] != case.source.array.shape
    with torch.no_grad():
        read["pred"] = brain_lesion.LesionInferer(**settings)(read["image"][None], network)[0]
    made = brain_lesion.postprocessing()(read)["pred"]
    stored = nibabel.load(path / "FLAIR.nii.gz" if path.is_dir() else path)
    assert tuple(made.shape) == (1, *stored.shape) == (1, *read["image"].meta["spatial_shape"])
    assert made.dtype == torch.uint8
    np.testing.assert_allclose(read["image"].meta["original_affine"], stored.affine, atol=1e-5)
    np.testing.assert_array_equal(made[0].numpy(), label_map(LesionSegmentation(network, **settings)(case)))


def test_sequences_are_looked_for_beside_an_image(data):
    path = data / "inference/case0/FLAIR.nii.gz"
    assert brain_lesion.preprocessing(["FLAIR", "T1c"])(request(path))["image"].shape[0] == 2


def test_a_folder_of_several_cases_is_refused(data):
    (reader,) = brain_lesion.preprocessing(["FLAIR"]).transforms
    with pytest.raises(InputError, match="holds 2 cases"):
        reader(request(data / "train"))


def test_the_lesion_inferer_asks_for_its_own_preprocessing():
    from monai.data import MetaTensor

    network = segmentation_network(name="UNet", in_channels=1, out_channels=2, options=TINY_UNET)
    with pytest.raises(InputError, match="preprocessing"):
        brain_lesion.LesionInferer()(MetaTensor(torch.zeros(1, 1, 16, 16, 16)), network)
