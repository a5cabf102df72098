"""Passes beside each other give what passes one after the other do."""

import threading
import time

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.inference.synthesis.side_by_side import in_order
from medical_gans.io import Volume
from medical_gans.networks import BoneGenerator, ResnetGenerator

GENERATORS = {
    "slice by slice": lambda: ResnetGenerator(width=8, blocks=1),
    "three slices": lambda: BoneGenerator(2, 3, 3, widths=(8, 16), blocks=(1, 1)),
}


@pytest.fixture
def threads():
    """Sets the number of torch's threads; as it was, afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _mr(tmp_path) -> Volume:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (44, 52, 21)), indexing="ij", sparse=True)
    texture = np.random.default_rng(0).integers(200, 1000, (44, 52, 21))
    array = (texture * (sum(axis**2 for axis in axes) < 0.8)).astype(np.int16)
    return Volume(array, np.diag([3.0, 3.0, 3.0, 1.0]), tmp_path / "mr.nii.gz")


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("name", GENERATORS)
def test_threads_change_no_hounsfield(tmp_path, threads, name, flips):
    torch.manual_seed(0)
    generators = [GENERATORS[name](), GENERATORS[name]()]
    mr, made = _mr(tmp_path), []
    for count in (1, 3):
        threads(count)
        synthesis = SliceSynthesis(generators, flips=flips)
        made.append(synthesis(mr))
        assert torch.get_num_threads() == count
    assert np.ptp(made[0].hounsfield) > 100
    np.testing.assert_array_equal(made[0].hounsfield, made[1].hounsfield)
    np.testing.assert_array_equal(made[0].standard_deviation, made[1].standard_deviation)


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, images):
        time.sleep(0.05)
        return self.layer(images).tanh()


def test_seconds_in_the_network_are_no_more_than_there_were(tmp_path, threads):
    threads(3)
    synthesis = SliceSynthesis([Slow()], slice_batch=3)
    begin = time.perf_counter()
    made = synthesis(_mr(tmp_path))
    assert 0 < made.network_seconds < time.perf_counter() - begin


def test_passes_are_beside_each_other_on_a_share_of_the_threads(threads):
    threads(4)
    meet = threading.Barrier(2, timeout=20)

    def call() -> int:
        meet.wait()  # one alone would wait for ever
        return torch.get_num_threads()

    assert list(in_order([call] * 4, 2)) == [2] * 4


def test_what_calls_give_comes_in_their_order(threads):
    threads(2)
    calls = [lambda n=n: time.sleep(0.02 * (n % 3 == 0)) or n for n in range(12)]
    assert list(in_order(calls, 2)) == list(range(12))
    assert list(in_order(calls, 1)) == list(range(12))


@pytest.mark.parametrize("beside", [1, 2])
def test_a_failed_pass_ends_all_and_few_are_begun(threads, beside):
    threads(2)
    begun = []

    def call(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise MemoryError("full")
        return number

    results = in_order((lambda n=n: call(n) for n in range(100)), beside)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(MemoryError):
        next(results)
    assert len(begun) <= 2 + 2 * beside
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("asked", "most"), [(None, 2), (1, 1)])
def test_large_slices_are_two_at_a_time_but_where_one_is_asked_for(tmp_path, threads, monkeypatch, asked, most):
    threads(4)
    synthesis = SliceSynthesis([Slow()], slice_batch=asked)
    monkeypatch.setattr(synthesis.generators, "batch", lambda voxels: 1)
    running, together = [], []
    monkeypatch.setattr(synthesis.generators, "translate", _counted(synthesis.generators.translate, running, together))
    synthesis(_mr(tmp_path))
    assert max(together) == most


def _counted(translate, running, together):
    def call(number, images):
        running.append(images)
        together.append(sum(map(len, running)))
        made = translate(number, images)
        running.pop()
        return made

    return call


def test_an_inferer_that_may_keep_something_works_alone(threads):
    threads(4)
    given = [GENERATORS["slice by slice"]()]
    plain, other = SliceSynthesis(given), SliceSynthesis(given, inferer=SlidingWindowInferer(32))
    assert plain.generators.passes(6) == 4
    assert other.generators.passes(6) == 1
    assert plain.generators.passes(1) == 1
