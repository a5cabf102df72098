"""Promises of weights gathered in one file: the mean of theirs from the probability that was asked, with a card."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from medical_gans.errors import InputError
from medical_gans.weights import WeightsCard, build_network, load_network, save_weights

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lesion_ensemble.py"
UNET = {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2}
UNET |= {"channels": [2, 4], "strides": [2], "norm": "batch"}


def trained(folder, seed, spacing=2.0):
    torch.manual_seed(seed)
    file = folder / f"{seed}.pt"
    save_weights(file, build_network(UNET))
    WeightsCard([spacing] * 3, network_def=UNET, classes=["background", "lesion"], channels=["FLAIR"]).save(file)
    return file


@pytest.fixture
def gather(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("lesion_ensemble", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(files, threshold):
        words = ["--weights", *files, "--threshold", threshold, "--output", tmp_path / "model.pt"]
        monkeypatch.setattr(sys, "argv", ["lesion_ensemble.py", *map(str, words)])
        module.main()
        return tmp_path / "model.pt"

    return run


def test_the_file_says_the_mean_of_both_sides_from_the_threshold_on(gather, tmp_path):
    files = [trained(tmp_path, seed) for seed in range(2)]
    made = gather(files, 0.7)
    images = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        each = [net for net in map(load_network, files)]
        mean = sum(net(images) + net(images.flip(2)).flip(2) for net in each) / 4
        assert torch.equal(load_network(made)(images).argmax(1) == 1, mean.softmax(1)[:, 1] > 0.7)
    card = WeightsCard.of(made)
    assert card.channels == ["FLAIR"] and card.spacing == [2.0] * 3 and card.classes == ["background", "lesion"]


def test_weights_of_other_grids_are_refused(gather, tmp_path):
    with pytest.raises(InputError, match="differ in spacing"):
        gather([trained(tmp_path, 0), trained(tmp_path, 1, spacing=3.0)], 0.5)


def test_a_threshold_that_is_no_probability_is_refused(gather, tmp_path, capsys):
    with pytest.raises(SystemExit):
        gather([trained(tmp_path, 0)], 1.0)
    assert "between 0 and 1" in capsys.readouterr().err
