"""Promises of the translation between two sets of MR sequences."""

from functools import partial

import nibabel as nib
import numpy as np
import torch
from torch import nn

from medical_gans.data.sequence_views import SequenceSlices
from medical_gans.inference.lesions import SequenceTranslator
from medical_gans.io import save_volume
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.losses import adversarial_objective, mind_loss
from medical_gans.methods.cyclegan import CycleGan
from medical_gans.networks import ResnetGenerator, patch_discriminator
from medical_gans.training.player import Player
from medical_gans.transforms.sequence_volume import SequenceVolume, read_sequence_case

RNG = np.random.default_rng(0)


def step(seed=0):
    torch.manual_seed(seed)
    generators = [ResnetGenerator(in_channels=2, out_channels=2, width=2, blocks=1) for _ in range(2)]
    judges = [patch_discriminator(in_channels=2, width=4, layers=1, norm="none") for _ in range(2)]
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    pair = dict(zip(("source_to_target", "target_to_source"), generators, strict=True))
    return CycleGan(
        Player(pair, adam, average=["source_to_target"]),
        Player(dict(zip(("source", "target"), judges, strict=True)), adam),
        {"adversarial": adversarial_objective("least_squares"), "cycle": nn.L1Loss(), "structure": mind_loss},
        {"adversarial": 1.0, "cycle": 10.0, "structure": 1.0},
        sides=("source", "target"),
        pool_size=2,
    )


def batch():
    return {name: torch.rand(2, 2, 16, 16) * 2 - 1 for name in ("source", "target")}


def test_the_names_are_those_of_the_two_domains():
    one = step()
    losses = one(batch())
    assert set(losses) == {
        *("adversarial_source", "adversarial_target", "cycle_source", "cycle_target"),
        *("structure", "discriminator_source", "discriminator_target"),
    }
    assert {"source", "target", "synthetic_target", "synthetic_source"} <= set(one.images)


def test_each_discriminator_judges_its_own_domain():
    """The target's discriminator alone decides how source images are translated."""
    one = step()
    judge, asked = one.discriminators["target"], []
    judge.register_forward_pre_hook(lambda module, images: asked.append(images[0].detach().clone()))
    given = batch()
    one(given)
    assert torch.equal(asked[0], one.images["synthetic_target"])  # that of the generator
    assert torch.equal(asked[1], given["target"]) and len(asked) == 3
    assert one.shipped is one.generators.averaged("source_to_target")


def test_a_step_continues_from_its_state():
    first, second = step(), step(1)
    first(batch())
    second.load_state_dict(first.state_dict())
    given = batch()
    torch.manual_seed(3)
    expected = first(given)
    torch.manual_seed(3)
    assert second(given) == expected


def test_slices_show_the_head_and_repeat():
    shape = (20, 24, 10)
    foreground = np.zeros(shape, bool)
    foreground[4:16, 4:20, 2:8] = True
    image = np.where(foreground, 2.0, 0.0)[None].astype(np.float32)
    volume = SequenceVolume(image, foreground, np.eye(4), None, None, None)
    slices = SequenceSlices([volume], [volume], crop_size=(8, 8), views_per_epoch=4)
    assert len(slices.slices["source"]) == 6
    view = slices[0]
    assert view["source"].shape == (1, 8, 8) and float(view["source"].max()) == 0.5
    assert torch.equal(view["target"], slices[0]["target"])


def test_translated_cases_lie_on_the_grid_of_the_source_and_read_like_it(tmp_path):
    """A generator that inverts contrast: what was bright is dark, at the same place, on the same oblique grid."""
    shape = (22, 18, 12)
    affine = np.diag([-1.0, 1.0, 2.0, 1.0]) @ np.array([[1, 0.1, 0, 5], [-0.1, 1, 0, 3], [0, 0, 1, 7], [0, 0, 0, 1]])
    inside = np.zeros(shape, bool)
    inside[3:-3, 3:-3, 2:-2] = True
    (tmp_path / "data" / "anna").mkdir(parents=True)
    smooth = np.linspace(50, 150, shape[0])[:, None, None] * np.ones(shape)
    save_volume(tmp_path / "data/anna/FLAIR.nii.gz", np.where(inside, smooth, 0).astype(np.float32), affine)

    class Inverted(nn.Module):
        def forward(self, image):
            return -image

    cases = find_sequence_cases(tmp_path / "data", ["FLAIR"])
    options = {"output_dir": tmp_path / "out"}
    SequenceTranslator(Inverted(), cases, ["FLAIR"], ["T1c"], **options).run()
    written = nib.load(tmp_path / "out/anna/T1c.nii.gz")
    assert written.shape == shape and np.abs(written.affine - affine).max() < 1e-5
    before = read_sequence_case(cases[0], ["FLAIR"])
    after = read_sequence_case(find_sequence_cases(tmp_path / "out", ["T1c"])[0], ["T1c"])
    assert (before.foreground == after.foreground).all()
    assert np.corrcoef(before.image[0][before.foreground], after.image[0][before.foreground])[0, 1] < -0.999
