"""Means, intervals and the share of the gap closed, against closed forms and draws one by one."""

import numpy as np
import pytest

from medical_gans.evaluation.lesion_figures import DEFINITIONS, Bootstrap, Scores, lost_words
from medical_gans.evaluation.lesion_results import comparison_table


def scores(**dice: list[list[float]]) -> Scores:
    """Dice by method, seeds by patients; the other figures are ten times as large."""
    values = {
        name: np.stack([np.array(rows) * (1 if figure == "dice" else 10) for figure in DEFINITIONS], axis=2)
        for name, rows in dice.items()
    }
    patients = next(iter(values.values())).shape[1]
    return Scores([f"patient{number}" for number in range(patients)], values)


def test_the_gap_closed_is_the_gain_over_the_gap():
    found = Bootstrap(scores(source_only=[[0.2, 0.4]], adapted=[[0.5, 0.6]], oracle=[[0.8, 0.8]])).compare()
    assert found["adapted"].closed.value == pytest.approx(0.25 / 0.5)
    assert found["adapted"].gain.value == pytest.approx(0.25)
    assert found["adapted"].better == (2, 2)
    assert found["oracle"].gain.value == pytest.approx(0.5)
    assert found["source_only"].gain is None and found["source_only"].closed is None


def test_intervals_are_those_of_patients_drawn_one_by_one():
    rng = np.random.default_rng(0)
    base, ours, best = np.sort(rng.random((3, 8)), axis=0)
    found = Bootstrap(scores(source_only=[base], adapted=[ours], oracle=[best])).compare()["adapted"]
    draws = [rng.integers(0, 8, 8) for _ in range(9999)]
    gains = [ours[one].mean() - base[one].mean() for one in draws]
    shares = [gain / (best[one].mean() - base[one].mean()) for gain, one in zip(gains, draws, strict=True)]
    assert found.dice.interval == pytest.approx(np.percentile([ours[d].mean() for d in draws], (2.5, 97.5)), abs=0.01)
    assert found.gain.interval == pytest.approx(np.percentile(gains, (2.5, 97.5)), abs=0.01)
    assert found.closed.interval == pytest.approx(np.percentile(shares, (2.5, 97.5)), abs=0.02)


def test_patients_are_drawn_together_for_all_methods():
    hard, easy = 0.1, 0.9
    found = Bootstrap(scores(source_only=[[hard, easy]], adapted=[[hard + 0.05, easy + 0.05]])).compare()["adapted"]
    assert found.gain.interval == pytest.approx((0.05, 0.05))
    assert found.dice.interval == pytest.approx((hard + 0.05, easy + 0.05))


def test_seeds_widen_the_interval_and_are_told_one_by_one():
    patients = [0.5, 0.5, 0.5]
    seeds = [[0.6] * 3, [0.7] * 3, [0.8] * 3]
    found = Bootstrap(scores(source_only=[patients], adapted=seeds, oracle=[[0.9] * 3])).compare()["adapted"]
    assert found.of_each_seed == pytest.approx((0.25, 0.5, 0.75))
    assert found.closed.value == pytest.approx(0.5)
    low, high = found.closed.interval
    assert low == pytest.approx(0.25, abs=0.02) and high == pytest.approx(0.75, abs=0.02)


def test_a_gap_that_is_none_is_said_in_words():
    found = Bootstrap(scores(source_only=[[0.8, 0.9]], adapted=[[0.8, 0.9]], oracle=[[0.7, 0.8]])).compare()
    assert found["adapted"].closed is None
    assert "the oracle's Dice is not above that of source only (-0.100)" in found["adapted"].words
    table = comparison_table("Dice", found)
    assert table.columns[-1] == "" and "not defined" in table.rows[1][-1]


def test_a_gap_that_some_patients_do_not_have_has_no_interval():
    found = Bootstrap(scores(source_only=[[0.2, 0.9]], adapted=[[0.3, 0.9]], oracle=[[0.7, 0.8]])).compare()["adapted"]
    assert found.closed.value == pytest.approx(0.05 / 0.2)
    assert found.closed.interval is None and "25 % of the draws" in found.words


@pytest.mark.parametrize("lacking", ["source_only", "oracle"])
def test_without_both_ends_there_is_no_gap_but_all_else(lacking):
    methods = {"source_only": [[0.2, 0.3]], "adapted": [[0.4, 0.5]], "oracle": [[0.6, 0.7]]}
    del methods[lacking]
    found = Bootstrap(scores(**methods)).compare()["adapted"]
    assert found.closed is None and found.words == f"no gap: {lacking} is not among the methods"
    assert found.dice.value == pytest.approx(0.45)


def test_one_patient_and_one_seed_have_no_interval():
    found = Bootstrap(scores(source_only=[[0.2]], adapted=[[0.4]], oracle=[[0.6]])).compare()["adapted"]
    assert found.dice.interval is None and found.gain.interval is None and found.closed.interval is None
    assert found.closed.value == pytest.approx(0.5) and not found.words
    assert comparison_table("Dice", {"adapted": found}).rows[0][4] == "50 %"


def test_every_figure_has_its_mean():
    bootstrap = Bootstrap(scores(adapted=[[0.1, 0.2], [0.3, 0.6]]))
    assert bootstrap.estimate("adapted", "dice").value == pytest.approx(0.3)
    assert bootstrap.estimate("adapted", "hausdorff_95_mm").value == pytest.approx(3.0)


def test_what_source_only_loses_is_said():
    found = scores(source_only=[[0.2, 0.2]], oracle=[[0.8, 0.8]])
    assert lost_words({"lesion": found}) == ["Source only loses 75 % of the oracle's Dice."]
    assert lost_words({"lesion": scores(adapted=[[0.2]])}) == []


def test_some_patients_are_picked_by_name():
    found = scores(adapted=[[0.1, 0.2, 0.3]]).of(["patient2", "patient0"])
    assert found.cases == ["patient0", "patient2"]
    assert found.figure("adapted", "dice").tolist() == [[0.1, 0.3]]
