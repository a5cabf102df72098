"""Promises of the stability benchmark: its games have the answers of theory, and one command writes its files."""

import importlib
import math
import sys

import pytest
import torch


@pytest.fixture(scope="module")
def benchmarks(repository):
    """The benchmark's modules, importable as when it is run as a script."""
    sys.path.insert(0, str(repository / "benchmarks"))
    yield {name: importlib.import_module(name) for name in ("stability", "stability_games", "stability_polygons")}
    sys.path.remove(str(repository / "benchmarks"))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_distance_from_the_equilibrium_grows_or_shrinks_as_theory_says(benchmarks, gamma):
    path = benchmarks["stability_games"].bilinear_game(steps=50, rate=0.1, gamma=gamma)
    factor = math.hypot(1 - 0.1 * gamma, 0.1)
    assert math.hypot(*path[-1]) == pytest.approx(math.sqrt(2) * factor**50, rel=1e-4)


def test_modes_are_counted(benchmarks):
    games = benchmarks["stability_games"]
    ring = games.ring(4000, torch.Generator().manual_seed(0))
    right, far = (ring[:, 0] > 0.5)[:, None], torch.full_like(ring, 9.0)
    modes, good = games.count_modes(torch.stack([ring, torch.where(right, ring, far)]))
    assert modes.tolist() == [8, 3]
    assert good[0] > 0.98
    assert good[1] == pytest.approx(3 / 8, abs=0.03)


def test_no_seed_knows_of_the_others(benchmarks):
    """The gradient of one seed's networks is the same whatever the other seed's generator makes."""
    games = benchmarks["stability_games"]
    setting = games.RingSetting("relativistic", penalty="r1_r2")
    judge = games._Players(2, (2, 8, 1), torch.Generator().manual_seed(0))
    real = games.ring(8, torch.Generator().manual_seed(1))
    gradients = []
    for other in (0.0, 3.0):
        fake = torch.cat([torch.zeros(4, 2), torch.full((4, 2), other)])
        loss = games._judging(setting, judge, real, fake)
        gradients.append(torch.autograd.grad(loss, judge.weights[0])[0])
    assert torch.allclose(gradients[0][0], gradients[1][0])
    assert not torch.allclose(gradients[0][1], gradients[1][1])


def test_a_triangle_lies_on_the_manifold_and_noise_does_not(benchmarks):
    polygons = benchmarks["stability_polygons"]
    draw = torch.Generator().manual_seed(0)
    images = polygons.drawn(polygons.random_triangles(8, draw))
    assert images.min() >= -1 and images.max() <= 1
    noisy = images + 0.3 * torch.randn(images.shape, generator=draw)
    distance = polygons.distance_to_manifold(torch.cat([images, noisy]), draw, steps=30, rendered=500)
    assert distance[:8].max() < polygons.NEAR < distance[8:].min()


def test_a_generator_that_repeats_one_triangle_has_precision_without_recall(benchmarks):
    polygons = benchmarks["stability_polygons"]
    draw = torch.Generator().manual_seed(0)
    one = polygons.drawn(polygons.random_triangles(1, draw))

    def generate(latent):
        return one.expand(len(latent), -1, -1, -1) + 0 * latent.sum()

    assert polygons.distance_to_manifold(generate(torch.zeros(2, 4)), draw, 20, 300).max() < polygons.NEAR
    others = polygons.drawn(polygons.random_triangles(8, draw))
    assert polygons.distance_to_generator(generate, others, 4, draw, steps=3).min() > polygons.NEAR


def test_one_command_writes_picture_and_tables(benchmarks, tmp_path, monkeypatch):
    stability = benchmarks["stability"]
    monkeypatch.setattr(stability, "RING", stability.RING[:1])
    monkeypatch.setattr(stability, "TRIANGLES", stability.TRIANGLES[:1])
    monkeypatch.setattr(stability, "ProcessPoolExecutor", _Here)
    small = [
        "--ring_steps",
        "4",
        "--ring_seeds",
        "1",
        "--triangle_steps",
        "1",
        "--triangle_seeds",
        "1",
        "--judged",
        "4",
    ]
    stability.main(["--output_dir", str(tmp_path), *small])
    table = (tmp_path / "stability.md").read_text()
    assert "consensus" in table and "ring of eight Gaussians" in table and "triangles" in table
    assert (tmp_path / "stability.png").stat().st_size > 1000
    assert (tmp_path / "stability.csv").read_text().startswith("game,setting")


class _Here:
    """Runs at once what a pool of processes would run later."""

    def __init__(self, *arguments, **settings): ...

    def __enter__(self):
        return self

    def __exit__(self, *error): ...

    def submit(self, call, *arguments, **settings):
        made = call(*arguments, **settings)

        class Done:
            def result(self):
                return made

        return Done()
