"""Images of the two scanners: contrast, relaxation at 3 T and blooming."""

from __future__ import annotations

import numpy as np
import pytest

from medical_gans.errors import SettingError
from medical_gans.phantom import Grid, Tissue, head
from medical_gans.phantom.findings import STAGES
from medical_gans.phantom.scanners import SCANNERS, named_scanner, scan, timed
from medical_gans.phantom.sequences import SpoiledGradientEcho, SusceptibilityWeighted
from medical_gans.phantom.susceptibility import HERTZ_PER_PPM_AND_TESLA
from medical_gans.phantom.tissue_maps import TissueMaps, substance_of

CLEAN = {"blur_mm": 0.0, "bias": 0.0, "noise": 0.0}
GRID = Grid.axial((32, 32, 32), 1.0)
RADIUS = 5.0
GRE, SWI = SCANNERS["source"].sequences["GRE"], SCANNERS["target"].sequences["SWI"]


def uniform(grid: Grid = GRID) -> TissueMaps:
    """White matter everywhere."""
    maps = TissueMaps(grid, *(np.ones(grid.shape, dtype=np.float32) for _ in range(5)))
    maps.fill(np.arange(np.prod(grid.shape)), substance_of(Tissue.WHITE_MATTER))
    return maps


def with_haemorrhage(stage: str = "acute") -> tuple[TissueMaps, np.ndarray]:
    maps = uniform()
    points = np.concatenate([found for _, found in GRID.slabs()], axis=1)
    inside = np.linalg.norm(points, axis=0) < RADIUS
    maps.fill(np.flatnonzero(inside), STAGES[stage])
    return maps, inside.reshape(GRID.shape)


def dark(image: np.ndarray) -> int:
    return int((image < 0.5 * np.median(image)).sum())


@pytest.mark.parametrize(
    ("tissue", "t1", "t2_star"),
    # at 3 T; T2*: Peters et al., MRI 25:748 (2007). T1: Rooney et al., MRM 57:308 (2007), interpolated.
    [(Tissue.GREY_MATTER, 1300, 66), (Tissue.WHITE_MATTER, 800, 53), (Tissue.CSF, 4000, None)],
)
def test_relaxation_at_3_tesla_agrees_with_measurements(tissue, t1, t2_star):
    maps = uniform()
    maps.fill(np.arange(1), substance_of(tissue))
    found_t1, _, found_t2_star = maps.relaxation(3.0)
    assert found_t1.flat[0] == pytest.approx(t1, rel=0.1)
    if t2_star:
        assert found_t2_star.flat[0] == pytest.approx(t2_star, rel=0.1)


def test_relaxation_at_the_field_of_the_table_is_the_table():
    found = [float(values.flat[0]) for values in uniform().relaxation(1.5)]
    assert found == pytest.approx(substance_of(Tissue.WHITE_MATTER)[:3], rel=1e-5)


@pytest.mark.parametrize("name", list(SCANNERS["source"].sequences))
def test_even_tissue_has_the_signal_of_the_equation(name):
    sequence = SCANNERS["source"].sequences[name]
    signals = {tissue: float(sequence.signal(*substance_of(tissue)[:4])) for tissue in Tissue}
    image = scan(uniform(Grid.axial((4, 4, 4), 1)), sequence, tesla=1.5, **CLEAN)
    expected = 1000 * signals[Tissue.WHITE_MATTER] / max(signals.values())
    np.testing.assert_allclose(image, expected, rtol=1e-4)


def test_fluid_is_bright_in_the_gradient_echo_and_dark_in_susceptibility_weighting():
    maps = uniform()
    order = []
    for sequence, tesla in ((GRE, 1.5), (SWI, 3.0)):
        signals = []
        for tissue in (Tissue.CSF, Tissue.GREY_MATTER, Tissue.WHITE_MATTER):
            maps.fill(np.arange(maps.susceptibility.size), substance_of(tissue))
            signals.append(float(sequence.signal(*maps.relaxation(tesla), maps.proton_density).flat[0]))
        order.append(np.argsort(signals).tolist())
    assert order == [[2, 1, 0], [0, 1, 2]]  # from dark to bright: white, grey, fluid; fluid, grey, white


