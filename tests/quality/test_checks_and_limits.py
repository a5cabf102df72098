"""Limits are predictive intervals of the training patients, and lights follow them."""

import numpy as np
import pytest
from scipy import stats

from medical_gans.checks.quality.limits import AMBER, GREEN, GREY, RED, Check, QualityLimits, Usual, upper_light, worst
from medical_gans.errors import InputError


def limits(**changes) -> QualityLimits:
    facts = {
        "site": "thigh",
        "tissue": {"soft_hu": Usual.of([40.0, 45.0, 50.0])},
        "slice_mean": [0.0, 0.1],
        "slice_precision": [[1.0, 0.0], [0.0, 1.0]],
        "slice_distance": [2.0, 4.0],
        "void_ml": [0.0, 2.0],
    }
    return QualityLimits(**{**facts, **changes})


def test_an_interval_is_that_of_one_more_patient():
    values = [20.0, 45.0, 70.0, 47.0]
    low, high = Usual.of(values).interval(0.05)
    mean, sd = np.mean(values), np.std(values, ddof=1)
    half = stats.t.ppf(0.975, 3) * sd * np.sqrt(1 + 1 / 4)
    assert (low, high) == pytest.approx((mean - half, mean + half))
    assert Usual.of([45.0, 45.0, 45.0]).interval(0.05)[1] > 60, "patients that happen to be alike make no narrow limit"


def test_five_percent_of_patients_like_those_of_training_are_not_green():
    rng = np.random.default_rng(0)
    lights = [Usual.of(rng.normal(0, 50, 8)).light(rng.normal(0, 50)) for _ in range(2000)]
    assert np.mean([light != GREEN for light in lights]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([light == RED for light in lights]) == pytest.approx(0.002, abs=0.003)


def test_a_share_stays_a_share():
    usual = Usual.of([0.001, 0.01, 0.0, 0.02, 0.015, 0.005, 0.01, 0.02, 0.03, 0.01], "share")
    low, high = usual.interval(0.002)
    assert 0 <= low < high <= 1
    assert usual.light(0.005) == GREEN and usual.light(0.999) == RED


@pytest.mark.parametrize(("value", "light"), [(0, GREEN), (2, GREEN), (2.1, AMBER), (5, AMBER), (5.1, RED)])
def test_lights_change_above_their_limits(value, light):
    assert upper_light(value, 2, 5) == light


def test_the_worst_light_counts_and_what_was_not_judged_is_never_green():
    def check(light: str, needed: bool = True) -> Check:
        return Check("x", light, "", needed=needed)

    assert worst([check(GREEN), check(GREY), check(AMBER)]) == AMBER
    assert worst([check(GREEN), check(GREY), check(RED)]) == RED
    assert worst([check(AMBER), check(RED)]) == RED
    assert worst([check(GREEN), check(GREY)]) == GREY, "green would say that all is well"
    assert worst([check(GREEN), check(GREY, needed=False)]) == GREEN
    assert worst([check(GREY)]) == GREY and worst([]) == GREY


def test_limits_come_back_as_they_were_written(tmp_path):
    written = limits(
        realism=[0.02, 0.1],
        patch_score=0.3,
        cut_cm=[0.0, 12.5],
        notes=["26 patients"],
        vault={"vault_closed": [0.9, 0.98, 1.0, 1.0]},
    )
    assert QualityLimits.read(written.save(tmp_path / "x_quality.json")) == written


@pytest.mark.parametrize("text", ["", "{}", '{"tissue": 1}', "[1]"])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    file = tmp_path / "x_quality.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"x_quality\.json"):
        QualityLimits.read(file)
