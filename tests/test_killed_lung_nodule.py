"""Trainings of lung_nodule that are killed at any moment go on as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LONG = 4
PLANS = {  # settings, the length of the plan, folder of the first checkpoint
    "train": (
        {"size": 16, "width": 2, "discriminator_width": 2, "features": None, "batch_size": 8, "views_per_epoch": 64},
        {"max_epochs": LONG, "flat_epochs": 1, "decay_epochs": LONG - 1},
        ".",
    ),
    "features": (
        {"size": 24, "feature_width": 2, "num_features": 4, "batch_size": 8, "views_per_epoch": 32},
        {"max_epochs": LONG, "train#classifier#schedule#total_steps": LONG},
        ".",
    ),
    "anomaly_train": (
        {"size": 16, "width": 2, "latent_size": 4, "critic_width": 2, "encoder_width": 2, "critic_steps": 1}
        | {"batch_size": 4, "views_per_epoch": 16, "max_epochs": 1, "flat_epochs": 1, "decay_epochs": 1},
        {"encoder_epochs": LONG, "encoder_flat_epochs": 1, "encoder_decay_epochs": LONG - 1},
        "encoder",
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Discs in lung for both kinds of reader."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    n, edge = 200, 24
    rating = np.tile([1, 2, 3, 4, 5], 40).astype(np.int8)
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    disc = np.hypot(rows, columns) < 1.5 * rating[:, None, None]
    hounsfield = (np.where(disc, 30, -850) + rng.integers(-50, 50, (n, edge, edge))).astype(np.int16)
    patients, spacing = np.repeat([f"P{i:02d}" for i in range(40)], 5), np.full(n, 0.6, np.float32)
    rated = {"hu": hounsfield, "malignancy": rating, "patient": patients, "pixel_spacing_mm": spacing}
    np.savez(folder / "nodules.npz", **rated)
    image = rng.integers(20, 60, (60, 20, 20)).astype(np.uint8)
    image[40:, 8:12, 8:12] += rng.integers(90, 190, (20, 4, 4)).astype(np.uint8)
    np.savez(folder / "patches.npz", image=image, is_nodule=np.repeat([0, 1], [40, 20]))
    return folder


def command(stage, data, folder, **settings):
    archive = data / ("patches.npz" if stage == "anomaly_train" else "nodules.npz")
    given = {"dataset_dir": archive, "output_dir": folder, "device": "cpu", **settings}
    words = [word for name, value in given.items() for word in (f"--{name}", "null" if value is None else str(value))]
    return [sys.executable, "-W", "ignore", "-m", "medical_gans", "lung_nodule", stage, *words]


@pytest.mark.parametrize("stage", PLANS)
def test_a_killed_run_goes_on_bit_for_bit(data, tmp_path, stage):
    settings, plan, inner = PLANS[stage]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command(stage, data, tmp_path / "whole", **settings, **plan), check=True, **run)
    checkpoint = tmp_path / "killed" / inner / "checkpoint.pt"
    with subprocess.Popen(command(stage, data, tmp_path / "killed", **settings, **plan), **run) as process:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed/report.html").exists() and process.returncode == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["counters"]["epoch"] < LONG
    subprocess.run(command(stage, data, tmp_path / "killed", **settings, **plan, resume=True), check=True, **run)
    whole, killed = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
