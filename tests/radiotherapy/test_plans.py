"""The dose check on the phantom: equal CT, equal dose; known errors of a CT, errors of dose that physics expects."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from medical_gans.errors import SettingError
from medical_gans.io import Volume
from medical_gans.phantom import head, simulate_ct
from medical_gans.studies.radiotherapy.density import DensityTable
from medical_gans.studies.radiotherapy.dose_grid import DoseGrid
from medical_gans.studies.radiotherapy.figures import DoseFigures, dose_figures
from medical_gans.studies.radiotherapy.plans import Beams, Plan
from medical_gans.studies.radiotherapy.water_equivalent import water_equivalent_depth

MISSING = [name for name in ("pyRadPlan", "pymedphys", "numba") if importlib.util.find_spec(name) is None]
GRID_MM, PRESCRIPTION, CENTRE, RADIUS = 3.0, 2.0, (20.0, 10.0, 30.0), 15.0
TABLE = DensityTable.read()
PHOTONS, PROTONS = Beams("photon", (0, 72, 144, 216, 288)), Beams("proton", (270, 330))
AGREEMENT = 0.3  # percent of the mean target dose, within which two ways to the same figure must agree

# What the same planner gave for D98 with five photon beams on another phantom head, before this package was written.
# Its size, its target, the angles and the table of densities are not known; by `photon_dose_at` six heads and targets
# give 1.5 to 1.9 and -0.7 to -0.9 with the table that ships.
KNOWN = {"bone as water": 1.57, "soft tissue + 50 HU": -0.80}


@pytest.mark.parametrize("wrong", [("electron", (0,), 5.0), ("photon", (), 5.0), ("proton", (0,), -1.0)])
def test_beams_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError):
        Beams(*wrong)


class HeadCase:
    """A head on the dose grid, with CT that err in known ways."""

    def __init__(self) -> None:
        phantom = head(7)
        scan = phantom.grid(2.0)
        ct = simulate_ct(phantom, scan)
        body = phantom.body_mask(scan)
        noise = np.random.default_rng(0).normal(0, 30, ct.shape)
        self.hounsfield = {
            "identical": ct,
            "bone as water": np.where(ct > 250, 0, ct),
            "soft tissue + 50 HU": np.where((ct > -200) & (ct < 250), ct + 50, ct),
            "noise of 30 HU": ct + noise,
        }
        self.affine = scan.affine
        self.grid = DoseGrid.around(body, scan.affine, GRID_MM)
        self.body = self.grid.inside(Volume(body, scan.affine, Path("body")))
        self.target = self.grid.sphere(np.array(CENTRE), RADIUS) & self.body

    def density(self, beams: Beams, name: str) -> np.ndarray:
        sampled = self.grid.sample(beams.density(TABLE, self.hounsfield[name]), self.affine, 0.001)
        return np.where(self.body, sampled, np.float32(0.001))


@pytest.fixture(scope="module")
def case() -> HeadCase:
    return HeadCase()


def figures_of(case: HeadCase, beams: Beams, names: Sequence[str]) -> dict[str, DoseFigures]:
    heard = []
    plan = Plan(
        beams,
        case.grid,
        case.density(beams, "identical"),
        case.body,
        case.target,
        {},
        PRESCRIPTION,
        lambda what, done, total: heard.append((what, done, total)),
    )
    found = {}
    for name in ("identical", *names):
        both = {"reference": plan.reference_dose, "synthetic": plan.dose(case.density(beams, name), name)}
        found[name] = dose_figures(
            beams.modality, both, case.target, {}, GRID_MM, PRESCRIPTION, points=10_000, cutoff=10.0, seed=0
        )
    beams_told = {(done, total) for what, done, total in heard if what.endswith("dose, identical")}
    assert (len(beams.gantry_angles), len(beams.gantry_angles)) in beams_told, "each beam is told"
    return found


def change(figures: DoseFigures, name: str) -> float:
    """Percent of the mean target dose."""
    before, after = figures.reference["target"], figures.synthetic["target"]
    return 100 * (after[name] - before[name]) / before["mean"]


def depths(case: HeadCase, beams: Beams, name: str) -> list[np.ndarray]:
    """Water-equivalent depth in mm, by beam."""
    return [water_equivalent_depth(case.density(beams, name), GRID_MM, angle) for angle in beams.gantry_angles]


def photon_dose_at(depth: np.ndarray) -> np.ndarray:
    """Dose of a round field at water-equivalent depths in mm, at one distance from the source, in any unit.

    The kernels of the planner's machine (Bortfeld, Schlegel, Rhein 1993), integrated over a field as
    wide as the target with half a beamlet around it, in a homogeneous patient: no ray, no engine, no plan.
    """
    from pyRadPlan.machines import load_from_name

    machine = load_from_name("photons", "Generic")
    kernel = machine.get_kernel_by_index(0)
    step = 0.5  # mm, of the kernels' own table, whose first value is the mean over a pixel of that size
    edge = np.arange(-2 * RADIUS, 2 * RADIUS + step, step)
    distance = np.hypot(*np.meshgrid(edge, edge))
    weights = [
        step**2 * np.interp(distance[distance <= RADIUS + PHOTONS.spacing / 2], kernel.kernel_pos, component).sum()
        for component in kernel.get_kernels_at_ssd(920.0)
    ]
    m = kernel.m
    return sum(
        weight * beta / (beta - m) * (np.exp(-m * depth) - np.exp(-beta * depth))
        for weight, beta in zip(weights, kernel.kernel_betas, strict=True)
    )


def ends(dose: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where dose falls to half behind a target, mm along the first axis, on lines through its middle."""
    found = []
    for j, k in np.argwhere(GRID_MM * target.sum(axis=0) > 1.6 * RADIUS):
        last = int(np.flatnonzero(target[:, j, k])[0])  # the beam comes from the other end
        behind = dose[last::-1, j, k]
        n = int(np.argmax(behind < PRESCRIPTION / 2))
        part = (behind[n - 1] - PRESCRIPTION / 2) / (behind[n - 1] - behind[n])
        found.append(GRID_MM * (last - (n - 1) - part))
    return np.array(found)


