"""Promises of the training command: one config runs alone, resumes, and runs on several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medical_gans.cli.command import main

ROOT = Path(__file__).parents[1]
CONFIGS = f"['{ROOT}/configs/mr_to_ct_train.yaml','{ROOT}/configs/smoke.yaml']"


def _write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])), path)


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    """Two folders, mr/ and ct/, of different patients: ellipses with a dark or bright bone."""
    folder = tmp_path_factory.mktemp("unpaired")
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in (48, 40, 8)], indexing="ij")
    rng = np.random.default_rng(0)
    for n in range(4):
        body, bone = x**2 + y**2 < 0.7 + 0.02 * n, (x - 0.1 * n) ** 2 + y**2 < 0.05
        noise = rng.integers(0, 9, x.shape)
        if n < 2:
            _write(folder / "mr" / f"m{n}.nii.gz", np.where(bone, 30, np.where(body, 500, 0)) + noise)
        else:
            _write(folder / "ct" / f"c{n}.nii.gz", np.where(bone, 900, np.where(body, 40, -1000)) + noise)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in (48, 40, 8)], indexing="ij")
    for split, n in (("training", 0), ("training", 1), ("validation", 2)):
        body, bone = x**2 + y**2 < 0.7 + 0.02 * n, (x - 0.1 * n) ** 2 + y**2 < 0.05
        case = folder / split / f"P{n:02d}"
        _write(case / "mr.nii.gz", np.where(bone, 30, np.where(body, 500, 0)))
        _write(case / "ct.nii.gz", np.where(bone, 900, np.where(body, 40, -1000)))
        _write(case / "mask.nii.gz", body)
    return folder


def train(*arguments):
    return main(["mr_to_ct", "train", "--config_file", "smoke", *map(str, arguments)])


def test_two_folders_train_and_leave_weights_with_their_card(unpaired, tmp_path):
    assert train("--dataset_dir", unpaired, "--output_dir", tmp_path / "run") == 0
    weights = torch.load(tmp_path / "run/model.pt", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in weights.values())
    card = json.loads((tmp_path / "run/model.json").read_text())
    assert card["spacing"] == [1.0, 1.0, None]
    assert card["network_def"]["width"] == 4
    assert card["fingerprint"]["modality"] == "MR"


def test_paired_patients_are_validated_and_trained_by_one_setting(pairs, tmp_path):
    assert train("--dataset_dir", pairs, "--output_dir", tmp_path / "run", "--paired", "true") == 0
    log = (tmp_path / "run/losses.csv").read_text()
    assert "paired" in log
    assert "mae" in log
    assert "cycle_mr" not in log


@pytest.mark.parametrize(
    "settings", [["--adjacent", "3"], ["--plane", "sagittal"], ["--spatial_dims", "3", "--crop_size", "[32,32,8]"]]
)
def test_slices_in_any_plane_stacks_and_blocks_train(unpaired, tmp_path, settings):
    assert train("--dataset_dir", unpaired, "--output_dir", tmp_path / "run", *settings) == 0


def test_a_finished_run_is_continued_only_when_asked(unpaired, tmp_path, capsys):
    arguments = ["--dataset_dir", unpaired, "--output_dir", tmp_path / "run"]
    assert train(*arguments) == 0
    assert train(*arguments) == 2
    assert "--resume true" in capsys.readouterr().err
    assert train(*arguments, "--resume", "true", "--max_epochs", 2) == 0
    assert "\n2," in (tmp_path / "run/losses.csv").read_text()


@pytest.mark.parametrize("side", ["mr", "ct"])
def test_an_empty_side_is_said_before_anything_is_written(unpaired, tmp_path, side, capsys):
    data = tmp_path / "data"
    for kind in ("mr", "ct"):
        (data / kind).mkdir(parents=True)
        if kind != side:
            for file in (unpaired / kind).iterdir():
                (data / kind / file.name).write_bytes(file.read_bytes())
    assert train("--dataset_dir", data, "--output_dir", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert side.upper() in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_a_pair_on_two_grids_is_refused_by_name(pairs, tmp_path, capsys):
    data = tmp_path / "data"
    for file in pairs.rglob("*.nii.gz"):
        target = data / file.relative_to(pairs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    _write(data / "training/P01/ct.nii.gz", np.pad(np.full((30, 30, 6), 40), 2, constant_values=-1000))
    assert train("--dataset_dir", data, "--output_dir", tmp_path / "run", "--paired", "true") == 2
    assert "P01" in capsys.readouterr().err


def test_the_bundle_command_runs_the_config_and_has_all_properties(unpaired, tmp_path):
    script = (
        "from monai.bundle import ConfigWorkflow\n"
        f"workflow = ConfigWorkflow({CONFIGS}, workflow_type='train', dataset_dir={str(unpaired)!r},"
        f" output_dir={str(tmp_path / 'run')!r})\n"
        "workflow.initialize()\n"
        "assert workflow.check_properties() == [], workflow.check_properties()\n"
        "workflow.run()\nworkflow.finalize()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "run/model.pt").exists()


def test_torchrun_with_the_overlay_trains_on_two_processes(unpaired, tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
        *("-m", "medical_gans", "mr_to_ct", "train", "--config_file", "smoke", "--config_file", "multi_gpu"),
        *("--dataset_dir", str(unpaired), "--output_dir", str(tmp_path / "run"), "--device", "cpu", "--workers", "0"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "run/model.pt").exists()
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["counters"]["iteration"] == 2  # four views, two processes, one each per step
