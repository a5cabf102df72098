"""Validation during training: the figures of the whole, at a fraction of its cost."""

import functools

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.io import Case, TrainingCases, save_volume
from medical_gans.metrics import synthetic_ct_metrics
from medical_gans.networks import ResnetGenerator
from medical_gans.training.translation_validation import TranslationValidation, translation_validation
from medical_gans.transforms import hounsfield_to_unit

# Voxel axes that run to the front, down and to the right: nothing is where a careless reader expects it.
AFFINE = np.array([[0.0, 0, 3, -20], [2, 0, 0, -30], [0, -2.5, 0, 60], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("patient")
    rng = np.random.default_rng(0)
    body = np.zeros((40, 44, 24), dtype=bool)
    body[5:35, 4:38, 2:22] = True
    mr = np.where(body, rng.integers(300, 1000, body.shape), 0).astype(np.int16)
    ct = np.where(body, 0, -1000).astype(np.int16)
    ct[12:20, 10:18, 4:20] = 700
    arrays = {"mr": mr, "ct": ct, "mask": body}
    paths = {name: save_volume(folder / f"{name}.nii.gz", array, AFFINE) for name, array in arrays.items()}
    return Case("patient", **paths)


class TrueBone(nn.Module):
    """Everything is water but voxels brighter than most."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        water, bone = (float(hounsfield_to_unit(np.array(hu))) for hu in (0.0, 700.0))
        return torch.where(image > 0.5, bone, water)


def synthesis(**options):
    return functools.partial(SliceSynthesis, **options)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_slice_gives_the_figures_of_the_evaluation(case, plane):
    from medical_gans.data.pairs import read_pair

    make = synthesis(planes=[plane])
    figures = TranslationValidation([case], make, slice_step=1)(TrueBone())
    pair = read_pair(case)
    expected = synthetic_ct_metrics(make([TrueBone()])(pair.mr).hounsfield, pair.ct.array, pair.mask)
    assert figures == pytest.approx({"mae": expected["mae"], "bone_dice": expected["dice_bone"]})


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 2), ("coronal", 0), ("axial", 1)])
def test_of_the_slices_that_the_network_translates_every_nth_is_seen(case, plane, axis):
    seen = []

    class Watching(TrueBone):
        def forward(self, image):
            seen.append(image.shape)
            return super().forward(image)

    def watched(networks):
        made = SliceSynthesis(networks, planes=[plane])
        made.generators.networks = networks
        return made

    TranslationValidation([case], watched, slice_step=5)(Watching())
    whole = (40, 44, 24)
    in_plane = tuple(-(-size // 4) * 4 for a, size in enumerate(whole) if a != axis)
    assert sum(shape[0] for shape in seen) == pytest.approx(whole[axis] / 5, abs=1)
    assert all(sorted(shape[2:]) <= sorted(in_plane) for shape in seen)


@pytest.mark.parametrize("options", [{"planes": ["axial", "coronal"]}, {"adjacent": 3}])
def test_slices_that_depend_on_each_other_are_all_judged(case, options):
    channels = options.get("adjacent", 1)
    network = ResnetGenerator(in_channels=channels, out_channels=channels, width=2, blocks=0)
    make = synthesis(**options)
    thinned, whole = (TranslationValidation([case], make, step)(network) for step in (4, 1))
    assert thinned == whole


def test_the_network_in_training_is_left_as_it_was(case):
    network = ResnetGenerator(width=2, blocks=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    TranslationValidation([case], synthesis())(network)
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_patient_without_bone_has_no_share_in_the_dice(case, tmp_path):
    body = nibabel.load(case.mask).get_fdata() > 0
    soft = np.where(np.random.default_rng(1).random(body.shape) < 0.5, 0, 10)
    boneless = np.where(body, soft, -1000).astype(np.int16)
    other = Case("soft", case.mr, save_volume(tmp_path / "ct.nii.gz", boneless, AFFINE), case.mask)

    class Water(nn.Module):
        def forward(self, image):
            return torch.full_like(image, float(hounsfield_to_unit(np.array(0.0))))

    assert TranslationValidation([case, other], synthesis())(Water())["bone_dice"] == 0
    assert np.isnan(TranslationValidation([other], synthesis())(Water())["bone_dice"])


def test_without_validation_patients_there_is_no_validation():
    assert translation_validation(TrainingCases([], [], []), synthesis()) is None


def test_unusable_patients_and_steps_are_refused_before_training(case, tmp_path):
    shifted = AFFINE.copy()
    shifted[0, 3] += 5
    moved = save_volume(tmp_path / "ct.nii.gz", np.asarray(nibabel.load(case.ct).dataobj), shifted)
    with pytest.raises(InputError, match="different grids"):
        TranslationValidation([Case("moved", case.mr, moved, case.mask)], synthesis())
    with pytest.raises(SettingError, match="slice_step is 0"):
        TranslationValidation([case], synthesis(), slice_step=0)
