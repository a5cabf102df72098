"""Bad registrations are refused, and a pair is trusted only where MR and CT tell the same story."""

import numpy as np
import pytest
from registration import limbs
from scipy import ndimage

from medical_gans.studies.registration.trust import Limits, jacobian_determinant, judge
from medical_gans.transforms import body_mask

LABEL = limbs.tissue(limbs.points())
MR = limbs.mr_of(LABEL)
BODY = body_mask(MR, limbs.SPACING, "MR")


def _judged(hounsfield, view=None, change=None):
    view = np.ones(MR.shape, bool) if view is None else view
    return judge(MR, hounsfield, BODY, view, limbs.SPACING, change)


def test_an_aligned_pair_passes_and_is_trusted_nearly_everywhere():
    agreement, mask, trusted = _judged(limbs.ct_of(LABEL))
    assert agreement.refusals(Limits()) == []
    assert agreement.dark_cortex > 0.95 and agreement.trusted > 0.9
    assert np.array_equal(mask, BODY)
    assert trusted[LABEL == 0].mean() > 0.95, "air that both show teaches too"


@pytest.mark.parametrize("level", [1.0, 0.4])
def test_the_lead_of_bone_over_its_surroundings_does_not_need_a_strong_contrast(level):
    faint = np.where(LABEL == 3, MR + level * 60, MR)
    right, _, _ = judge(faint, limbs.ct_of(LABEL), BODY, BODY | True, limbs.SPACING)
    moved = limbs.ct_of(limbs.tissue(limbs.Motion((9, 0, 0))(limbs.points())))
    wrong, _, _ = judge(faint, moved, BODY, BODY | True, limbs.SPACING)
    assert right.cortex_lead > 0.2 and wrong.cortex_lead < 0.1


def test_dark_cortex_is_the_share_of_bone_and_soft_tissue_pairs_with_darker_bone():
    hounsfield = limbs.ct_of(limbs.tissue(limbs.Motion((8, 0, 0))(limbs.points())))
    agreement, _, _ = _judged(hounsfield)
    bone = BODY & (hounsfield > 600)
    distance = ndimage.distance_transform_edt(~bone, sampling=limbs.SPACING)
    near = BODY & (np.abs(hounsfield) < 150) & (distance >= 3) & (distance <= 10)
    rng = np.random.default_rng(0)
    drawn, other = rng.choice(MR[bone], 200_000), rng.choice(MR[near], 200_000)
    assert agreement.dark_cortex == pytest.approx((drawn < other).mean(), abs=0.01)


@pytest.mark.parametrize("shift", [(14, 0, 0), (0, -14, 0), (-10, 10, 0)])
def test_a_bone_beside_its_place_is_refused_in_words(shift):
    agreement, _, _ = _judged(limbs.ct_of(limbs.tissue(limbs.Motion(shift)(limbs.points()))))
    reasons = agreement.refusals(Limits())
    assert any("dark cortex" in reason and f"{agreement.cortex_lead:.2f}" in reason for reason in reasons), reasons


def test_a_body_outside_the_ct_is_refused_in_words():
    emptied = np.where(np.arange(MR.shape[0])[:, None, None] < 26, -1000, limbs.ct_of(LABEL))
    agreement, _, trusted = _judged(emptied)
    assert any("lies in air on the CT" in reason for reason in agreement.refusals(Limits()))
    assert not (trusted & BODY)[:25].any()


def test_what_the_ct_does_not_cover_is_neither_in_the_mask_nor_trusted():
    view = np.ones(MR.shape, bool)
    view[:, :, 18:] = False
    agreement, mask, trusted = _judged(np.where(view, limbs.ct_of(LABEL), -1024), view)
    assert not mask[:, :, 18:].any() and not trusted[:, :, 18:].any()
    assert agreement.unseen == pytest.approx(BODY[:, :, 18:].sum() / BODY.sum())
    assert agreement.outside == pytest.approx(_judged(limbs.ct_of(LABEL))[0].outside, abs=0.01)


def test_a_part_that_does_not_fit_is_not_trusted_and_the_rest_is():
    hounsfield = limbs.ct_of(LABEL)
    from_middle = np.linalg.norm(limbs.points() - (-22, 6, 6), axis=-1)
    wrong = from_middle < 9
    assert (LABEL[wrong] == 2).mean() > 0.99
    hounsfield[wrong] = 1200
    _, _, trusted = _judged(hounsfield)
    assert not trusted[from_middle < 4].any()
    far = BODY & (ndimage.distance_transform_edt(~wrong, sampling=limbs.SPACING) > 20)
    assert trusted[far].mean() > 0.9


def test_without_bone_the_cortex_is_not_judged():
    agreement, _, _ = _judged(limbs.ct_of(np.where(LABEL > 2, 2, LABEL)))
    assert agreement.dark_cortex is None


def test_the_change_of_volume_is_the_determinant_of_an_affine():
    matrix = np.array([[1.1, 0.1, 0.0], [0.0, 0.8, 0.2], [-0.1, 0.0, 1.3]])
    change = jacobian_determinant(limbs.points() @ matrix.T, limbs.SPACING)
    assert change == pytest.approx(np.linalg.det(matrix))


def test_a_deformation_that_folds_is_refused():
    where = limbs.points()
    where[..., 0] -= 12 * np.sin(where[..., 0] / 5)
    agreement, _, _ = _judged(limbs.ct_of(LABEL), change=jacobian_determinant(where, limbs.SPACING))
    assert agreement.folded > 0.1
    assert any("folds" in reason for reason in agreement.refusals(Limits()))


def test_a_bone_that_the_body_on_the_mr_misses_is_in_the_mask_and_trusted():
    """At the edge of an image dark cortex looks like air around the body."""
    missed = (LABEL >= 3) & (limbs.points()[..., 2] > 10)
    _, mask, trusted = judge(MR, limbs.ct_of(LABEL), BODY & ~missed, BODY | True, limbs.SPACING)
    assert mask[missed].mean() > 0.95 and trusted[missed & (LABEL == 3)].mean() > 0.9
