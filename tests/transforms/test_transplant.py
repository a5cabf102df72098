"""Lesions of one head come to lie at the same place of another, dark and labelled, on a T1 that had its own."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.transforms.transplant import (
    Head,
    bright_limit,
    carried,
    deformation,
    found,
    head,
    healed,
    painted,
    usual,
    widened,
)

SPACING = 3.0
AFFINE = np.diag([-SPACING, SPACING, SPACING, 1.0])  # stored from right to left
SHAPE = (56, 64, 52)
MIDDLE = np.array([84.0, 96.0, 78.0])


def ellipsoid(middle, radii):
    axes = np.meshgrid(*[np.arange(n) * SPACING for n in SHAPE], indexing="ij")
    return sum(((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radii, strict=True)) < 1


def anatomy(wide=1.0, shift=0.0):
    """Brain and its two ventricles, in voxels."""
    middle = MIDDLE + shift
    brain = ellipsoid(middle, (60 * wide, 78, 57))
    sides = [ellipsoid(middle + np.array([side * 14 * wide, 0, 0]), (8 * wide, 36, 12)) for side in (-1, 1)]
    return brain, sides


def signal(brain, ventricles, tissue, liquid):
    rng = np.random.default_rng(0)
    image = np.where(brain, tissue, 0.0)
    image[ventricles] = liquid
    return (ndimage.gaussian_filter(image, 0.4) + 0.01 * rng.standard_normal(SHAPE)) * 300


def test_white_matter_is_one_and_liquid_is_none_whatever_the_coil():
    brain, sides = anatomy()
    field = 0.8 + 0.4 * np.linspace(0, 1, SHAPE[1])[None, :, None]
    given = signal(brain, sides[0] | sides[1], 1.0, 0.25) * field
    made = head(given, brain, AFFINE, "T1")
    assert made.image[brain] * made.white[brain] == pytest.approx(given[brain], rel=1e-5)
    inner = ndimage.binary_erosion(brain, iterations=3) & ~ndimage.binary_dilation(sides[0] | sides[1], iterations=3)
    assert made.image[inner].mean() == pytest.approx(1.0, abs=0.03) and made.image[inner].std() < 0.05
    assert made.solid[inner].min() > 0.9
    assert made.solid[ndimage.binary_erosion(sides[0])].max() < 0.1
    assert not made.image[~brain].any() and not made.solid[~brain].any()


def test_a_lesion_comes_to_lie_beside_the_same_ventricle_of_another_head():
    brain, sides = anatomy()
    lesion = ellipsoid(MIDDLE + np.array([26, 10, 4]), (6, 14, 8)) & brain
    image = signal(brain, sides[0] | sides[1], 1.0, 0.3)
    image[lesion] *= 1.6
    flair = head(image, brain, AFFINE, "FLAIR")
    other, other_sides = anatomy(wide=1.15, shift=15.0)  # a wider head, elsewhere
    t1 = head(signal(other, other_sides[0] | other_sides[1], 1.0, 0.25), other, AFFINE, "T1")
    there = carried(lesion, AFFINE, t1, deformation(t1, flair)) > 0.5
    expected = ellipsoid(MIDDLE + 15.0 + np.array([26 * 1.15, 10, 4]), (6 * 1.15, 14, 8))
    assert 2 * (there & expected).sum() / (there.sum() + expected.sum()) > 0.75
    assert (there & (t1.solid < 0.5)).sum() < 0.1 * there.sum()


@pytest.fixture
def t1():
    """White matter, a lesion of its own at one place, a dark nucleus at another, liquid between."""
    image = np.ones((30, 30, 30), np.float32)
    own, nucleus, liquid = (np.zeros(image.shape, bool) for _ in range(3))
    own[4:9, 10:20, 10:20], nucleus[21:26, 10:20, 10:20], liquid[13:17, 10:20, 10:20] = True, True, True
    image[own | nucleus], image[liquid] = 0.7, 0.25
    solid = np.where(liquid, 0.0, 1.0).astype(np.float32)
    return Head(image, solid, np.ones_like(image), np.diag([2.0, 2.0, 2.0, 1.0])), own, nucleus, liquid


def test_what_is_dark_becomes_white_matter_where_lesions_are_usual_and_nowhere_else(t1):
    given, own, nucleus, liquid = t1
    usual = np.zeros(own.shape, bool)
    usual[:18] = True
    made = healed(given, usual, np.random.default_rng(0))
    assert made[own].mean() == pytest.approx(0.97, abs=0.02) and made[own].min() > 0.8
    assert np.array_equal(made[nucleus], given.image[nucleus]) and np.array_equal(made[liquid], given.image[liquid])


def test_what_is_dark_where_others_have_lesions_is_the_first_label(t1):
    given, own, nucleus, liquid = t1
    others = [np.zeros(own.shape, np.float32) for _ in range(2)]
    others[0][2:7, 13:20, 9:16], others[1][6:10, 9:16, 14:21] = 1.0, 1.0  # each covers a part of it
    where = usual(others, given.affine)
    assert where[own].mean() > 0.95 and not where[nucleus].any()
    made = found(given, where)
    assert 2 * (made & own).sum() / (made.sum() + own.sum()) > 0.85
    assert not made[nucleus].any() and not made[liquid].any()
    assert not found(given, np.zeros_like(where)).any()


@pytest.mark.parametrize("lesion", [1.3, 1.9])  # as bright as two scanners may show it
def test_on_flair_what_is_bright_where_lesions_may_lie_is_the_first_label(t1, lesion):
    given, own, nucleus, liquid = t1
    grey = 1 + 0.3 * (lesion - 1)  # grey matter is a little brighter than white
    image = np.where(own, lesion, np.where(nucleus, grey, given.image)).astype(np.float32)
    flair = Head(image, given.solid, given.white, given.affine)
    near = np.zeros(own.shape, np.float32)
    near[2:24] = 1.0
    where = usual([near], given.affine)
    assert where[nucleus].any()
    made = found(flair, where, "FLAIR")
    assert 2 * (made & own).sum() / (made.sum() + own.sum()) > 0.85
    assert not made[nucleus].any() and not made[liquid].any()
    assert not found(flair, np.zeros_like(where), "FLAIR", limit=1.4).any()
    assert found(flair, where, "FLAIR", limit=1.4).any() == (lesion > 1.4)


def test_the_limit_lies_seven_tenths_up_to_the_brightest_tissue(t1):
    given, own, _, liquid = t1
    image = np.where(own, 1.5, np.where(liquid, 3.0, 1.0)).astype(np.float32)  # what is no tissue does not count
    flair = Head(image, given.solid, given.white, given.affine)
    where = np.zeros_like(own)
    where[:18] = True
    assert bright_limit(flair, where) == pytest.approx(1.35)
    assert bright_limit(flair, ~own) == pytest.approx(1.0)


def test_lesions_of_another_disease_may_lie_10_mm_further():
    where = np.zeros((40, 40, 40), bool)
    where[20, 20, 20] = True
    made = np.argwhere(widened(where, np.diag([1.0, 2.0, 1.0, 1.0]))) - 20
    assert made[:, 0].max() == 10 and made[:, 1].max() == 5 and made[:, 2].min() == -10
    assert np.linalg.norm(made * [1, 2, 1], axis=1).max() <= 10


def test_a_painted_lesion_is_darker_by_what_was_asked_in_white_matter_only(t1):
    given, _, nucleus, liquid = t1
    lesion = np.zeros(given.image.shape, np.float32)
    lesion[10:26, 12:18, 12:18] = 1.0
    made, label = painted(given, given.image, lesion, np.ones_like(lesion), 0.3)
    white = (lesion > 0) & ~nucleus & ~liquid
    assert np.array_equal(label, white)
    assert made[white] == pytest.approx(0.7, abs=1e-5)
    assert np.array_equal(made[~white], given.image[~white])
    faint, _ = painted(given, given.image, lesion, np.full_like(lesion, 0.5), 0.3)
    assert faint[white] == pytest.approx(0.85, abs=1e-5)
