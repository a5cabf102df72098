"""The scaling benchmark measures what it says."""

import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
SPEC = importlib.util.spec_from_file_location("scaling_benchmark", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


def test_a_volume_is_timed_and_its_memory_told():
    found = benchmark.one_volume((64, 72, 10))
    assert found["seconds"] > 0
    assert found["added_mib"] >= 0
    assert found["voxels_mib"] == pytest.approx(64 * 72 * 10 / 2**20)


def test_the_comparison_with_monai_is_a_ratio():
    ratio, spread = benchmark.against_monai((64, 72, 6), 1)
    assert ratio > 0
    assert spread == 0


def test_each_number_of_slices_is_timed_on_each_number_of_threads():
    threads = torch.get_num_threads()
    try:
        best = benchmark.slices_over_threads((64, 72, 6), 0)
    finally:
        torch.set_num_threads(threads)
    assert {(slices, count) for slices in (1, 2, 4, 8) for count in (1, 2)} <= set(best)
    assert all(wall > 0 and processor > 0 for wall, processor in best.values())


def test_every_slice_of_the_head_shows_as_much():
    made = benchmark.head((40, 48, 5))
    filled = (made > 0).sum((0, 1))
    assert (filled == filled[0]).all()
    assert 0.6 < filled[0] / (40 * 48) < 0.8
