"""From the figures of each patient and seed to means, intervals, and the share of the domain gap that is closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medical_gans.evaluation.lesion_methods import ORACLE, SOURCE_ONLY

DRAWS = 9999
_MOST_UNDEFINED = 0.025  # of the draws: beyond, an end of the interval is not finite

DEFINITIONS = {
    "dice": "twice the common voxels over the voxels of both, 0 to 1",
    "hausdorff_95_mm": "95th percentile of the distances from one surface to the other, the larger direction, mm",
    "sensitivity": "share of the true voxels that were found",
    "precision": "share of the predicted voxels that are true",
    "lesion_f1": "F1 over lesions (26-connected components): found or right where at least one voxel lies in the "
    "other mask (rule of the WMH challenge, Kuijf et al. 2019, arXiv 1904.00682)",
    "volume_error_ml": "predicted minus true volume, ml",
    "absolute_volume_error_ml": "its size without its sign, ml",
}
TERMS = {
    "mean": "over patients, and over seeds where a method has several weights files",
    "95 %": "percentile bootstrap interval: patients, and seeds of each method, drawn anew 9999 times; too narrow "
    "where there are few",
    "less source only": "Dice minus that of source_only, on the same patients",
    "gap closed": "(method - source_only) / (oracle - source_only) in Dice (Kamnitsas et al. 2017); its interval draws "
    "patients together for all methods",
    "domain classifier": "a fresh logistic regression on standardised features, cross-validated; on new patients it is "
    "unsteady where there are fewer than some five in a domain (below 0.5: patients differ more than domains), on new "
    "patches of known patients it counts what belongs to patients too",
    "empty masks": "two empty ones agree (1, 0 mm); where only one is empty scores are 0 and the distance is the "
    "diagonal of the volume (BraTS)",
}


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures of one class of lesions.

    Attributes:
        cases: names of the patients.
        values: by method, ``(seed, case, figure)`` in the order of `DEFINITIONS`.
    """

    cases: Sequence[str]
    values: Mapping[str, np.ndarray]

    def figure(self, method: str, name: str) -> np.ndarray:
        """``(seed, case)``."""
        return self.values[method][:, :, list(DEFINITIONS).index(name)]

    def of(self, cases: Sequence[str]) -> Scores:
        """The same of some of the patients."""
        chosen = [place for place, name in enumerate(self.cases) if name in set(cases)]
        return Scores([self.cases[i] for i in chosen], {name: v[:, chosen] for name, v in self.values.items()})


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval, None where one patient and one seed have none."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """A method beside source only and oracle, in Dice.

    Attributes:
        dice: mean.
        gain: mean less that of source only; None for source only, or without it.
        better: patients on whom it is above source only, and of how many.
        closed: share of the gap that is closed; None where that is not defined.
        of_each_seed: the share that each seed closes alone.
        words: what to know about the gap.
    """

    dice: Estimate
    gain: Estimate | None = None
    better: tuple[int, int] | None = None
    closed: Estimate | None = None
    of_each_seed: tuple[float, ...] = ()
    words: str = ""


class Bootstrap:
    """Draws patients together for all methods, and seeds of each method on their own.

    Args:
        scores: to draw from.
        seed: of the draws.
    """

    def __init__(self, scores: Scores, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        patients = len(scores.cases)
        self.scores = scores
        self._patients = rng.multinomial(patients, np.full(patients, 1 / patients), DRAWS) / patients
        self._seeds = {
            name: rng.multinomial(len(values), np.full(len(values), 1 / len(values)), DRAWS) / len(values)
            for name, values in scores.values.items()
        }

    def means(self, method: str, figure: str = "dice") -> np.ndarray:
        """Mean of a figure in each draw, ``(draws,)``."""
        by_seed = self._patients @ self.scores.figure(method, figure).T
        return (by_seed * self._seeds[method]).sum(1)

    def estimate(self, method: str, figure: str) -> Estimate:
        """Mean of a figure with its interval."""
        values = self.scores.figure(method, figure)
        return Estimate(float(values.mean()), _interval(self.means(method, figure)) if values.size > 1 else None)

    def compare(self) -> dict[str, Comparison]:
        """Every method beside source only and oracle, where these are among them."""
        return {method: self._comparison(method) for method in self.scores.values}

    def _comparison(self, method: str) -> Comparison:
        scores, dice = self.scores, self.estimate(method, "dice")
        if SOURCE_ONLY not in scores.values:
            return Comparison(dice, words=f"no gap: {SOURCE_ONLY} is not among the methods")
        ours, base = (scores.figure(name, "dice") for name in (method, SOURCE_ONLY))
        if method == SOURCE_ONLY:
            return Comparison(dice)
        drawn = self.means(method) - self.means(SOURCE_ONLY)
        single = len(scores.cases) == len(ours) == len(base) == 1
        gain = Estimate(float(ours.mean() - base.mean()), None if single else _interval(drawn))
        better = int((ours.mean(0) > base.mean(0)).sum()), len(scores.cases)
        if ORACLE not in scores.values:
            return Comparison(dice, gain, better, words=f"no gap: {ORACLE} is not among the methods")
        gap = float(scores.figure(ORACLE, "dice").mean() - base.mean())
        if gap <= 0:
            words = f"not defined: the oracle's Dice is not above that of source only ({gap:+.3f})"
            return Comparison(dice, gain, better, words=words)
        if method == ORACLE:
            return Comparison(dice, gain, better, words="the oracle closes it by definition")
        return self._closed(Comparison(dice, gain, better), drawn, ours.mean(1) - base.mean(), gap)

    def _closed(self, so_far: Comparison, drawn: np.ndarray, gains: np.ndarray, gap: float) -> Comparison:
        """With the share of the gap; draws without a gap leave its interval open."""
        assert so_far.gain is not None
        gaps = self.means(ORACLE) - self.means(SOURCE_ONLY)
        without = float((gaps <= 0).mean())
        interval, words = None, ""
        if so_far.gain.interval is not None and without <= _MOST_UNDEFINED:
            interval = _interval(drawn[gaps > 0] / gaps[gaps > 0])
        elif so_far.gain.interval is not None:
            words = f"no interval: {100 * without:.0f} % of the draws of patients have no gap to close"
        closed = Estimate(so_far.gain.value / gap, interval)
        of_each = tuple(float(one) for one in gains / gap) if len(gains) > 1 else ()
        return Comparison(so_far.dice, so_far.gain, so_far.better, closed, of_each, words)


def lost_words(scores: Mapping[str, Scores]) -> list[str]:
    """What source only loses of the oracle's Dice, a sentence for each class of lesions."""
    said = []
    for name, found in scores.items():
        if {SOURCE_ONLY, ORACLE} <= set(found.values):
            base, best = (float(found.figure(method, "dice").mean()) for method in (SOURCE_ONLY, ORACLE))
            if 0 < best > base:
                of_class = f" ({name})" if len(scores) > 1 else ""
                said.append(f"Source only loses {100 * (best - base) / best:.0f} % of the oracle's Dice{of_class}.")
    return said


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