slow = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(MISSING), reason=f"needs the extra radiotherapy: {', '.join(MISSING)} missing"),
]


class Check:
    """What holds for the plan of either modality. A class each, so that two processes share the work."""

    beams: Beams
    errors: tuple[str, ...]

    @pytest.fixture(scope="class")
    def figures(self, case) -> dict[str, DoseFigures]:
        return figures_of(case, self.beams, self.errors)

    def test_the_plan_covers_the_target(self, figures):
        target = figures["identical"].reference["target"]
        assert target["d50"] == pytest.approx(PRESCRIPTION, rel=1e-4)
        assert target["d95"] > 0.97 * PRESCRIPTION and target["homogeneity"] < 0.05
        assert target["conformity"] > 0.6

    def test_an_identical_ct_gives_the_identical_dose(self, figures):
        compared = figures["identical"].compared
        assert compared["largest_difference"] / 100 < 1e-4
        assert {compared[f"gamma_{n}_{n}"] for n in (3, 2, 1)} == {100.0}


class TestPhotonsOnThePhantom(Check):
    pytestmark = slow
    beams = PHOTONS
    errors = tuple(KNOWN)

    @pytest.mark.parametrize("name", KNOWN)
    def test_they_gain_or_lose_what_the_water_on_their_way_explains(self, case, figures, name):
        ways = zip(depths(case, PHOTONS, "identical"), depths(case, PHOTONS, name), strict=True)
        gains = [photon_dose_at(after[case.target]) / photon_dose_at(before[case.target]) - 1 for before, after in ways]
        assert change(figures[name], "mean") == pytest.approx(100 * np.mean(gains), abs=AGREEMENT)

    @pytest.mark.parametrize(("name", "known"), KNOWN.items())
    def test_their_figures_are_those_that_were_known(self, figures, name, known):
        assert change(figures[name], "d98") == pytest.approx(known, abs=AGREEMENT)

    @pytest.mark.parametrize("name", KNOWN)
    def test_their_gamma_is_blind_to_such_errors(self, figures, name):
        assert figures[name].compared["gamma_2_2"] > 99.9


class TestProtonsOnThePhantom(Check):
    pytestmark = slow
    beams = PROTONS
    errors = (*KNOWN, "noise of 30 HU")

    def test_noise_hardly_matters(self, figures):
        noisy = figures["noise of 30 HU"]
        assert noisy.compared["gamma_2_2"] > 99 and abs(change(noisy, "mean")) < AGREEMENT

    @pytest.mark.parametrize("name", KNOWN)
    def test_their_gamma_shows_other_errors(self, figures, name):
        assert figures[name].compared["gamma_2_2"] < 99.9

    def test_they_stop_where_the_water_on_their_way_says(self, case):
        """One beam along an axis: its dose moves along each line to the same water-equivalent depth as before."""
        beam = Beams("proton", (270,))
        plan = Plan(beam, case.grid, case.density(beam, "identical"), case.body, case.target, {}, PRESCRIPTION)
        (before,) = depths(case, beam, "identical")
        for name in KNOWN:
            (after,) = depths(case, beam, name)
            found, expected = plan.dose(case.density(beam, name), name), np.zeros_like(plan.reference_dose)
            for j, k in np.ndindex(expected.shape[1:]):  # from the right, against the first axis
                line = plan.reference_dose[::-1, j, k]
                expected[::-1, j, k] = np.interp(after[::-1, j, k], before[::-1, j, k], line)
            moved = [float(ends(dose, case.target).mean()) for dose in (plan.reference_dose, found, expected)]
            assert moved[1] - moved[0] == pytest.approx(moved[2] - moved[0], abs=GRID_MM / 10)
            assert abs(moved[1] - moved[0]) > 2 * GRID_MM / 10, "the error moves the range"
