"""Promises of the training of brain_lesion: source alone, adapted, translated; resumed; and bad input named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medical_gans.cli.command import main
from medical_gans.io import save_volume
from medical_gans.networks import FeatureTaps
from medical_gans.weights import build_network, load_network

ROOT = Path(__file__).parents[1]
SHAPE = (24, 26, 20)


def write_cases(folder, sequences, number=2, labels=True):
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in SHAPE), indexing="ij"))
    inside = (place**2).sum(0) < 1
    for index in range(number):
        case = folder / f"case{index}"
        case.mkdir(parents=True)
        lesion = np.zeros(SHAPE, np.uint8)
        corner = 8 + index
        lesion[corner : corner + 5, 9:14, 7:12] = 1
        for name in sequences:
            image = np.where(inside, 100 + 10 * rng.standard_normal(SHAPE) + 60 * lesion, 0)
            save_volume(case / f"{name}.nii.gz", image.astype(np.float32), np.eye(4))
        if labels:
            save_volume(case / "lesion.nii.gz", lesion, np.eye(4))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("lesions")
    write_cases(root / "source", ["FLAIR", "GRE"])
    write_cases(root / "target", ["FLAIR", "SWI"], labels=False)
    return root


def train(*arguments):
    return main(["brain_lesion", "train", "--config_file", "smoke_brain_lesion", *map(str, arguments)])


def test_a_source_alone_trains_and_leaves_weights_with_their_card(data, tmp_path):
    assert train("--dataset_dir", data / "source", "--output_dir", tmp_path / "run") == 0
    card = json.loads((tmp_path / "run/model.json").read_text())
    assert card["channels"] == ["FLAIR"] and card["target_channels"] == []
    assert card["classes"] == ["background", "lesion"]
    assert card["patch_size"] == [16, 16, 16]
    load_network(tmp_path / "run/model.pt")
    assert "domain" not in (tmp_path / "run/losses.csv").read_text()


def test_an_adapted_run_logs_the_game_and_looks_at_both_domains(data, tmp_path):
    words = ["--channels", "[FLAIR,GRE]", "--target_channels", "[FLAIR,SWI]", "--ramp_epochs", "[0,1]"]
    words += ["--self_training_weight", "0.1", "--confidence", "0.5", "--target_dir", data / "target"]
    assert train("--dataset_dir", data / "source", "--output_dir", tmp_path / "run", *words) == 0
    logged = (tmp_path / "run/losses.csv").read_text()
    assert all(name in logged for name in ("segmentation", "domain_accuracy", "alpha"))
    card = json.loads((tmp_path / "run/model.json").read_text())
    assert card["channels"] == ["FLAIR", "GRE"] and card["target_channels"] == ["FLAIR", "SWI"]
    assert (tmp_path / "run/pictures/epoch_0001.png").exists()


def test_a_run_in_two_parts_equals_a_run_in_one(data, tmp_path):
    words = ["--dataset_dir", data / "source", "--target_dir", data / "target", "--ramp_epochs", "[0,1]"]
    words += ["--flat_epochs", "1", "--decay_epochs", "1"]
    assert train(*words, "--max_epochs", "2", "--output_dir", tmp_path / "whole") == 0
    assert train(*words, "--max_epochs", "1", "--output_dir", tmp_path / "parts") == 0
    assert train(*words, "--max_epochs", "2", "--resume", "true", "--output_dir", tmp_path / "parts") == 0
    whole, parts = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_domain_classifier_that_has_won_stops_the_run_with_a_sentence(data, tmp_path, capsys):
    words = ["--dataset_dir", data / "source", "--target_dir", data / "target", "--channels", "[FLAIR,GRE]"]
    words += ["--target_channels", "[FLAIR,SWI]", "--train#handlers#1#every", "1"]
    won = ["patience", "1", "won_loss", "100", "won_accuracy", "-1"]
    won = [word if n % 2 else f"--train#handlers#1#{word}" for n, word in enumerate(won)]
    assert train(*words, *won, "--output_dir", tmp_path / "run") != 0
    assert "The discriminator 'domain' has won" in " ".join(capsys.readouterr().err.split())


def test_images_are_translated_and_taken_by_the_training(data, tmp_path, capsys):
    words = ["--dataset_dir", data / "source", "--target_dir", data / "target", "--channels", "[FLAIR,GRE]"]
    words += ["--target_channels", "[FLAIR,SWI]"]
    small = ["--max_epochs", "1", "--views_per_epoch", "4", "--crop_size", "[16,16]", "--network_def#width", "2"]
    small += ["--reverse_network_def#width", "2", "--discriminator_width", "2", "--spacing", "[null,null,null]"]
    small += ["--network_def#blocks", "1", "--reverse_network_def#blocks", "1"]
    words = [str(word) for word in words]
    assert main(["brain_lesion", "translate", *words, *small, "--output_dir", str(tmp_path / "look")]) == 0
    made = tmp_path / "look" / "translated"
    assert sorted(path.name for path in (made / "case1").iterdir()) == ["FLAIR.nii.gz", "SWI.nii.gz"]
    assert train(*words, "--translated_dir", made, "--output_dir", tmp_path / "run") == 0
    watched = ["every", "1", "patience", "1", "collapse_ratio", "1e6"]
    watched = [word if n % 2 else f"--train#handlers#1#{word}" for n, word in enumerate(watched)]
    assert main(["brain_lesion", "translate", *words, *small, *watched, "--output_dir", str(tmp_path / "dead")]) != 0
    assert "The generator of 'synthetic_target' has collapsed" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "dead" / "translated").exists()
    still = ["--identity_alarm", "true", *watched[:4], "--learning_rate", "1.0e-9"]  # generators start from no change
    assert main(["brain_lesion", "translate", *words, *small, *still, "--output_dir", str(tmp_path / "copy")]) != 0
    assert "The generator of 'synthetic_target' only copies its input" in " ".join(capsys.readouterr().err.split())
    (made / "case1").rename(made / "other")
    assert train(*words, "--translated_dir", made, "--output_dir", tmp_path / "again") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--adversarial_layers", "[model.9]"], "The network has no layer 'model.9'"),
        (["--target_channels", "[FLAIR,SWI]"], "need as many names"),
        (
            ["--channels", "[GRE]", "--target_channels", "[GRE]"],
            "no case with a file named after the sequence GRE",
        ),
        (["--label", "tumour"], "has no label map 'tumour'"),
        (["--network_def#_target_", "monai.networks.nets.UNt"], "has no UNt (did you mean 'UNet'?)"),
        (["--network_def#channels", "[16]"], "UNet does not take these arguments"),
        (["--class_names", "[lesion]"], "class_names needs a name for each"),
        (["--label_groups", "[[2]]"], "holds the labels [1]"),
    ],
)
def test_a_users_mistake_is_named_before_anything_is_written(data, tmp_path, capsys, words, said):
    paths = ["--dataset_dir", data / "source", "--target_dir", data / "target", "--output_dir", tmp_path / "run"]
    assert train(*paths, *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_target_that_is_the_source_or_empty_is_refused(data, tmp_path, capsys):
    assert train("--dataset_dir", data / "source", "--target_dir", data / "source", "--output_dir", tmp_path / "r") == 2
    assert "belongs to the source (case0) and to the target (case0)" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "empty").mkdir()
    assert train("--dataset_dir", data / "source", "--target_dir", tmp_path / "empty", "--output_dir", "r") == 2
    assert "holds no case" in " ".join(capsys.readouterr().err.split())


def test_the_papers_preset_has_the_layers_that_its_discriminator_sees():
    preset = yaml.safe_load((ROOT / "configs/kamnitsas_2017.yaml").read_text())
    network = build_network({**preset["network_def"], "in_channels": 5, "out_channels": 2})
    assert len(FeatureTaps(network, preset["adversarial_layers"]).layers) == 7
    assert sum(p.numel() for p in network.parameters()) > 900_000


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("monai.networks.nets.SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
        (
            "monai.networks.nets.DynUNet",
            {"kernel_size": [3] * 3, "strides": [1, 2, 1], "upsample_kernel_size": [2, 1], "filters": [4, 8, 8]},
        ),
        ("medical_gans.networks.MultiScaleSegmenter", {"channels": [4, 4], "joint_channels": [4], "residual": [2]}),
    ],
)
def test_networks_of_monai_come_by_their_class(target, options):
    shape = {"in_channels": 3, "out_channels": 2, "spatial_dims": 3}
    network = build_network({"_target_": target, **shape, **options}).eval()
    assert network(torch.zeros(1, 3, 12, 12, 12)).shape == (1, 2, 12, 12, 12)


class Killed:
    """A handler that ends its process as a power cut would, in the third step."""

    def attach(self, engine):
        from ignite.engine import Events

        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_bit_for_bit_and_so_does_one_with_a_longer_plan(data, tmp_path):
    """Three epochs at once; the same, killed in the second; and one epoch, continued by a plan of three."""
    overlay = tmp_path / "smaller.yaml"
    kill = f"\n+train#handlers: [{{_target_: {__name__}.Killed}}]\n"
    plan = "train#segmenter#schedule: {_target_: torch.optim.lr_scheduler.LinearLR, _mode_: callable, total_iters: 2}"
    overlay.write_text(plan + kill)
    words = ["--dataset_dir", data / "source", "--target_dir", data / "target", "--ramp_epochs", "[0,1]"]
    words += ["--batch_size", "2", "--self_training_weight", "0.1", "--flat_epochs", "1", "--decay_epochs", "2"]
    words = [str(word) for word in words]
    given = ["brain_lesion", "train", "--config_file", f"smoke_brain_lesion,{overlay}", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-m", "medical_gans", *given, "--max_epochs", "3", "--output_dir", str(tmp_path / "cut")]
    died = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    overlay.write_text(plan)
    go_on = ["--max_epochs", "3", "--resume", "true", "--output_dir"]
    assert main([*given, "--max_epochs", "3", "--output_dir", str(tmp_path / "whole")]) == 0
    assert main([*given, *go_on, str(tmp_path / "cut")]) == 0
    assert main([*given, "--max_epochs", "1", "--output_dir", str(tmp_path / "longer")]) == 0
    assert main([*given, *go_on, str(tmp_path / "longer")]) == 0
    whole, *others = (
        torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "cut", "longer")
    )
    for other in others:
        assert all(torch.equal(whole[name], other[name]) for name in whole)
