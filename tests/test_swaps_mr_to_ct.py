"""Every part of mr_to_ct can be replaced from an overlay of a few lines, and the replacement is what works."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow

from medical_gans.cli.command import main
from medical_gans.cli.config_files import configs_dir
from medical_gans.weights import load_network


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two MR and two CT of different patients."""
    folder = tmp_path_factory.mktemp("unpaired")
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in (48, 40, 8)], indexing="ij")
    for n in range(4):
        body, bone = x**2 + y**2 < 0.7 + 0.02 * n, (x - 0.1 * n) ** 2 + y**2 < 0.05
        noise = np.random.default_rng(n).integers(0, 9, x.shape)
        kind, levels = ("mr", (30, 500, 0)) if n < 2 else ("ct", (900, 40, -1000))
        array = np.where(bone, levels[0], np.where(body, levels[1], levels[2])) + noise
        path = folder / kind / f"{kind}{n}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])), path)
    return folder


def trained(data: Path, folder: Path, overlay: str = "") -> ConfigWorkflow:
    """A workflow that has trained for a few steps with an overlay, to look at what it was made of."""
    assert len(overlay.strip().splitlines()) <= 8
    folder.mkdir()
    (folder / "overlay.yaml").write_text(overlay or "max_epochs: 1\n")
    names = [configs_dir() / "mr_to_ct_train.yaml", configs_dir() / "smoke.yaml", folder / "overlay.yaml"]
    workflow = ConfigWorkflow(
        [str(name) for name in names],
        meta_file=str(configs_dir() / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        dataset_dir=str(data),
        output_dir=str(folder / "run"),
        device="cpu",
    )
    workflow.initialize()
    workflow.run()
    return workflow


def synthetic_ct(data: Path, weights: Path, folder: Path, *words: str) -> np.ndarray:
    """HU that the inference command makes with these weights and nothing else said about the network."""
    source = next((data / "mr").iterdir())
    given = ["--dataset_dir", source, "--output_dir", folder, "--weights", weights, "--device", "cpu", *words]
    assert main(["mr_to_ct", "inference", *map(str, given)]) == 0
    return np.asarray(nibabel.load(next(folder.rglob("synthetic_ct.nii.gz"))).dataobj)


def part(workflow: ConfigWorkflow, name: str):
    return workflow.parser.get_parsed_content(name)


def losses(folder: Path) -> dict[str, float]:
    rows = [line.split(",") for line in (folder / "run/losses.csv").read_text().splitlines()[1:]]
    return {name: float(value) for _, name, value in rows}


@pytest.fixture(scope="module")
def usual(data, tmp_path_factory) -> Path:
    """Folder of a run as it is shipped."""
    folder = tmp_path_factory.mktemp("usual") / "a"
    trained(data, folder)
    return folder


def test_another_network_is_trained_and_rebuilt_from_its_card_alone(data, usual, tmp_path):
    overlay = """\
network_def:
  _target_: monai.networks.nets.BasicUNet
  spatial_dims: 2
  out_channels: 1
  features: [4, 4, 8, 8, 8, 4]
"""
    workflow = trained(data, tmp_path / "a", overlay)
    assert type(part(workflow, "train#generators")["mr_to_ct"]).__name__ == "BasicUNet"
    card = json.loads((tmp_path / "a/run/model.json").read_text())
    assert card["network_def"] == yaml.safe_load(overlay)["network_def"]
    loaded = load_network(tmp_path / "a/run/model.pt")
    assert type(loaded).__name__ == "BasicUNet"
    made = synthetic_ct(data, tmp_path / "a/run/model.pt", tmp_path / "out")
    assert made.std() > 1
    assert (made != synthetic_ct(data, usual / "run/model.pt", tmp_path / "usual")).any()


def test_another_optimiser_moves_the_weights_otherwise(data, usual, tmp_path):
    overlay = """\
train#generators#optimizer:
  _target_: torch.optim.SGD
  _mode_: callable
  lr: 1.0e-3
"""
    workflow = trained(data, tmp_path / "a", overlay)
    assert isinstance(part(workflow, "train#generators").optimizer, torch.optim.SGD)
    weights = [torch.load(folder / "run/model.pt", weights_only=True) for folder in (usual, tmp_path / "a")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    synthetic_ct(data, tmp_path / "a/run/model.pt", tmp_path / "out")


def test_another_loss_is_minimised(data, usual, tmp_path):
    overlay = """\
train#losses#cycle:
  _target_: torch.nn.SmoothL1Loss
  beta: 0.5
"""
    workflow = trained(data, tmp_path / "a", overlay)
    assert isinstance(part(workflow, "train#method").losses["cycle"], torch.nn.SmoothL1Loss)
    assert losses(tmp_path / "a")["cycle_mr"] < 0.9 * losses(usual)["cycle_mr"]
    synthetic_ct(data, tmp_path / "a/run/model.pt", tmp_path / "out")


def test_an_added_transform_acts_in_training_and_in_inference(data, usual, tmp_path):
    overlay = """\
+preprocessing#transforms:
  - {_target_: GaussianSmoothd, keys: image, sigma: 3.0, allow_missing_keys: true}
"""
    workflow = trained(data, tmp_path / "a", overlay)
    assert type(part(workflow, "preprocessing").transforms[-1]).__name__ == "GaussianSmoothd"
    sharp, smooth = (part_of_training(folder) for folder in (usual, tmp_path / "a"))
    assert smooth.std() < 0.95 * sharp.std()
    weights, overlays = tmp_path / "a/run/model.pt", ("--config_file", tmp_path / "a/overlay.yaml")
    with_it = synthetic_ct(data, weights, tmp_path / "with", *overlays)
    assert (with_it != synthetic_ct(data, weights, tmp_path / "without")).any()


def part_of_training(folder: Path) -> np.ndarray:
    """A prepared MR of a run."""
    return np.load(next((folder / "run/cache").glob("mr0_mr_*.npy")))


def test_another_inferer_takes_the_slices_through_the_generator(data, usual, tmp_path):
    overlay = """\
inferer:
  _target_: monai.inferers.SlidingWindowInferer
  roi_size: [16, 16]
  sw_batch_size: 4
  overlap: 0.0
"""
    (tmp_path / "overlay.yaml").write_text(overlay)
    weights = usual / "run/model.pt"
    tiled = synthetic_ct(data, weights, tmp_path / "tiled", "--config_file", tmp_path / "overlay.yaml")
    whole = synthetic_ct(data, weights, tmp_path / "whole")
    assert tiled.shape == whole.shape and (tiled != whole).any()
    workflow = trained(data, tmp_path / "a", f"train#{overlay}")
    assert type(part(workflow, "train#inferer")).__name__ == "SlidingWindowInferer"


def test_handlers_of_monai_and_ignite_work_beside_ours(data, tmp_path):
    overlay = """\
max_epochs: 3
+train#handlers:
  - _target_: monai.handlers.TensorBoardStatsHandler
    log_dir: "$str(Path(@output_dir) / 'monai')"
    output_transform: {_target_: monai.handlers.from_engine, keys: loss, first: true}
  - _target_: ignite.handlers.EpochOutputStore
    output_transform: {_target_: monai.handlers.from_engine, keys: loss, first: true}
"""
    workflow = trained(data, tmp_path / "a", overlay)
    trainer = part(workflow, "train#trainer")
    assert [type(handler).__name__ for handler in trainer.handlers[-3:]] == [
        "TensorBoardStatsHandler",
        "EpochOutputStore",
        "Checkpoints",  # always last, so that it keeps what the others did
    ]
    assert list((tmp_path / "a/run/monai").glob("events*"))
    assert len(trainer.handlers[-2].data) == 4  # steps of the last epoch
    assert losses(tmp_path / "a")


def test_what_an_overlay_leaves_without_a_reader_may_stay_but_not_be_set(data, tmp_path, capsys):
    (tmp_path / "overlay.yaml").write_text(
        "train#generators#schedule: null\ntrain#discriminators#schedule: null\nmax_epochs: 1\n"
    )
    words = ["--dataset_dir", data, "--output_dir", tmp_path / "a", "--config_file", "smoke"]
    words += ["--config_file", tmp_path / "overlay.yaml"]
    assert main(["mr_to_ct", "train", *map(str, words)]) == 0
    words[3] = tmp_path / "b"
    assert main(["mr_to_ct", "train", *map(str, words), "--decay_epochs", "7"]) == 2
    assert "nothing reads the setting 'decay_epochs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    [
        ("optimizer: {_target_: torch.optim.AdamW, lr: 0.1}", "unknown setting 'optimizer'"),
        ("train#preprocessing: {_target_: Compose, transforms: []}", "unknown setting 'train#preprocessing'"),
        ("train#inferer: {_target_: monai.inferers.SlideInferer}", "did you mean 'SliceInferer'?"),
        ("network_def: {_target_: torch.hub.load, path: x}", "names torch.hub.load, which a card may not"),
    ],
)
def test_a_part_that_would_do_nothing_is_refused_before_anything_is_written(data, tmp_path, capsys, overlay, sentence):
    (tmp_path / "overlay.yaml").write_text(overlay + "\n")
    words = ["--dataset_dir", data, "--output_dir", tmp_path / "a", "--config_file", tmp_path / "overlay.yaml"]
    assert main(["mr_to_ct", "train", *map(str, words)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_network_that_does_not_fit_is_said_in_words(data, tmp_path, capsys):
    overlay = "network_def: {_target_: monai.networks.nets.BasicUNet, spatial_dims: 2, features: [4, 4, 8, 8, 8, 4]}\n"
    (tmp_path / "overlay.yaml").write_text(overlay)
    words = ["--dataset_dir", data, "--output_dir", tmp_path / "a", "--config_file", "smoke"]
    assert main(["mr_to_ct", "train", *map(str, words), "--config_file", str(tmp_path / "overlay.yaml")]) == 2
    assert "networks do not fit each other" in capsys.readouterr().err
