"""The figures of the vault, against spheres whose figures are known in closed form, and real CT."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medical_gans.metrics.vault import measure_vault
from medical_gans.transforms import body_mask

CT = Path(__file__).parents[2] / ".." / "shared" / "data" / "head_unpaired" / "ct"
MIDDLE_MM, SKIN_MM = 100.0, 75.0


def head(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), skull: tuple[float, float] = (60.0, 68.0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU, body and distance from the middle in mm: a ball of 75 mm, so that the rays start at its centre."""
    axes = [np.arange(round(200 / edge)) * edge - MIDDLE_MM for edge in spacing]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    hounsfield = np.full(radius.shape, 35.0)
    hounsfield[(radius > skull[0]) & (radius <= skull[1])] = 1100.0
    hounsfield[radius > SKIN_MM] = -1024.0
    return hounsfield, radius <= SKIN_MM, radius


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 2.0), (2.0, 1.0, 1.5)])
def test_a_spherical_skull_has_its_thickness_whatever_the_voxels(spacing: tuple[float, float, float]) -> None:
    found = measure_vault(*head(spacing)[:2], spacing)
    assert found is not None
    assert found.closed == 1.0
    assert found.thickness_mm == pytest.approx(8.0, abs=0.6 * max(spacing))
    assert found.largest_hu == pytest.approx(1100.0, abs=30.0)
    assert found.inner_bone == 0.0
    assert found.brain_spread_hu == 0.0


def test_marrow_of_half_the_hounsfield_of_the_tables_gives_a_density_ratio_of_one_half() -> None:
    hounsfield, body, radius = head(skull=(56.0, 68.0))
    plain = measure_vault(hounsfield, body, (1.0, 1.0, 1.0))
    hounsfield[(radius > 60) & (radius <= 64)] = 550.0
    found = measure_vault(hounsfield, body, (1.0, 1.0, 1.0))
    assert plain is not None and found is not None
    assert plain.density_ratio == pytest.approx(1.0, abs=0.01)
    assert found.density_ratio == pytest.approx(0.5, abs=0.03)


def test_a_hole_opens_its_share_of_the_solid_angle() -> None:
    hounsfield, body, radius = head()
    cosine = (np.arange(200) - MIDDLE_MM)[None, None] / np.maximum(radius, 1.0)
    hounsfield[(cosine > np.cos(np.deg2rad(30.0))) & body] = 35.0
    found = measure_vault(hounsfield, body, (1.0, 1.0, 1.0))
    assert found is not None
    open_share = (1 - np.cos(np.deg2rad(30.0))) / (1 - np.sin(np.deg2rad(15.0)))
    assert 1 - found.closed == pytest.approx(open_share, abs=0.01)


def test_bone_in_the_brain_is_its_share_of_the_inner_volume() -> None:
    hounsfield, body, radius = head()
    hounsfield[radius < 20.0] = 400.0
    found = measure_vault(hounsfield, body, (1.0, 1.0, 1.0))
    assert found is not None
    assert found.inner_bone == pytest.approx((20.0 / (0.7 * SKIN_MM)) ** 3, abs=0.005)


def test_the_spread_is_that_of_the_brain() -> None:
    hounsfield, body, radius = head()
    noise = np.random.default_rng(0).normal(35.0, 200.0, radius.shape)
    left = np.indices(radius.shape, sparse=True)[0] < MIDDLE_MM
    hounsfield[radius < 55.0] = np.broadcast_to(np.where(left, 25.0, 45.0), radius.shape)[radius < 55.0]
    found = measure_vault(hounsfield, body, (1.0, 1.0, 1.0))
    assert found is not None
    assert found.brain_spread_hu == pytest.approx(20.0, abs=1.0)
    hounsfield[radius < 55.0] = noise[radius < 55.0]
    noisy = measure_vault(hounsfield, body, (1.0, 1.0, 1.0))
    assert noisy is not None
    assert noisy.brain_spread_hu > 100.0


def test_nothing_is_measured_where_the_head_is_not_in_the_picture() -> None:
    hounsfield, body, _ = head()
    edges = (1.0, 1.0, 1.0)
    assert measure_vault(hounsfield, np.zeros_like(body), edges) is None
    assert measure_vault(hounsfield[:, :, :150], body[:, :, :150], edges) is None  # vertex cut off
    assert measure_vault(hounsfield[:, :, 120:], body[:, :, 120:], edges) is None  # less than 75 mm of it
    assert measure_vault(hounsfield[70:130], body[70:130], edges) is None  # the sides cut off


@pytest.mark.skipif(not CT.is_dir(), reason="needs ../shared/data/head_unpaired")
@pytest.mark.parametrize("name", ["medify_1_adult", "unc_cthead"])
def test_true_heads_are_closed_and_hold_no_bone_inside(name: str) -> None:
    image = nibabel.as_closest_canonical(nibabel.load(CT / f"{name}.nii.gz"))
    hounsfield, spacing = np.asarray(image.dataobj), image.header.get_zooms()
    found = measure_vault(hounsfield, body_mask(hounsfield, spacing, "CT"), spacing)
    assert found is not None
    assert found.closed > 0.985
    assert 5.0 < found.thickness_mm < 11.0
    assert 900.0 < found.largest_hu < 1500.0
    assert found.inner_bone < 0.002
    assert 5.0 < found.brain_spread_hu < 20.0
