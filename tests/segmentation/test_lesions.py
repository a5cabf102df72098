"""Lesions are counted, measured and placed as in a drawing whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.inference.lesions.lesions import COLUMNS, larger_lesions, lesion_table

# stored axes: superior, left, posterior; 2 x 1.5 x 0.5 mm
AFFINE = np.array([[0, -1.5, 0, 40.0], [0, 0, -0.5, 12.0], [2, 0, 0, -7.0], [0, 0, 0, 1]])


@pytest.fixture
def drawn() -> np.ndarray:
    label = np.zeros((20, 40, 30), np.uint8)
    label[2:6, 3:8, 10:20] = 1  # 200 voxels on the right
    label[6, 8, 20] = 1  # touches it by a corner
    label[12:14, 30:32, 5:9] = 1  # 16 voxels on the left
    label[15, 20, 2:4] = 2
    return label


def test_a_table_tells_volume_place_and_side_of_each_lesion(drawn):
    probability = np.stack([1 - 0.25 * drawn, 0.75 * (drawn == 1), 0.5 * (drawn == 2)]).astype(np.float32)
    rows = lesion_table(drawn, probability, AFFINE, classes=("background", "oedema", "core"))
    assert [row["lesion"] for row in rows] == [1, 2, 3]
    assert [row["class"] for row in rows] == ["oedema", "oedema", "core"]
    assert [row["voxels"] for row in rows] == [201, 16, 2]
    assert [row["volume_ml"] for row in rows] == pytest.approx([0.3015, 0.024, 0.003])
    assert [row["side"] for row in rows] == ["right", "left", "middle"]
    assert [row["mean_probability"] for row in rows] == pytest.approx([0.75, 0.75, 0.5])
    assert tuple(rows[0]) == COLUMNS
    second = AFFINE @ [12.5, 30.5, 6.5, 1]
    assert [rows[1][name] for name in ("right_mm", "anterior_mm", "superior_mm")] == pytest.approx(second[:3])


def test_centres_and_counts_are_those_of_scipy():
    label = (ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(30, 28, 26)), 1.5) > 0.06).astype(np.uint8)
    rows = lesion_table(label, None, np.eye(4))
    components, count = ndimage.label(label, np.ones((3, 3, 3)))
    assert len(rows) == count > 5
    assert "mean_probability" not in rows[0]
    centres = sorted(map(tuple, np.round(ndimage.center_of_mass(label, components, range(1, count + 1)), 6)))
    made = sorted(tuple(round(row[n], 6) for n in ("right_mm", "anterior_mm", "superior_mm")) for row in rows)
    np.testing.assert_allclose(made, centres, atol=1e-5)
    assert [row["voxels"] for row in rows] == sorted(np.bincount(components.ravel())[1:].tolist(), reverse=True)


def test_left_and_right_are_told_from_the_middle_of_the_head(drawn):
    assert {row["side"] for row in lesion_table(drawn, None, AFFINE, middle_mm=100.0)} == {"left"}


def test_an_empty_map_has_no_rows():
    assert lesion_table(np.zeros((4, 4, 4), np.uint8), None, np.eye(4)) == []


def test_lesions_below_a_volume_are_dropped_and_no_others(drawn):
    assert larger_lesions(drawn, AFFINE, 0.0) is drawn
    kept = larger_lesions(drawn, AFFINE, 0.024)
    assert np.array_equal(kept, np.where(drawn == 2, 0, drawn))
    assert drawn[15, 20, 2] == 2
    assert np.count_nonzero(larger_lesions(drawn, AFFINE, 0.0241)) == 201
    assert not larger_lesions(drawn, AFFINE, 1.0).any()


def test_classes_that_touch_are_lesions_of_their_own():
    label = np.zeros((6, 6, 6), np.uint8)
    label[1:3], label[3:5] = 1, 2
    assert [row["class"] for row in lesion_table(label, None, np.eye(4), classes=("background",))] == [
        "class 1",
        "class 2",
    ]
