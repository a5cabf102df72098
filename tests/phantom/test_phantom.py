"""Anatomy: the same on every grid, the same for a seed, another for another, never symmetric."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medical_gans.phantom import Grid, Tissue, head, limb
from medical_gans.phantom.head import Head
from medical_gans.phantom.tissues import BONE, BRAIN, LESION

HEAD_GRID = Grid.axial((70, 84, 76), 3, (0, 5, -10))


@pytest.fixture(scope="module")
def labels():
    return head(seed=3).tissues(HEAD_GRID)


@pytest.mark.parametrize("anatomy", [head, limb])
def test_flipped_and_permuted_grids_show_the_same_anatomy(anatomy):
    phantom, grid = anatomy(seed=1), Grid.axial((40, 44, 48), 4)
    axial = phantom.tissues(grid)
    affine = grid.affine @ np.array([[0, -1, 0, 39], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    turned = phantom.tissues(Grid((48, 40, 44), affine))
    assert (turned == axial[::-1].transpose(2, 0, 1)).mean() > 0.9999  # float32 may turn a tie at a boundary


@pytest.mark.parametrize("anatomy", [head, limb])
def test_oblique_grid_shows_the_tissue_of_the_axial_grid_at_the_same_millimetre(anatomy):
    phantom, fine = anatomy(seed=2), Grid.axial((90, 90, 90), 1, (20, 30, -30))
    reference = phantom.tissues(fine)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() @ np.diag((1.5, 2, 3))
    affine[:3, 3] = np.array((20, 30, -30)) - affine[:3, :3] @ (14.5, 11, 7)
    oblique = Grid((30, 23, 15), affine)
    points = (affine @ np.stack([*np.indices(oblique.shape).reshape(3, -1), np.ones(30 * 23 * 15)]))[:3]
    index = np.rint(points - fine.affine[:3, 3:]).astype(int)
    inside = ((index > 0) & (index < 89)).all(axis=0)
    uniform = ndimage.minimum_filter(reference, 3) == ndimage.maximum_filter(reference, 3)
    sure = inside.copy()
    sure[inside] = uniform[tuple(index[:, inside])]
    assert sure.sum() > 2000
    agreement = phantom.tissues(oblique).ravel()[sure] == reference[tuple(index[:, sure])]
    assert agreement.mean() > 0.999  # all but streaks of fat thinner than the reference's voxels


@pytest.mark.parametrize("anatomy", [head, limb])
def test_seed_decides_the_anatomy(anatomy):
    grid = Grid.axial((40, 44, 44), 5)
    first, again, other = (anatomy(seed).tissues(grid) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    bone, other_bone = np.isin(first, BONE), np.isin(other, BONE)
    dice = 2 * (bone & other_bone).sum() / (bone.sum() + other_bone.sum())
    assert 0.1 < dice < 0.9


def test_every_healthy_tissue_of_the_table_is_in_a_head(labels):
    missing = set(Tissue) - {Tissue(value) for value in np.unique(labels)}
    assert missing <= {*LESION, Tissue.FATTY_MARROW}


@pytest.mark.parametrize("seed", range(4))
def test_skull_is_closed_over_the_vault(seed):
    grid = Grid.axial((150, 180, 60), (1.3, 1.3, 1.3), (0, 0, 45))
    labels = head(seed).tissues(grid)
    within = np.isin(labels, (*BRAIN, Tissue.CONNECTIVE, Tissue.BLOOD, Tissue.CALCIFICATION))
    outside = np.isin(labels, (Tissue.AIR, Tissue.SKIN, Tissue.FAT, Tissue.MUSCLE))
    assert within.sum() > 300_000
    assert not (ndimage.binary_dilation(within) & outside).any()


@pytest.mark.parametrize("seed", range(4))
def test_right_sinuses_of_a_head_are_larger_than_the_left(seed):
    points = (HEAD_GRID.affine[:3, :3] @ np.indices(HEAD_GRID.shape).reshape(3, -1)).astype(np.float32)
    points += HEAD_GRID.affine[:3, 3:].astype(np.float32)
    x, y, z = points
    air = Head(np.random.default_rng(seed)).labels(points) == Tissue.CAVITY_AIR
    maxilla = air & (np.abs(x) > 18) & (y > 30) & (np.abs(z + 70) < 16)
    assert (maxilla & (x > 0)).sum() > 1.5 * (maxilla & (x < 0)).sum() > 0


@pytest.mark.parametrize("seed", range(4))
def test_calcified_plexus_tells_right_from_left(seed):
    labels = head(seed).tissues(HEAD_GRID)
    x = HEAD_GRID.affine[0, 0] * np.nonzero(labels == Tissue.CALCIFICATION)[0] + HEAD_GRID.affine[0, 3]
    assert x.max() > 12
    assert x.min() > -12


@pytest.mark.parametrize("seed", range(4))
def test_vessels_of_a_limb_lie_medially(seed):
    grid = Grid.axial((80, 80, 20), (3, 3, 8))
    labels = limb(seed).tissues(grid)
    x = grid.affine[0, 0] * np.arange(80) + grid.affine[0, 3]
    blood, bone = (np.isin(labels, kinds).sum(axis=(1, 2)) for kinds in ((Tissue.BLOOD,), BONE))
    assert np.average(x, weights=blood) < np.average(x, weights=bone) - 15


def test_brain_and_skull_have_the_volumes_of_an_adult(labels):
    millilitres = 3**3 / 1000
    brain = np.isin(labels, (Tissue.GREY_MATTER, Tissue.WHITE_MATTER, Tissue.DEEP_GREY_MATTER)).sum()
    assert 900 < brain * millilitres < 1700
    assert 0.7 < (labels == Tissue.GREY_MATTER).sum() / (labels == Tissue.WHITE_MATTER).sum() < 2.2


def test_latest_label_map_is_kept_and_cannot_be_changed():
    phantom, grid = limb(seed=0), Grid.axial((8, 8, 8), 20)
    labels = phantom.tissues(grid)
    assert phantom.tissues(Grid.axial((8, 8, 8), 20)) is labels
    with pytest.raises(ValueError, match="read-only"):
        labels[0, 0, 0] = 1
    assert phantom.tissues(Grid.axial((8, 8, 8), 21)) is not labels


def test_body_mask_is_one_piece_that_holds_the_air_within():
    phantom = head(seed=6)
    mask = phantom.body_mask(HEAD_GRID)
    _, pieces = ndimage.label(mask)
    assert pieces == 1
    assert mask[phantom.tissues(HEAD_GRID) == Tissue.CAVITY_AIR].all()
