"""The training benchmark compares the same networks and the same step."""

import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[2] / "benchmarks" / "training_step.py"
SPEC = importlib.util.spec_from_file_location("training_step", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)

KINDS = [
    {"width": 4, "blocks": 1, "norm": "none", "upsampling": "resize"},
    {"width": 4, "blocks": 1, "norm": "instance", "upsampling": "transposed"},
]


@pytest.mark.parametrize("kind", KINDS)
def test_plain_networks_are_ours(kind):
    torch.manual_seed(0)
    game = benchmark.networks(**kind)
    plain = benchmark.plainly(game, **kind)
    images = torch.rand(1, 1, 64, 64) * 2 - 1
    for name, network in game.items():
        expected = network(images)
        expected = expected[-1] if name in benchmark.SIDES else expected
        torch.testing.assert_close(plain[name](images), expected, rtol=1e-3, atol=1e-4)


def test_our_step_without_clipping_moves_the_networks_as_the_plain_one(monkeypatch):
    torch.manual_seed(0)
    game = benchmark.networks(**KINDS[0])
    plain = benchmark.plainly(game, **KINDS[0])
    players = []

    class Player(benchmark.Player):
        def __init__(self, networks, **settings):
            super().__init__(networks, **{**settings, "clip_norm": 0.0})
            players.append(self)

    monkeypatch.setattr(benchmark, "Player", Player)
    theirs, ours = benchmark.plain_step(plain), benchmark.our_step(game)
    mr, ct = (torch.rand(1, 1, 64, 64) * 2 - 1 for _ in range(2))
    for _ in range(2):
        theirs(mr, ct)
        ours(mr, ct)
    made = {name: network for player in players for name, network in player.networks.items()}
    images = torch.rand(1, 1, 64, 64) * 2 - 1
    for name, network in made.items():
        one = network(images)
        one = one[-1] if name in benchmark.SIDES else one
        torch.testing.assert_close(one, plain[name](images), rtol=1e-2, atol=2e-3)


def test_times_of_both_are_told():
    plain, ours, ratio = benchmark.ratios(KINDS[0], 32, 1, 1, False, benchmark.time.process_time)
    assert plain > 0
    assert ours > 0
    assert ratio == pytest.approx(plain / ours)
