"""One command makes a study, and analyses it."""

import json
from pathlib import Path

import numpy as np
import pytest
from turing_test.studies import answers_file, truthful

from medical_gans.cli.command import main

NETWORK = {
    "preset": "resnet",
    "spatial_dims": 2,
    "size": 16,
    "latent_size": 8,
    "num_classes": 3,
    "width": 2,
    "upsampling": "linear",
    "noise": True,
}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """A data set of 60 patients and the weights of a generator that was never trained."""
    from medical_gans.networks import nodule_generator
    from medical_gans.weights import WeightsCard, save_weights

    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "nodules.npz",
        hu=rng.integers(-1000, 400, (60, 20, 20)).astype(np.int16),
        malignancy=(1 + np.arange(60) % 5).astype(np.int8),
        patient=np.array([f"PATIENT-{index}" for index in range(60)]),
        pixel_spacing_mm=np.full(60, 0.6),
    )
    save_weights(folder / "model.pt", nodule_generator(**NETWORK))
    card = WeightsCard(
        [0.6, 0.6],
        network_def={"_target_": "medical_gans.networks.nodule_generator", **NETWORK},
        classes=("benign", "malignant", "indeterminate"),
        window=(-1000, 400),
    )
    card.save(folder / "model.pt")
    return folder


def command(stage="turing_test", **settings) -> int:
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return main(["lung_nodule", stage, *words])


def test_a_study_is_made_by_the_sizes_of_the_weights_and_analysed(given, tmp_path):
    study = tmp_path / "study"
    made = command(
        dataset_dir=given / "nodules.npz",
        weights=given / "model.pt",
        output_dir=study,
        num_real=4,
        num_generated=6,
        second_window="[-160,240]",
        seed=7,
    )
    assert made == 0
    key = json.loads((study / "key.json").read_text())
    assert sum(image["truth"] == "generated" for image in key["images"]) == 6
    manifest = json.loads((study / "manifest.json").read_text())
    assert set(manifest["weights"]) == {"model.pt"} and set(manifest["inputs"]) == {"nodules.npz"}
    answers_file(tmp_path / "answers" / "a.json", key, truthful(key))
    analysed = command(
        analyse=tmp_path / "answers" / "*.json", key=study / "key.json", output_dir=tmp_path / "analysis"
    )
    assert analysed == 0
    found = json.loads((tmp_path / "analysis" / "figures.json").read_text())
    assert {row["value"] for row in found["figures"] if row["figure"] == "accuracy"} == {1.0}


def test_what_inference_wrote_can_be_shown(given, tmp_path):
    made = command("inference", weights=given / "model.pt", output_dir=tmp_path / "made", num_samples=6)
    assert made == 0
    study = {"generated": tmp_path / "made", "num_real": 4, "num_generated": 4, "size": NETWORK["size"]}
    assert command(dataset_dir=given / "nodules.npz", output_dir=tmp_path / "study", **study) == 0
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    sources = {image["source"] for image in key["images"] if image["truth"] == "generated"}
    assert len(sources) == 4 and all((tmp_path / "made" / source).is_file() for source in sources)
    assert json.loads((tmp_path / "study" / "manifest.json").read_text())["weights"] == {}


def test_without_a_data_set_or_answers_the_command_says_what_it_needs(capsys):
    assert command() == 2
    error = capsys.readouterr().err
    assert "--dataset_dir" in error and "--analyse" in error


def test_an_analysis_without_a_key_says_so(tmp_path, capsys):
    assert command(analyse=tmp_path, output_dir=tmp_path / "analysis") == 2
    assert "--key" in capsys.readouterr().err
    assert not (tmp_path / "analysis").exists()
