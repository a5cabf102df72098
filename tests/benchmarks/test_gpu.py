"""The GPU benchmark runs on a CPU with tiny networks, so that it runs at once where there is a GPU."""

import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
SPEC = importlib.util.spec_from_file_location("gpu_benchmark", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)
CPU = torch.device("cpu")


@pytest.mark.parametrize("workflow", benchmark.WORKFLOWS)
def test_each_workflow_trains_and_tells_how_fast(workflow):
    torch.manual_seed(0)
    figure = benchmark.training(workflow, CPU, "float32", 2, True, 1e12)
    assert figure["batch"] in {one["batch"] for one in figure["tried"]}
    assert figure["images_per_second"] == pytest.approx(figure["batch"] * 1000 / figure["milliseconds_per_step"])
    assert 0 < figure["share_of_ceiling"] < 1


def test_inference_tells_its_precision_and_the_share_of_the_network():
    figure = benchmark.inference(CPU, False, (32, 40, 24), True)
    assert figure["precision"] == "float32"
    assert 0 < figure["network_share"] <= 1


def test_the_ceiling_is_a_rate_of_the_device():
    assert 1e8 < benchmark.ceiling(CPU, torch.float32, True) < 1e15
