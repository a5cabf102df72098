"""Promises of the training of nodules: one config runs alone, in 2D and 3D, resumes, and runs on several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medical_gans.cli.command import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Bright discs in lung, malignant ones larger; 40 patients with five nodules each."""
    rng = np.random.default_rng(0)
    n, edge = 200, 24
    rating = np.tile([1, 2, 3, 4, 5], 40).astype(np.int8)
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    disc = np.hypot(rows, columns) < 1.5 * rating[:, None, None]
    hounsfield = np.where(disc, 30, -850) + rng.integers(-50, 50, (n, edge, edge))
    path = tmp_path_factory.mktemp("nodules") / "nodules.npz"
    np.savez(
        path,
        hu=hounsfield.astype(np.int16),
        malignancy=rating,
        patient=np.repeat([f"P{i:02d}" for i in range(40)], 5),
        pixel_spacing_mm=np.full(n, 0.6, np.float32),
    )
    return path


SMOKE = ["--size", "16", "--width", "2", "--discriminator_width", "2", "--batch_size", "8"]


def train(*arguments):
    return main(["lung_nodule", "train", "--config_file", "smoke_lung_nodule", *map(str, arguments)])


def test_an_archive_trains_and_leaves_weights_with_their_card(archive, tmp_path):
    assert train("--dataset_dir", archive, "--output_dir", tmp_path / "run") == 0
    card = json.loads((tmp_path / "run/model.json").read_text())
    assert card["spacing"] == [0.6, 0.6]
    assert card["classes"] == ["benign", "malignant", "indeterminate"]
    assert card["window"] == [-1000.0, 400.0]
    assert (tmp_path / "run/pictures/epoch_0001.png").exists()

    from medical_gans.weights import load_network

    assert card["network_def"]["_target_"] == "medical_gans.networks.NoduleGenerator"
    assert card["latent_size"] == 128 and card["patch_size"] == [16, 16]
    load_network(tmp_path / "run/model.pt")


@pytest.mark.parametrize(
    "settings",
    [
        ["--config_file", "dcgan_2018", "--malignancy", "malignant", *SMOKE],
        ["--objective", "relativistic", "--penalty", "r1_r2"],
        ["--objective", "wasserstein", "--penalty", "wgan_gp", "--critic_steps", "2"],
        ["--consensus_weight", "0.1", "--objective", "goodfellow"],
    ],
    ids=["paper", "r3gan", "wgan_gp", "consensus"],
)
def test_presets_objectives_and_penalties_train(archive, tmp_path, settings):
    assert train("--dataset_dir", archive, "--output_dir", tmp_path / "run", *settings) == 0


def test_the_feature_network_chooses_the_weights(archive, tmp_path):
    from medical_gans.networks import NoduleClassifier
    from medical_gans.weights import WeightsCard, save_weights

    save_weights(tmp_path / "features.pt", NoduleClassifier(num_measures=41))
    network_def = {"_target_": "medical_gans.networks.NoduleClassifier", "num_measures": 41}
    WeightsCard([0.6, 0.6], network_def=network_def, window=[-1000, 400]).save(tmp_path / "features.pt")
    settings = ["--features", tmp_path / "features.pt", "--split_fractions", "[0.4,0.5,0.1]"]
    assert train("--dataset_dir", archive, "--output_dir", tmp_path / "run", *settings) == 0
    assert "frechet" in (tmp_path / "run/losses.csv").read_text()


def test_a_resumed_run_equals_an_unbroken_one(archive, tmp_path):
    for run, epochs in (("whole", [2]), ("parts", [1, 2])):
        for until in epochs:
            settings = ["--max_epochs", until, "--flat_epochs", 1, "--resume", "true"]
            assert train("--dataset_dir", archive, "--output_dir", tmp_path / run, *settings) == 0
    whole, parts = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_classes_and_networks_must_agree(archive, tmp_path, capsys):
    cases = {
        ("--num_classes", "2"): "Set num_classes to 3",
        ("--config_file", "dcgan_2018", "--num_classes", "3", *SMOKE): "Set num_classes to 0",
        ("--malignancy", "evil"): "malignancy is 'evil'; choose both, all, benign",
        ("--size", "20"): "size is 20; give a multiple of 8",
    }
    for settings, words in cases.items():
        assert train("--dataset_dir", archive, "--output_dir", tmp_path / "run", *settings) == 2
        message = capsys.readouterr().err
        assert words in message
        assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_torchrun_trains_on_two_processes(archive, tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
        *("-m", "medical_gans", "lung_nodule", "train", "--config_file", "smoke_lung_nodule"),
        *("--dataset_dir", str(archive), "--output_dir", str(tmp_path / "run"), "--device", "cpu"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["counters"]["iteration"] == 1  # sixteen views, two processes, eight each per step