@pytest.mark.parametrize("kind", [SpoiledGradientEcho, SusceptibilityWeighted])
def test_dark_region_of_a_haemorrhage_grows_with_echo_time(kind):
    maps, inside = with_haemorrhage()
    sizes = [
        dark(scan(maps, kind(100, echo_time, 20), tesla=1.5, voxel_mm=(1, 1, 3), **CLEAN)) for echo_time in (10, 20, 40)
    ]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] > 1.3 * inside.sum()


def test_dark_region_grows_with_the_field_strength():
    maps, inside = with_haemorrhage()
    low, high = (dark(scan(maps, GRE, tesla=tesla, voxel_mm=(1, 1, 3), **CLEAN)) for tesla in (1.5, 3.0))
    assert inside.sum() < low < high


def test_spin_echo_does_not_bloom():
    maps, inside = with_haemorrhage("chronic")
    image = scan(maps, SCANNERS["source"].sequences["T2w"], tesla=1.5, **CLEAN)
    np.testing.assert_array_equal(image < 0.8 * np.median(image), inside)


def test_blooming_along_the_field_reaches_where_a_dipole_makes_half_a_cycle():
    maps, _ = with_haemorrhage()
    image = scan(maps, GRE, tesla=1.5, voxel_mm=(0.001, 0.001, 3.0), **CLEAN)[16, 16]
    place = np.arange(32) - 15.5
    # along z the field is 2/3 chi (a / r)^3, its slope 2 chi a^3 / r^4; sinc(0.6034) = 1/2
    cycles = 3.0 * HERTZ_PER_PPM_AND_TESLA * 1.5 * GRE.echo_time_ms / 1000 * 2 * STAGES["acute"].susceptibility
    reach = (cycles * RADIUS**3 / 0.6034) ** 0.25
    found = place[(image > 0.5 * np.median(image)) & (place > 0)].min()
    assert found == pytest.approx(reach, abs=1.0)


def test_vein_along_the_field_is_darker_in_susceptibility_weighting_than_its_decay_alone():
    maps = uniform()
    maps.susceptibility[16, 16, :] = 0.45
    plain = scan(maps, SpoiledGradientEcho(29, 20, 15), tesla=3.0, **CLEAN)
    weighted = scan(maps, SWI, tesla=3.0, **CLEAN)
    assert weighted[16, 16, 16] < 0.5 * plain[16, 16, 16]


def test_projection_shows_the_least_of_a_slab():
    maps, _ = with_haemorrhage()
    single, slab = (
        scan(maps, SusceptibilityWeighted(29, 20, 15, projection_mm=width), tesla=3.0, **CLEAN) for width in (0, 5)
    )
    np.testing.assert_array_equal(slab[:, :, 20], single[:, :, 18:23].min(axis=2))


def test_susceptibility_weighted_noise_is_seeded():
    maps = uniform(Grid.axial((16, 16, 4), 2.0))
    first, again, other = (scan(maps, SWI, tesla=3.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_air_of_the_sinuses_darkens_the_brain_above_in_gradient_echoes_alone():
    phantom = head(seed=1)
    grid = Grid.axial((20, 20, 25), 2.0, (0, 45, -12))
    maps = TissueMaps.of(phantom, grid)
    brain = np.isin(phantom.tissues(grid), (Tissue.GREY_MATTER, Tissue.WHITE_MATTER))
    near = brain & (maps.susceptibility < 1)
    kept = {}
    for name in ("GRE", "T2w"):
        sequence = SCANNERS["target"].sequences[name]
        whole = scan(maps, sequence, tesla=3.0, voxel_mm=(1, 1, 3), **CLEAN)
        flat = scan(maps, sequence, tesla=3.0, field_ppm=np.zeros(grid.shape, dtype=np.float32), **CLEAN)
        kept[name] = (whole / np.maximum(flat, 1e-6))[near].min()
    assert kept["GRE"] < 0.5
    assert kept["T2w"] == pytest.approx(1)


def test_timing_multiplies_the_times_and_leaves_the_angle():
    assert timed(SusceptibilityWeighted(30, 20, 15), 1.1) == SusceptibilityWeighted(33, 22, 15)


def test_unknown_domain_is_refused():
    with pytest.raises(SettingError, match="source, target"):
        named_scanner("hospital")
