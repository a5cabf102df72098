"""The comparison with KonfAI compares the same arithmetic, and says when it cannot be made."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import yaml

from medical_gans.transforms import unit_to_hounsfield

PATH = Path(__file__).parents[2] / "benchmarks" / "beside_konfai.py"
SPEC = importlib.util.spec_from_file_location("beside_konfai", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
sys.path.insert(0, str(PATH.parent))  # as when it is run as a script
SPEC.loader.exec_module(benchmark)
sys.path.remove(str(PATH.parent))


def test_the_network_of_konfai_is_ours_seen_from_the_other_axis(tmp_path):
    benchmark.prepare(tmp_path, (24, 20, 16))
    source: dict = {}
    exec(compile((tmp_path / "Model.py").read_text(), "Model.py", "exec"), source)
    network, weights = source["Generator"](), torch.load(tmp_path / "konfai.pt", weights_only=True)
    named = weights["Model"]["Generator"]
    network.load_state_dict({name.removeprefix("Model."): value for name, value in named.items()})
    ours = benchmark.ResnetGenerator(width=benchmark.WIDTH, blocks=benchmark.BLOCKS)
    ours.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))
    image = torch.rand(1, 1, 24, 20) * 2 - 1
    with torch.no_grad():
        expected = unit_to_hounsfield(ours(image))
        assert torch.allclose(network(image.mT).mT, expected, atol=0.51)


def test_konfai_is_told_the_shape_and_the_scale_of_ours():
    told = benchmark.prediction((176, 256, 200), 800.0, amp=True)["Predictor"]
    assert told["Dataset"]["Patch"]["patch_size"] == [1, 256, 176]
    scale = told["Dataset"]["groups_src"]["MR"]["groups_dest"]["MR"]["transforms"]["Standardize"]
    assert scale["mean"] == scale["std"] == [500.0]
    assert told["autocast"] and yaml.safe_load(yaml.safe_dump(told)) == told


def test_the_peak_memory_is_that_of_the_command_alone(tmp_path):
    held = torch.ones(100 << 20, dtype=torch.uint8)
    code = "import time; held = b'x' * (30 << 20); time.sleep(0.2)"
    seconds, processor, peak = benchmark.measured([sys.executable, "-S", "-c", code], tmp_path)
    assert 0.2 <= seconds < 20 and processor < seconds + 1
    assert 30 < peak < 80 and held.all()
    with pytest.raises(RuntimeError, match="failed"):
        benchmark.measured([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_without_konfai_nothing_is_measured_and_that_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["beside_konfai.py", "--konfai", "no-such-command"])
    benchmark.main()
    assert capsys.readouterr().out.startswith("skipped: there is no command no-such-command")
