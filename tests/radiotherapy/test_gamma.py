"""Gamma pass rates equal what the definition gives in closed form."""

import importlib
import math

import numpy as np
import pytest

from medical_gans.errors import SettingError
from medical_gans.studies.radiotherapy import extra
from medical_gans.studies.radiotherapy.gamma import gamma_pass_rate

WITH = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pymedphys", "numba")),
    reason="needs the extra radiotherapy",
)
SHAPE = (24, 20, 18)


def gradient(slope: float) -> np.ndarray:
    """Gy, rising along the first axis by `slope` per voxel of 2 mm around 2 Gy."""
    rise = slope * (np.arange(SHAPE[0]) - SHAPE[0] / 2)
    return np.broadcast_to((2 + rise)[:, None, None], SHAPE)


@WITH
def test_equal_doses_pass_everywhere():
    assert gamma_pass_rate(gradient(0.02), gradient(0.02), 2.0, (1.0, 1.0), 2.0, points=500) == 100


@WITH
@pytest.mark.parametrize(("difference", "passes"), [(0.019, 100), (0.021, 0)])
def test_in_an_even_dose_only_the_difference_counts(difference, passes):
    flat = np.full(SHAPE, 2.0)
    assert gamma_pass_rate(flat, flat * (1 + difference), 2.0, (2.0, 2.0), 2.0, points=300) == passes


@WITH
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_in_a_steep_dose_difference_and_distance_trade(factor):
    """Least of sqrt((d - s x)^2 / D^2 + x^2 / R^2) over x is d / sqrt(D^2 + s^2 R^2)."""
    slope, criterion = 0.05, (2.0, 2.0)  # Gy per mm, percent of 2 Gy and mm
    limit = math.hypot(0.04, slope * 2.0)
    reference = gradient(2 * slope)
    inner = slice(4, -4)
    found = gamma_pass_rate(
        reference[inner], (reference + factor * limit)[inner], 2.0, criterion, 2.0, points=400, cutoff=10
    )
    # voxels near the end have no neighbour to pass by
    assert found > 85 if factor < 1 else found == 0


@WITH
def test_the_seed_repeats_the_drawing_and_leaves_numpy_alone():
    rng = np.random.default_rng(0)
    reference = gradient(0.01)
    other = reference + rng.normal(0, 0.03, SHAPE)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    rates = [gamma_pass_rate(reference, other, 2.0, (1.0, 1.0), 2.0, points=200, seed=s) for s in (0, 0, 1)]
    assert rates[0] == rates[1] != rates[2]
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_where_nothing_has_dose_there_is_no_rate():
    assert math.isnan(gamma_pass_rate(np.zeros(SHAPE), np.ones(SHAPE), 2.0, (2.0, 2.0), 2.0))


@pytest.mark.parametrize("name", ["pyRadPlan", "pymedphys", "numba"])
def test_a_missing_package_names_the_extra(monkeypatch, name):
    def missing(wanted):
        if wanted == name:
            raise ImportError(f"No module named {wanted!r}")
        return type("Module", (), {"gamma": None})

    monkeypatch.setattr(extra.importlib, "import_module", missing)
    with pytest.raises(SettingError, match=rf"{name}.*pip install 'medical-gans\[radiotherapy\]'"):
        extra.require_extra()
