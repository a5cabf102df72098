"""Parts of lung_nodule that an overlay of a few lines replaces: they train, and their card is enough to use them."""

import csv
import json

import foreign_parts
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from medical_gans.cli.command import main
from medical_gans.cli.config_files import configs_dir, read_config
from medical_gans.io.nodules import read_patch
from medical_gans.weights import load_network

SMOKE = {"max_epochs": 1, "views_per_epoch": 16, "batch_size": 8, "size": 16}


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
    patients = np.repeat([f"P{i:02d}" for i in range(40)], 5)
    spacing = np.full(n, 0.6, np.float32)
    np.savez(path, hu=hounsfield.astype(np.int16), malignancy=rating, patient=patients, pixel_spacing_mm=spacing)
    return path


@pytest.fixture(scope="module")
def lung(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("patches") / "patches.npz"
    image = rng.integers(20, 60, (60, 20, 20)).astype(np.uint8)
    image[40:, 8:12, 8:12] += rng.integers(90, 190, (20, 4, 4)).astype(np.uint8)
    np.savez(path, image=image, is_nodule=np.repeat([0, 1], [40, 20]))
    return path


def run(stage, folder, overlay="", **settings):
    """Run a stage with an overlay; what it built."""
    assert len(overlay.strip().splitlines()) <= 8
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(overlay or "{}")
    assert not overlay or read_config(file)
    workflow = ConfigWorkflow(
        config_file=[str(configs_dir() / f"lung_nodule_{stage}.yaml"), *([str(file)] if overlay else [])],
        meta_file=str(configs_dir() / "metadata.json"),
        logging_file=False,
        workflow_type="train" if "train" in stage else "infer",
        output_dir=str(folder),
        **settings,
    )
    workflow.initialize()
    workflow.run()
    return workflow.parser


def train(archive, folder, overlay="", **settings):
    small = {"width": 2, "discriminator_width": 2} if "network_def:" not in overlay else {}
    given = {**SMOKE, "dataset_dir": str(archive), "features": "$None", **small}  # MONAI drops None
    return run("train", folder, overlay, **given, **settings)


def losses_of(folder):
    with (folder / "losses.csv").open() as file:
        return {row["name"]: float(row["value"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def shipped(archive, tmp_path_factory):
    """A run without any swap."""
    folder = tmp_path_factory.mktemp("shipped") / "run"
    train(archive, folder)
    return folder


def test_another_network_is_trained_and_its_weights_alone_make_nodules(archive, tmp_path):
    overlay = """
num_classes: 0
network_def: {_target_: monai.networks.nets.Generator, latent_shape: ["@latent_size"], start_shape: [8, 4, 4],
              channels: [8, 1], strides: [2, 2]}
discriminator_def: {_target_: monai.networks.nets.Critic, in_shape: [1, 16, 16], channels: [4, 8], strides: [2, 2]}
"""
    parser = train(archive, tmp_path / "run", overlay)
    method = parser.get_parsed_content("train#method")
    assert type(method.shipped).__module__ == "monai.networks.nets.generator"
    assert type(method.players["discriminator"]["discriminator"]).__name__ == "Critic"
    weights = tmp_path / "run/model.pt"
    assert json.loads(weights.with_suffix(".json").read_text())["network_def"]["channels"] == [8, 1]
    words = ["--weights", str(weights), "--malignancy", "null", "--num_samples", "2"]
    assert main(["lung_nodule", "inference", *words, "--output_dir", str(tmp_path / "made")]) == 0
    assert read_patch(next((tmp_path / "made/nodules").iterdir()))[0].shape == (16, 16)
    assert type(load_network(weights)).__name__ == "Generator"


def test_other_arguments_of_the_network_reach_the_card(archive, tmp_path):
    train(archive, tmp_path / "run", "network_def#noise: false\nnetwork_def#upsampling: nearest")
    network = load_network(tmp_path / "run/model.pt")
    assert network.last.in_channels == 2 and network.blocks[0].noise is None and not network.blocks[0].smooth


def test_another_optimiser_moves_the_generator(archive, tmp_path, shipped):
    overlay = """
train#generator#optimizer: {_target_: torch.optim.SGD, _mode_: callable, lr: "@learning_rate", momentum: 0.9}
train#generator#schedule: {_target_: torch.optim.lr_scheduler.ExponentialLR, _mode_: callable, gamma: 0.5}
"""
    player = train(archive, tmp_path / "run", overlay).get_parsed_content("train#generator")
    assert type(player.optimizer) is torch.optim.SGD
    assert player.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    ours, theirs = (torch.load(folder / "model.pt", weights_only=True) for folder in (tmp_path / "run", shipped))
    assert not torch.equal(ours["last.weight"], theirs["last.weight"])


def test_another_loss_gives_other_numbers(archive, tmp_path, shipped):
    overlay = """
train#losses#adversarial: {_target_: medical_gans.losses.adversarial_objective, name: hinge}
train#losses#penalty: {_target_: medical_gans.losses.GradientPenalty}
"""
    method = train(archive, tmp_path / "run", overlay).get_parsed_content("train#method")
    assert method.objective.name == "hinge" and type(method.penalty).__name__ == "GradientPenalty"
    ours, theirs = losses_of(tmp_path / "run"), losses_of(shipped)
    assert abs(ours["discriminator"] - theirs["discriminator"]) > 0.1


def test_an_added_transform_changes_what_is_seen(archive, tmp_path):
    overlay = """
augmentation:
  _target_: Compose
  transforms:
    - {_target_: RandFlipd, keys: image, prob: 0.5, spatial_axis: 1}
    - {_target_: RandGaussianNoised, keys: image, prob: 1.0, std: 0.2}
"""
    views = train(archive, tmp_path / "run", overlay).get_parsed_content("train#dataset")
    assert type(views.augmentation.transforms[1]).__name__ == "RandGaussianNoised"
    seen = views[3]["image"]
    assert torch.equal(seen, views[3]["image"])  # noise as well follows from seed, epoch and index
    apart = (views.images - seen).abs().flatten(1).mean(1).min()
    assert 0.05 < apart < 0.3


def test_another_inferer_makes_the_nodules(shipped, tmp_path):
    overlay = "inferer: {_target_: foreign_parts.Darker}"
    given = {"weights": str(shipped / "model.pt"), "num_samples": 3}
    run("inference", tmp_path / "plain", **given)
    before = foreign_parts.Darker.calls
    parser = run("inference", tmp_path / "darker", overlay, **given)
    assert type(parser.get_parsed_content("sampler").inferer) is foreign_parts.Darker
    assert foreign_parts.Darker.calls == before + 3
    for plain, darker in zip(
        *(sorted((tmp_path / n / "nodules").glob("*.nii.gz")) for n in ("plain", "darker")), strict=True
    ):
        assert (read_patch(plain)[0] - read_patch(darker)[0]).max() == pytest.approx(70, abs=1)


def test_an_added_handler_is_called(archive, tmp_path):
    overlay = """
+train#handlers:
  - _target_: monai.handlers.TensorBoardStatsHandler
    log_dir: "$str(Path(@output_dir) / 'stats')"
    output_transform: "$monai.handlers.from_engine(['loss'], first=True)"
"""
    trainer = train(archive, tmp_path / "run", overlay).get_parsed_content("train#trainer")
    assert type(trainer.handlers[-2]).__name__ == "TensorBoardStatsHandler"  # checkpoints come last
    assert next((tmp_path / "run/stats").glob("events.*")).stat().st_size > 100
    assert (tmp_path / "run/checkpoint.pt").is_file()


def test_parts_of_the_anomaly_detector_are_swapped_trained_and_used(lung, tmp_path):
    overlay = """
network_def#encoder: {_target_: monai.networks.nets.Regressor, in_shape: [1, 16, 16], out_shape: ["@latent_size"],
                      channels: [2, 4], strides: [2, 2]}
train#losses#image: {_target_: torch.nn.L1Loss}
train#encoder#optimizer: {_target_: torch.optim.AdamW, _mode_: callable, lr: "@encoder_learning_rate"}
"""
    small = {"size": 16, "width": 2, "latent_size": 4, "critic_width": 2, "critic_steps": 1, "batch_size": 4}
    short = {"views_per_epoch": 8, "max_epochs": 1, "encoder_epochs": 1, "dataset_dir": str(lung)}
    parser = run("anomaly_train", tmp_path / "run", overlay, **small, **short)
    method = parser.get_parsed_content("train#encoder_method")
    assert type(method.players["encoder"].optimizer) is torch.optim.AdamW
    assert type(method.losses["image"]) is torch.nn.L1Loss
    weights = tmp_path / "run/model.pt"
    assert type(load_network(weights).encoder).__name__ == "Regressor"
    inferer = "inferer: {_target_: SlidingWindowInferer, roi_size: [16, 16], sw_batch_size: 4, overlap: 0.5}"
    given = {"weights": str(weights), "dataset_dir": str(lung), "maps": False}
    parser = run("anomaly", tmp_path / "scores", inferer, **given)
    assert type(parser.get_parsed_content("evaluator").inferer).__name__ == "SlidingWindowInferer"
    assert (tmp_path / "scores/scores.csv").is_file()
