"""DVH figures equal their closed forms."""

import math

import numpy as np
import pytest

from medical_gans.studies.radiotherapy.dvh import (
    dose_mae,
    dose_to_volume,
    dvh_curve,
    dvh_error,
    structure_figures,
    target_figures,
)


def ramp(low: float = 0.0, high: float = 2.0, count: int = 10_001) -> np.ndarray:
    """A dose that rises evenly over a structure, in no order."""
    return np.random.default_rng(0).permutation(np.linspace(low, high, count)).reshape(1, 1, -1)


@pytest.mark.parametrize("percent", [98, 95, 50, 5, 2])
def test_dose_to_volume_of_an_even_ramp(percent):
    dose = ramp(1.0, 3.0)
    assert dose_to_volume(dose, dose > 0, percent) == pytest.approx(3 - 2 * percent / 100, abs=1e-9)


def test_figures_of_an_even_ramp():
    dose = ramp(1.8, 2.2)
    figures = target_figures(dose, dose > 0, 2.0)
    assert figures["mean"] == pytest.approx(2.0) and figures["d50"] == pytest.approx(2.0)
    assert figures["homogeneity"] == pytest.approx(0.4 * 0.96 / 2.0)
    assert set(structure_figures(dose, dose > 0)) == {"d98", "d95", "d50", "d5", "d2", "mean"}


def test_conformity_is_the_product_of_coverage_and_selectivity():
    dose = np.zeros((10, 10, 10))
    target = np.zeros_like(dose, dtype=bool)
    target[2:6] = True
    dose[3:9] = 2.0
    coverage, selectivity = 3 / 4, 3 / 6
    assert target_figures(dose, target, 2.0)["conformity"] == pytest.approx(coverage * selectivity)
    dose[:] = np.where(target, 1.9, 1.89)  # 95 % counts, less does not
    assert target_figures(dose, target, 2.0)["conformity"] == 1
    assert target_figures(0 * dose, target, 2.0)["conformity"] == 0
    assert math.isnan(target_figures(0 * dose, target, 2.0)["homogeneity"])


def test_the_curve_falls_from_all_to_nothing():
    dose = ramp(0.5, 1.5)
    curve = dvh_curve(dose, dose > 0, np.array([0, 0.5, 1.0, 1.25, 1.5, 1.6]))
    np.testing.assert_allclose(curve, [100, 100, 50, 25, 0, 0], atol=0.02)


def test_the_curve_meets_the_figures():
    dose = np.random.default_rng(3).gamma(4.0, 0.5, (20, 20, 20))
    structure = np.random.default_rng(4).random(dose.shape) < 0.3
    for percent in (95, 50, 2):
        level = dose_to_volume(dose, structure, percent)
        assert dvh_curve(dose, structure, np.array([level]))[0] == pytest.approx(percent, abs=0.05)


def test_dose_mae_counts_where_the_reference_has_ninety_percent():
    reference = np.array([2.0, 1.9, 1.8, 1.79, 0.5])
    synthetic = reference + np.array([0.02, -0.04, 0.06, 5.0, 5.0])
    assert dose_mae(reference, synthetic, 2.0) == pytest.approx(0.04 / 2)
    assert math.isnan(dose_mae(reference / 2, synthetic, 2.0))


def test_dvh_error_takes_the_three_organs_with_most_dose():
    reference = {"target": {"d98": 2.0, "conformity": 0.8}}
    synthetic = {"target": {"d98": 1.9, "conformity": 0.84}}
    for number, name in enumerate(("low", "middle", "high", "highest")):
        reference[name] = {"d5": 0.5 + number, "d2": 1.0 + number, "mean": 0.4 + number}
        synthetic[name] = {"d5": 9.0, "d2": (1.0 + number) * 1.02, "mean": (0.4 + number) * 0.97}
    synthetic["low"]["d2"] = 99.0  # the organ with least dose does not count
    assert dvh_error(reference, synthetic, "target") == pytest.approx(0.05 + 0.05 + 0.02 + 0.03)
    alone = {"target": reference["target"]}
    assert dvh_error(alone, {"target": synthetic["target"]}, "target") == pytest.approx(0.1)
