"""The parts of brain_lesion's inference as MONAI's programs take them from its config, one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import UNet

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.lesions import LesionSegmentation
from medical_gans.io import save_volume
from medical_gans.transforms.sequence_volume import SequenceVolume, usual_preprocessing

CONFIGS = Path(__file__).parents[2] / "configs"
STAGES = ("train", "translate", "evaluate", "inference")
SHAPE = (24, 26, 20)
OBLIQUE = np.array([[0.3, 0, 2.9, -20], [1.9, 0.1, -0.4, -30], [0.1, -2.4, 0.1, 60], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two cases with two sequences and a lesion."""
    root = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in SHAPE), indexing="ij"))
    for name in ("anna", "bert"):
        (root / name).mkdir()
        lesion = (np.abs(place - 0.3) < 0.25).all(0)
        for sequence in ("FLAIR", "T1c"):
            image = np.where((place**2).sum(0) < 1, 100 + 10 * rng.standard_normal(SHAPE) + 60 * lesion, 0)
            save_volume(root / name / f"{sequence}.nii.gz", image.astype(np.float32), OBLIQUE)
        save_volume(root / name / "lesion.nii.gz", lesion.astype(np.uint8), OBLIQUE)
    return root


def parts(stage="inference", **settings):
    """Transforms and inferer of a config, without its weights."""
    config = ConfigParser.load_config_file(str(CONFIGS / f"brain_lesion_{stage}.yaml"))
    config |= {"network_spacing": [2.0, 2.0, 2.0], "device": "cpu", "process_device": "cpu", "channels": ["FLAIR"]}
    config |= {"trained": None, **settings}
    if stage == "inference":
        config["inferer"]["roi_size"] = [16, 16, 16]
    return ConfigParser(config)


def request(path):
    """What MONAI Label passes on: it adds the path a second time, and settings."""
    return {"image": str(path), "image_path": str(path), "device": "cpu"}


def test_all_stages_have_the_same_preprocessing():
    configs = [ConfigParser.load_config_file(str(CONFIGS / f"brain_lesion_{stage}.yaml")) for stage in STAGES]
    assert all(config["preprocessing"] == configs[0]["preprocessing"] for config in configs)
    assert configs[2]["postprocessing"] == configs[3]["postprocessing"]


def test_what_the_configs_say_is_what_the_package_does_without_them(data):
    said = parts().get_parsed_content("preprocessing")(request(data / "anna"))
    done = usual_preprocessing(["FLAIR"], [2.0, 2.0, 2.0])(request(data / "anna"))
    assert torch.equal(said["image"], done["image"]) and np.allclose(said["image"].affine, done["image"].affine)


@pytest.mark.parametrize("place", ["anna", "anna/FLAIR.nii.gz"])
def test_lesions_lie_on_the_grid_of_the_image(data, place):
    import nibabel

    torch.manual_seed(0)
    network = UNet(3, 1, 2, channels=[2, 4], strides=[2], num_res_units=0).eval()
    parser = parts()
    preprocessing, inferer, postprocessing = (
        parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "postprocessing")
    )
    read = request(data / place)
    for transform in preprocessing.transforms:  # MONAI Label calls them one by one
        read = transform(read)
    volume = SequenceVolume.of(read)
    assert read["image"].shape[1:] != volume.source.array.shape
    with torch.no_grad():
        read["pred"] = inferer(read["image"][None], network)[0]
    made = postprocessing(read)["pred"]
    path = data / place
    stored = nibabel.load(path / "FLAIR.nii.gz" if path.is_dir() else path)
    assert tuple(made.shape) == (1, *stored.shape) == (1, *made.meta["spatial_shape"])
    assert made.dtype == torch.uint8 and made.any() and not made.all()
    np.testing.assert_allclose(made.meta["original_affine"], stored.affine, atol=1e-5)
    np.testing.assert_array_equal(made[0].numpy(), LesionSegmentation(network, inferer)(volume).label)


def test_sequences_are_looked_for_beside_an_image(data):
    read = usual_preprocessing(["FLAIR", "T1c"])(request(data / "anna/FLAIR.nii.gz"))
    assert read["image"].shape[0] == 2


def test_a_folder_of_several_cases_is_refused(data):
    with pytest.raises(InputError, match="holds 2 cases"):
        usual_preprocessing(["FLAIR"]).transforms[0](request(data))


def test_the_postprocessing_asks_for_its_own_preprocessing():
    postprocessing = parts().get_parsed_content("postprocessing")
    with pytest.raises(InputError, match="use both together"):
        postprocessing.transforms[1]({"pred": torch.zeros(2, 8, 8, 8)})


def test_transforms_that_move_the_grid_are_undone_and_half_moved_ones_refused(data):
    """A spacing and a crop of MONAI's own: results lie where they belong all the same."""
    from monai.transforms import Compose, DivisiblePadd, Spacingd, SpatialCropd

    keys = ["image", "foreground"]
    for more in (Spacingd(keys, pixdim=(2.6, 2.3, 3.1), mode=("bilinear", "nearest")), DivisiblePadd(keys, k=16)):
        changed = Compose([*usual_preprocessing(["FLAIR"]).transforms, more])
        volume = SequenceVolume.of(changed({"image": data / "anna"}))
        plain = SequenceVolume.of(usual_preprocessing(["FLAIR"])(request(data / "anna")))
        assert volume.image.shape != plain.image.shape
        back, expected = (one.to_source_grid(one.foreground[None].astype(np.float32)) for one in (volume, plain))
        assert back.shape == expected.shape == (1, *SHAPE)
        agreement = 2 * np.minimum(back, expected).sum() / (back.sum() + expected.sum())
        assert agreement > (0.999 if isinstance(more, DivisiblePadd) else 0.9)
    half = Compose([*usual_preprocessing(["FLAIR"]).transforms, SpatialCropd(["image"], roi_slices=[slice(2, 9)] * 3)])
    with pytest.raises(SettingError, match=r"keys: \[image, foreground, label\]"):
        SequenceVolume.of(half(request(data / "anna")))
