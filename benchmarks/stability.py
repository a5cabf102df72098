"""Which adversarial objective collapses and which does not, on three games whose right answer is known.

    python benchmarks/stability.py --output_dir DIR

writes `stability.png`, `stability.csv` and `stability.md`. Needs no data and no GPU.

1. f(x, y) = x y: simultaneous gradient steps against consensus optimisation (Mescheder et al. 2017).
2. A ring of eight Gaussians: modes covered by each objective, with and without consensus.
3. Images of triangles (Lucic et al. 2018): precision and recall, measured against the known manifold.

All are toys of a few thousand small steps: they show how an objective behaves, not how good it is at real images.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stability_games import MODES, RingResult, RingSetting, bilinear_game, train_on_ring
from stability_polygons import PolygonResult, PolygonSetting, train_on_triangles

from medical_gans.losses import F_DIVERGENCES

GAMMA = 0.01
BILINEAR_RATE, BILINEAR_GAMMA, BILINEAR_STEPS = 0.1, 1.0, 200

# The divergences gan and jensen_shannon have the gradients of goodfellow, whose row stands for them.
DIVERGENCES = [f"f_{name}" for name in F_DIVERGENCES if name not in ("gan", "jensen_shannon")]
OBJECTIVES = ["goodfellow", "goodfellow_saturating", "least_squares", "hinge", *DIVERGENCES]
RING = [
    *(RingSetting(name) for name in OBJECTIVES),
    *(RingSetting(name, gamma=GAMMA) for name in OBJECTIVES),
    RingSetting("goodfellow", simultaneous=True),
    RingSetting("relativistic"),
    RingSetting("relativistic", penalty="r1_r2"),
    RingSetting("wasserstein", penalty="wgan_gp", critic_steps=3),
]
TRIANGLES = [
    PolygonSetting("goodfellow", "goodfellow"),
    PolygonSetting("hinge", "hinge"),
    PolygonSetting("relativistic + R1 + R2", "relativistic", "r1_r2", 1.0),
    PolygonSetting("wasserstein + gradient penalty", "wasserstein", "wgan_gp", 10.0, 3),
]


def verdict(result: RingResult) -> str:
    """What became of a setting, in words: judged by the worst seed."""
    if min(result.modes) == MODES and min(result.good) >= 0.5:
        return "covers all" if min(result.worst_modes) == MODES else "covers all, not steadily"
    if max(result.good) < 0.1:
        return "diverges"
    return "drops modes" if min(result.good) >= 0.5 or min(result.modes) < MODES else "covers all, blurred"


def ring_row(result: RingResult) -> dict[str, str]:
    """One line of the table."""
    return {
        "game": "ring of eight Gaussians",
        "setting": result.setting.name,
        "modes": " ".join(str(one) for one in result.modes),
        "fewest modes late": " ".join(str(one) for one in result.worst_modes),
        "good samples": " ".join(f"{one:.2f}" for one in result.good),
        "verdict": verdict(result),
    }


def polygon_row(results: Sequence[PolygonResult]) -> dict[str, str]:
    """One line of the table, a figure for each seed."""
    return {
        "game": "triangles",
        "setting": results[0].setting.name,
        "precision": " ".join(f"{one.precision:.2f}" for one in results),
        "recall": " ".join(f"{one.recall:.2f}" for one in results),
        "verdict": f"median distance {_median(results, 'precision_distances')} of generated to the manifold, "
        f"{_median(results, 'recall_distances')} of held-out triangles to the generator",
    }


def bilinear_rows(paths: dict[str, list[tuple[float, float]]]) -> list[dict[str, str]]:
    """Distance from the equilibrium at the end, and what theory says: a constant factor for each step."""
    factors = {
        "simultaneous": math.hypot(1, BILINEAR_RATE),
        "consensus": math.hypot(1 - BILINEAR_RATE * BILINEAR_GAMMA, BILINEAR_RATE),
    }
    return [
        {
            "game": "f(x, y) = x y",
            "setting": name,
            "verdict": f"distance from (0, 0) times {math.hypot(*path[-1]) / math.hypot(*path[0]):.3g} after "
            f"{BILINEAR_STEPS} steps; theory {factors[name] ** BILINEAR_STEPS:.3g}",
        }
        for name, path in paths.items()
    ]


def write_tables(rows: Sequence[dict[str, str]], folder: Path) -> None:
    """The same table for programs and for people."""
    names = [*dict.fromkeys(name for row in rows for name in row if name != "verdict"), "verdict"]
    with open(folder / "stability.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(row.get(name, '') for name in names)} |" for row in rows]
    (folder / "stability.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(
    paths: dict[str, list[tuple[float, float]]],
    rings: Sequence[RingResult],
    triangles: Sequence[Sequence[PolygonResult]],
    path: Path,
) -> None:
    """Everything on one page."""
    columns = 8
    ring_lines = -(-len(rings) // columns)
    figure = Figure(figsize=(15, 3.4 + 2.25 * ring_lines + 3.2), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[3.4, 2.25 * ring_lines, 3.2])
    _draw_bilinear(top.subplots(1, 2, width_ratios=[1, 2.2]), paths)
    middle.suptitle("ring of eight Gaussians: samples of the first seed; modes covered by each seed", fontsize=10)
    for axes, result in zip(middle.subplots(ring_lines, columns, squeeze=False).flat, rings, strict=False):
        _draw_ring(axes, result)
    for axes in middle.axes[len(rings) :]:
        axes.set_axis_off()
    bottom.suptitle("triangles: generated images; precision and recall of each seed", fontsize=10)
    for axes, results in zip(bottom.subplots(1, len(triangles), squeeze=False).flat, triangles, strict=True):
        _draw_triangles(axes, results)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


def _draw_bilinear(both: np.ndarray, paths: dict[str, list[tuple[float, float]]]) -> None:
    for name, path in paths.items():
        x, y = np.array(path).T
        both[0].plot(x, y, linewidth=1, label=name)
        both[1].semilogy(np.hypot(x, y), label=name)
    both[0].set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", title="f(x, y) = x y: trajectories", xlabel="x", ylabel="y")
    both[0].plot(0, 0, "k+")
    both[1].set(title="distance from (0, 0)", xlabel="step")
    for axes in both:
        axes.legend(fontsize=8)
        axes.title.set_fontsize(10)


def _draw_ring(axes: Axes, result: RingResult) -> None:
    points = result.samples[:600].numpy()
    axes.scatter(points[:, 0], points[:, 1], s=1.5, alpha=0.5, linewidths=0)
    angle = np.arange(MODES) * 2 * np.pi / MODES
    axes.plot(2 * np.cos(angle), 2 * np.sin(angle), "k+", markersize=4, alpha=0.5)
    axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xticks=[], yticks=[])
    colour = "#1d7a3a" if verdict(result) == "covers all" else "#b3261e"
    title = result.setting.name.replace(" consensus", "\nconsensus").replace(" simultaneous", "\nsimultaneous")
    title = title.replace(" + ", "\n+ ", 1)
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(f"{' '.join(str(one) for one in result.modes)} of {MODES}", fontsize=8, color=colour, labelpad=2)


def _draw_triangles(axes: Axes, results: Sequence[PolygonResult]) -> None:
    size = results[0].samples.shape[-1]
    grid = results[0].samples[:15].reshape(3, 5, size, size).permute(0, 2, 1, 3).reshape(3 * size, 5 * size)
    axes.imshow(grid.numpy(), cmap="gray", vmin=-1, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(results[0].setting.name, fontsize=8)
    precision, recall = (" ".join(f"{getattr(one, name):.2f}" for one in results) for name in ("precision", "recall"))
    axes.set_xlabel(f"precision {precision}\nrecall {recall}", fontsize=8)


def _median(results: Sequence[PolygonResult], name: str) -> str:
    return f"{float(torch.cat([getattr(one, name) for one in results]).median()):.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all three games and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--ring_steps", type=int, default=2000, help="updates of the generator on the ring")
    parser.add_argument("--ring_seeds", type=int, default=3)
    parser.add_argument("--triangle_steps", type=int, default=800, help="updates of the generator on triangles")
    parser.add_argument("--triangle_seeds", type=int, default=1)
    parser.add_argument("--judged", type=int, default=256, help="images for precision, and as many for recall")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    chosen.output_dir.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    paths = {
        "simultaneous": bilinear_game(BILINEAR_STEPS, BILINEAR_RATE, 0.0),
        "consensus": bilinear_game(BILINEAR_STEPS, BILINEAR_RATE, BILINEAR_GAMMA),
    }
    with ProcessPoolExecutor(
        chosen.processes, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        polygons: list[list[Future]] = [
            [
                pool.submit(train_on_triangles, one, chosen.triangle_steps, seed=seed)
                for seed in range(chosen.triangle_seeds)
            ]
            for one in TRIANGLES
        ]
        rings = [pool.submit(train_on_ring, one, chosen.ring_seeds, chosen.ring_steps) for one in RING]
        triangles = [[one.result() for one in row] for row in polygons]
        results = [one.result() for one in rings]
    rows = [*bilinear_rows(paths), *map(ring_row, results), *map(polygon_row, triangles)]
    write_tables(rows, chosen.output_dir)
    draw(paths, results, triangles, chosen.output_dir / "stability.png")
    print((chosen.output_dir / "stability.md").read_text(encoding="utf-8"))
    usage = [resource.getrusage(one) for one in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used = sum(one.ru_utime + one.ru_stime for one in usage)
    seconds = f"{time.perf_counter() - begin:.0f} s, {used:.0f} s of processor time"
    print(f"{seconds}; picture: {chosen.output_dir / 'stability.png'}")


if __name__ == "__main__":
    main()
