"""Lesions of known place and volume."""

from __future__ import annotations

import numpy as np
import pytest

from medical_gans.errors import SettingError
from medical_gans.phantom import Grid, Lesion, Tissue, head, limb
from medical_gans.phantom.tissues import BRAIN


def around(lesion: Lesion, spacing: float = 1.0) -> Grid:
    size = int(4 * lesion.radius_mm / spacing)
    return Grid.axial((size, size, size), spacing, lesion.centre_mm)


@pytest.mark.parametrize("radius", [5.0, 9.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_haemorrhage_has_the_volume_of_its_sphere(seed, radius):
    phantom = head(seed, [Lesion("haemorrhage", radius)])
    grid = around(phantom.lesions[0])
    assert phantom.lesion_mask(grid).sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)
    coarse = Grid.axial((40, 40, 40), (1.5, 1.5, 2), phantom.lesions[0].centre_mm)
    assert phantom.lesion_mask(coarse).sum() * 4.5 == pytest.approx(phantom.lesion_mask(grid).sum(), rel=0.05)


def test_lesion_replaces_only_its_host_tissue_and_leaves_the_rest_alone():
    healthy, ill = head(seed=3), head(seed=3, lesions=[Lesion("tumour", 12)])
    grid = around(ill.lesions[0])
    before, after, mask = healthy.tissues(grid), ill.tissues(grid), ill.lesion_mask(grid)
    np.testing.assert_array_equal(before[~mask], after[~mask])
    assert np.isin(before[mask], BRAIN).all()
    assert (before[after == Tissue.OEDEMA] == Tissue.WHITE_MATTER).all()


def test_tumour_has_a_dead_core_within_a_solid_rim_within_oedema():
    phantom = head(seed=5, lesions=[Lesion("tumour", 10)])
    grid = around(phantom.lesions[0])
    labels = phantom.tissues(grid)
    distance = np.linalg.norm(np.indices(labels.shape) - (np.array(labels.shape)[:, None, None, None] - 1) / 2, axis=0)
    core, rim, oedema = (distance[labels == kind].mean() for kind in (Tissue.NECROSIS, Tissue.TUMOUR, Tissue.OEDEMA))
    assert core < rim < oedema
    solid = np.isin(labels, (Tissue.TUMOUR, Tissue.NECROSIS)).sum()
    assert solid == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.1)


def test_given_centre_is_kept_and_random_ones_differ():
    fixed = head(seed=2, lesions=[Lesion("haemorrhage", 4, centre_mm=(30.0, 0.0, 20.0))])
    assert fixed.lesions[0].centre_mm == (30.0, 0.0, 20.0)
    assert fixed.tissues_at(np.array([[30], [0], [20]], dtype=np.float32)) == Tissue.HAEMORRHAGE
    several = head(seed=2, lesions=[Lesion("haemorrhage", 3)] * 3)
    assert len({lesion.centre_mm for lesion in several.lesions}) == 3


def test_lesion_of_a_limb_lies_in_muscle():
    phantom = limb(seed=1, lesions=[Lesion("tumour", 15)])
    grid = around(phantom.lesions[0], 2)
    replaced = limb(seed=1).tissues(grid)[phantom.lesion_mask(grid)]
    assert replaced.size
    assert (replaced == Tissue.MUSCLE).all()


@pytest.mark.parametrize(("kind", "radius"), [("cyst", 5), ("tumour", 0), ("tumour", float("nan"))])
def test_impossible_lesions_are_refused(kind, radius):
    with pytest.raises(SettingError):
        Lesion(kind, radius)
