"""Where registration begins: the right place is found among wrong bones."""

import numpy as np
import pytest
from registration import limbs
from scipy import ndimage
from sklearn.metrics import mutual_info_score

from medical_gans.studies.registration.starts import find_starts
from medical_gans.transforms import body_mask


def _starts(motion: limbs.Motion, **options):
    mr, ct = limbs.mr_of(limbs.tissue(limbs.points())), limbs.ct_of(limbs.tissue(motion(limbs.points())))
    body = body_mask(mr, limbs.SPACING, "MR")
    return find_starts(mr, limbs.affine(), body, ct, limbs.affine(), **options)


@pytest.mark.parametrize("shift", [(0, 0, 0), (18, -24, 12), (-24, 6, -18)])
def test_the_best_start_is_the_known_shift(shift):
    best = _starts(limbs.Motion(shift), rotation=0.0)[0]
    assert best.matrix[:3, :3] == pytest.approx(np.eye(3))
    off = best.matrix[:3, 3] + shift
    assert np.abs(off[:2]).max() < 3.1 and abs(off[2]) < 12.1, "a shaft says little about a shift along it"


def test_a_turned_limb_is_found_by_a_turned_start():
    motion = limbs.Motion((10, 0, 0), turn=(0, 0, 15))
    best = _starts(motion, rotation=15.0)[0]
    bone = limbs.points()[limbs.tissue(limbs.points()) == 3]
    found = motion(bone @ best.matrix[:3, :3].T + best.matrix[:3, 3])
    untouched = np.linalg.norm(motion(bone) - bone, axis=-1).mean()
    assert np.linalg.norm(found - bone, axis=-1).mean() < 0.6 * untouched


def test_starts_of_one_rotation_differ_and_come_best_first():
    starts = _starts(limbs.Motion(), rotation=0.0)
    assert len(starts) == 3
    assert [s.information for s in starts] == sorted((s.information for s in starts), reverse=True)
    apart = [np.abs(a.matrix - b.matrix).max() for a in starts for b in starts if a is not b]
    assert min(apart) > 12


def test_the_score_is_the_mutual_information_of_the_classes_that_overlap():
    """Against scikit-learn, on a grid where nothing is interpolated."""
    rng = np.random.default_rng(0)
    mr = ndimage.gaussian_filter(rng.normal(size=(20, 18, 16)), 1.5) * 100 + 50
    ct = ndimage.gaussian_filter(rng.normal(size=(20, 18, 16)), 1.5) * 2000
    grid, body = np.diag([6.0, 6.0, 6.0, 1.0]), np.ones(mr.shape, bool)
    best = find_starts(mr, grid, body, ct, grid, rotation=0.0, reach=12.0, spacing=6.0)[0]
    shift = np.rint(best.matrix[:3, 3] / 6).astype(int)
    assert np.abs(shift).max() <= 2
    fixed, moving = (ndimage.gaussian_filter(image.astype(np.float32), 0.4) for image in (mr, ct))
    classes = np.digitize(fixed, np.quantile(fixed, (0.1, 0.25, 0.45, 0.65, 0.85)))
    other = np.digitize(moving, (-500.0, -130.0, -30.0, 30.0, 100.0, 250.0))
    here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, mr.shape, strict=True))
    there = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(shift, mr.shape, strict=True))
    expected = mutual_info_score(classes[here].ravel(), other[there].ravel())
    assert best.share == pytest.approx(classes[here].size / mr.size, abs=1e-3)
    assert best.information == pytest.approx(expected * min(1, best.share / 0.8), abs=2e-3)


def test_a_ct_out_of_reach_gives_no_start():
    label = limbs.tissue(limbs.points())
    mr, ct = limbs.mr_of(label), limbs.ct_of(label)
    far = limbs.affine()
    far[:3, 3] += 400
    body = body_mask(mr, limbs.SPACING, "MR")
    assert find_starts(mr, limbs.affine(), body, ct, far, rotation=0.0) == []
