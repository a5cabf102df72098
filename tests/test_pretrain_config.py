"""Promises of the painted stage: CT alone are enough, it resumes, and its weights are used without further settings."""

import json

import nibabel
import numpy as np
import pytest
import torch

from medical_gans.cli import main

SMALL = (
    "--max_epochs", "1", "--views_per_epoch", "8", "--batch_size", "2", "--crop_size", "[32,32]",
    "--spacing", "[1.0,1.0,null]", "--network_def#widths", "[4,8]", "--network_def#blocks", "[1,1]", "--amp", "false",
)  # fmt: skip


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])), path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """One patient with a CT only, a pair to train on, a pair to validate on."""
    folder = tmp_path_factory.mktemp("cohort")
    x, y, z = np.meshgrid(np.arange(56.0), np.arange(48.0), np.arange(8.0), indexing="ij")
    body, bone = np.hypot(x - 28, y - 24), np.hypot(x - 24 - 0.3 * z, y - 24)
    ct = np.select([bone < 5, bone < 9, body < 18, body < 22], [-20.0, 1100.0, 50.0, -100.0], -1000.0)
    mr = np.select([ct < -500, ct < 0, ct < 100], [0, 900, 300], 20) + np.random.default_rng(0).integers(0, 9, ct.shape)
    write(folder / "training/P0/ct.nii.gz", ct)
    for name in ("training/P1", "validation/P2"):
        write(folder / name / "ct.nii.gz", ct)
        write(folder / name / "mr.nii.gz", mr)
        write(folder / name / "mask.nii.gz", ct > -500)
    return folder


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "painted"
    arguments = ["mr_to_ct", "pretrain", "--dataset_dir", str(cohort), "--output_dir", str(folder), *SMALL]
    assert main(arguments) == 0
    return folder, arguments


def test_weights_come_with_a_card_that_rebuilds_their_network(run):
    folder, _ = run
    card = json.loads((folder / "model.json").read_text())
    assert card["network_def"]["_target_"] == "medical_gans.networks.BoneGenerator"
    assert (card["adjacent"], card["spacing"]) == (3, [1.0, 1.0, None])
    log = (folder / "losses.csv").read_text()
    assert "bone_probability" in log
    assert "mae" in log


def test_a_longer_plan_goes_on_from_the_checkpoint_with_registered_pairs_mixed_in(run):
    folder, arguments = run
    before = torch.load(folder / "checkpoint.pt", weights_only=True)["counters"]["iteration"]
    longer = [*arguments, "--resume", "true", "--real_views", "0.5"]
    longer[longer.index("--max_epochs") + 1] = "2"
    assert main(longer) == 0
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["counters"]["iteration"] == 2 * before


def test_the_weights_translate_an_mr_without_further_settings(run, cohort, tmp_path):
    folder, _ = run
    arguments = ["--dataset_dir", str(cohort / "validation/P2/mr.nii.gz"), "--weights", str(folder / "model.pt")]
    assert main(["mr_to_ct", "inference", *arguments, "--output_dir", str(tmp_path / "out")]) == 0
    made = next((tmp_path / "out").rglob("*.nii.gz"))
    assert nibabel.load(made).shape == nibabel.load(cohort / "validation/P2/mr.nii.gz").shape


@pytest.mark.filterwarnings("error:Detected call of `lr_scheduler")
@pytest.mark.parametrize("paired", ["false", "true"])
def test_training_on_real_images_goes_on_from_painted_weights(run, cohort, tmp_path, paired):
    folder, _ = run
    small = [*SMALL[:2], "--views_per_epoch", "4", *SMALL[6:14], "--hold_steps", "4", "--paired", paired]
    arguments = ["--config_file", "from_painted", "--dataset_dir", str(cohort), *small]
    start = ["--initial_weights", str(folder / "model.pt"), "--output_dir", str(tmp_path / "run")]
    assert main(["mr_to_ct", "train", *arguments, *start]) == 0
    before, after = (torch.load(run / "model.pt", weights_only=True) for run in (folder, tmp_path / "run"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)  # it waited for the others until the end
    card = json.loads((tmp_path / "run/model.json").read_text())
    assert (card["adjacent"], card["network_def"]["sharpness"]) == (3, 1.5)
