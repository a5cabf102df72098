"""One table of several folds: each person judged once, by weights that never saw them (docs/models/brain_lesion.md).

    python benchmarks/lesion_folds.py test_0/metrics.csv test_1/metrics.csv test_2/metrics.csv

takes what ``brain_lesion evaluate`` wrote for each fold. Methods are taken that all folds have; the bootstrap draws
people of all folds together.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from medical_gans.evaluation.lesion_figures import DEFINITIONS, Bootstrap, Estimate, Scores


def pooled(files: list[Path]) -> Scores:
    """Figures of all folds; the names of people must differ between them."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    methods = []
    for file in files:
        with open(file, newline="") as stream:
            rows = list(csv.DictReader(stream))
        methods.append({row["method"] for row in rows})
        names = {row["case"] for row in rows}
        twice = sorted(names & {name for cases in found.values() for name in cases})
        if twice:
            raise SystemExit(f"{file} judges {twice[0]}, whom an earlier fold judged. Give folds of different people.")
        for row in rows:
            seeds = found.setdefault(row["method"], {}).setdefault(row["case"], {})
            seeds[row["seed"]] = [float(row[name]) for name in DEFINITIONS]
    common = set.intersection(*methods)
    cases = list(next(found[name] for name in found if name in common))
    values = {
        name: np.array([list(found[name][case].values()) for case in cases]).transpose(1, 0, 2)
        for name in found
        if name in common
    }
    return Scores(cases, values)


def said(estimate: Estimate | None, percent: bool = False) -> str:
    """A mean with its interval."""
    if estimate is None:
        return "-"
    times, digits, unit = (100, 0, " %") if percent else (1, 3, "")
    ends = "" if estimate.interval is None else " ({:.{d}f} to {:.{d}f}{u})"
    low, high = estimate.interval or (0.0, 0.0)
    return f"{times * estimate.value:.{digits}f}{unit}" + ends.format(times * low, times * high, d=digits, u=unit)


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path, nargs="+")
    scores = pooled(parser.parse_args().metrics)
    bootstrap = Bootstrap(scores)
    print(f"{len(scores.cases)} people")
    for name, row in bootstrap.compare().items():
        of_each = "-" if row.better is None else f"{row.better[0]} of {row.better[1]}"
        figures = [f"{scores.figure(name, figure).mean():.2f}" for figure in ("sensitivity", "precision", "lesion_f1")]
        print(
            f"{name:14} {said(row.dice)} | above source only {of_each} | closed {said(row.closed, percent=True)}",
            end="",
        )
        print(f" | sensitivity, precision, lesion-wise F1 {', '.join(figures)}")


if __name__ == "__main__":
    main()
