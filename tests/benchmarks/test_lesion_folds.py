"""Promises of the table of several folds: each person counts once, and only methods that every fold has."""

import csv
import importlib.util
from pathlib import Path

import pytest

from medical_gans.evaluation.lesion_figures import DEFINITIONS

PATH = Path(__file__).parents[2] / "benchmarks" / "lesion_folds.py"
SPEC = importlib.util.spec_from_file_location("lesion_folds", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


def fold(path, dice):
    """A metrics.csv with the Dice of each (case, method, seed)."""
    with open(path, "w", newline="") as stream:
        table = csv.DictWriter(stream, ["case", "method", "seed", *DEFINITIONS])
        table.writeheader()
        for (case, method, seed), value in dice.items():
            table.writerow({"case": case, "method": method, "seed": seed, **dict.fromkeys(DEFINITIONS, value)})
    return path


def test_people_of_all_folds_and_seeds_are_pooled(tmp_path):
    first = {("p1", "found", 0): 0.2, ("p1", "found", 1): 0.4, ("p1", "oracle", 0): 0.6, ("p1", "only_here", 0): 0.9}
    second = {("p2", "found", 0): 0.6, ("p2", "found", 1): 0.8, ("p2", "oracle", 0): 0.8}
    scores = benchmark.pooled([fold(tmp_path / "a.csv", first), fold(tmp_path / "b.csv", second)])
    assert scores.cases == ["p1", "p2"] and set(scores.values) == {"found", "oracle"}
    assert scores.figure("found", "dice").mean() == pytest.approx(0.5)
    assert scores.figure("oracle", "dice").mean() == pytest.approx(0.7)


def test_a_person_judged_by_two_folds_is_refused(tmp_path):
    files = [fold(tmp_path / name, {("p1", "found", 0): 0.2}) for name in ("a.csv", "b.csv")]
    with pytest.raises(SystemExit, match="p1, whom an earlier fold judged"):
        benchmark.pooled(files)
