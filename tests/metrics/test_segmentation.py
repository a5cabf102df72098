"""Figures of masks against closed forms, brute force over all pairs of points, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, precision_score, recall_score

from medical_gans.metrics.segmentation import (
    dice,
    hausdorff_95_mm,
    lesion_f1,
    precision,
    segmentation_metrics,
    sensitivity,
    volume_error_ml,
)

SPACING = (1.0, 0.5, 3.0)


def box(*corners: tuple[int, int], shape: tuple[int, int, int] = (12, 14, 10)) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(*edge) for edge in corners)] = 1
    return mask


def brute_hausdorff_95(first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...]) -> float:
    """All distances between all surface voxels."""
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in (first > 0, second > 0)]
    distances = cdist(*points)
    return max(np.percentile(distances.min(0), 95), np.percentile(distances.min(1), 95))


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((2, 5, 6, 4)) > 0.7)


@settings(max_examples=40, deadline=None)
@given(masks)
def test_voxel_figures_are_those_of_scikit_learn(pair):
    prediction, truth = pair
    flat = truth.ravel(), prediction.ravel()
    assert dice(prediction, truth) == pytest.approx(f1_score(*flat))
    assert sensitivity(prediction, truth) == pytest.approx(recall_score(*flat))
    assert precision(prediction, truth) == pytest.approx(precision_score(*flat))


@settings(max_examples=40, deadline=None)
@given(masks)
def test_the_surface_distance_is_that_of_brute_force(pair):
    assert hausdorff_95_mm(*pair, SPACING) == pytest.approx(brute_hausdorff_95(*pair, SPACING), rel=1e-5)


def test_the_surface_distance_is_that_of_monai():
    import torch
    from monai.metrics import compute_hausdorff_distance

    pair = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((2, 20, 24, 16)), (0, 2, 2, 2)) > 0.1
    tensors = [torch.from_numpy(mask)[None, None] for mask in pair]
    theirs = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=list(SPACING))
    assert hausdorff_95_mm(*pair, SPACING) == pytest.approx(theirs.item(), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(masks)
def test_dice_and_distance_do_not_mind_which_mask_is_first(pair):
    assert dice(*pair) == dice(*pair[::-1])
    assert hausdorff_95_mm(*pair, SPACING) == hausdorff_95_mm(*pair[::-1], SPACING)


@pytest.mark.parametrize(("axis", "step"), [(0, 3), (1, 4), (2, 2)])
def test_a_shifted_plate_is_as_many_mm_away_as_it_was_shifted(axis, step):
    corners = [(0, 12), (0, 14), (0, 10)]
    corners[axis] = (2, 3)
    truth = box(*corners)
    assert hausdorff_95_mm(np.roll(truth, step, axis), truth, SPACING) == pytest.approx(step * SPACING[axis])


def test_half_of_a_box_has_the_figures_of_a_half():
    truth, prediction = box((2, 8), (3, 7), (1, 9)), box((2, 5), (3, 7), (1, 9))
    figures = segmentation_metrics(prediction, truth, SPACING)
    assert figures["dice"] == pytest.approx(2 * 96 / (96 + 192))
    assert figures["sensitivity"] == 0.5
    assert figures["precision"] == figures["lesion_f1"] == 1.0
    assert figures["volume_error_ml"] == pytest.approx(-96 * 1.5e-3)
    assert figures["absolute_volume_error_ml"] == pytest.approx(96 * 1.5e-3)


def test_the_volume_error_says_whether_too_much_or_too_little_was_found():
    large, small = box((0, 10), (0, 10), (0, 10), shape=(10, 10, 10)), np.zeros((10, 10, 10))
    assert volume_error_ml(large, small, (1, 1, 1)) == 1.0
    assert volume_error_ml(small, large, (1, 1, 1)) == -1.0


def test_lesions_count_alike_whatever_their_size():
    truth = box((0, 6), (0, 6), (0, 6)) | box((9, 10), (9, 10), (8, 9)) | box((9, 10), (2, 3), (2, 3))
    prediction = box((0, 1), (0, 1), (0, 1)) | box((9, 10), (9, 10), (8, 9)) | box((6, 7), (11, 13), (1, 2))
    assert lesion_f1(prediction, truth) == pytest.approx(2 / 3)  # 2 of 3 found, 2 of 3 right
    assert lesion_f1(prediction * 0 + box((6, 7), (11, 13), (1, 2)), truth) == 0.0


def test_lesions_that_touch_by_a_corner_are_one():
    diagonal = np.zeros((4, 4, 4))
    diagonal[1, 1, 1] = diagonal[2, 2, 2] = 1
    first_only = np.zeros((4, 4, 4))
    first_only[1, 1, 1] = 1
    assert lesion_f1(first_only, diagonal) == 1.0


def test_lesions_found_and_right_are_those_of_a_count_one_by_one():
    rng = np.random.default_rng(0)
    truth, prediction = (ndimage.gaussian_filter(rng.standard_normal((2, 24, 24, 24)), (0, 1.5, 1.5, 1.5)) > 0.12)[:]
    shares = []
    for mask, other in ((truth, prediction), (prediction, truth)):
        lesions, number = ndimage.label(mask, np.ones((3, 3, 3)))
        shares.append(sum(bool(other[lesions == lesion].any()) for lesion in range(1, number + 1)) / number)
    assert 0.1 < min(shares) < max(shares) < 1
    assert lesion_f1(prediction, truth) == pytest.approx(2 * shares[0] * shares[1] / sum(shares))


def test_two_empty_masks_agree():
    empty = np.zeros((4, 5, 6))
    figures = segmentation_metrics(empty, empty, SPACING)
    assert figures["dice"] == figures["sensitivity"] == figures["precision"] == figures["lesion_f1"] == 1.0
    assert figures["hausdorff_95_mm"] == figures["volume_error_ml"] == 0.0


@pytest.mark.parametrize("swapped", [False, True])
def test_saying_nothing_or_inventing_a_lesion_scores_nothing(swapped):
    pair = [np.zeros((24, 24, 31), np.uint8), box((5, 6), (5, 6), (5, 6), shape=(24, 24, 31))]
    figures = segmentation_metrics(*(pair[::-1] if swapped else pair), (10, 10, 5))
    assert figures["dice"] == figures["sensitivity"] == figures["precision"] == figures["lesion_f1"] == 0.0
    assert figures["hausdorff_95_mm"] == pytest.approx(373.13, abs=0.01)


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        dice(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
