"""Views of nodule patches for training."""

import numpy as np
import pytest

from medical_gans.data.patches import NoduleViews
from medical_gans.errors import InputError
from medical_gans.io.nodules import NodulePatches


def patches(ratings):
    ratings = np.array(ratings, dtype=np.int8)
    n = len(ratings)
    hounsfield = (np.arange(n, dtype=np.int16) * 10 - 500)[:, None, None] + np.zeros((n, 8, 8), np.int16)
    hounsfield[:, :, 0] = -1000  # left and right differ
    names = np.array([f"nodule_{i}" for i in range(n)])
    return NodulePatches(hounsfield, ratings, names, names, (0.6, 0.6))


def views(ratings, labels, **options):
    options = {"window": (-1000.0, 400.0), "views_per_epoch": 300} | options
    return NoduleViews(patches(ratings), labels, **options)


def test_classes_come_equally_often_or_as_they_are():
    ratings = [1] * 8 + [5]
    balanced = [int(views(ratings, [0, 1])[i]["label"]) for i in range(300)]
    assert np.mean(balanced) == pytest.approx(0.5, abs=0.1)
    natural = [int(views(ratings, [0, 1], balanced=False)[i]["label"]) for i in range(300)]
    assert np.mean(natural) == pytest.approx(1 / 9, abs=0.06)


def test_only_chosen_classes_are_drawn():
    drawn = views([1, 2, 3, 4, 5], [1])
    assert {int(drawn[i]["label"]) for i in range(50)} == {1}


def test_a_view_depends_on_seed_epoch_and_index_only():
    first, second = views([1, 2, 4, 5], [0, 1]), views([1, 2, 4, 5], [0, 1])
    second[3], second[7]
    assert np.array_equal(first[5]["image"], second[5]["image"])
    second.set_epoch(1)
    assert any(not np.array_equal(first[i]["image"], second[i]["image"]) for i in range(10))


def test_hounsfield_become_the_networks_range():
    image = views([1], [0], flip=False)[0]["image"].numpy()
    assert image.shape == (1, 8, 8)
    assert image[0, 0, 0] == -1
    assert image[0, 0, 1] == pytest.approx((-500 + 1000) / 700 - 1)


def test_flips_are_left_right():
    drawn = views([1], [0])
    firsts = {
        (float(image[0, 0, 0]) == -1, float(image[0, 0, -1]) == -1) for image in (drawn[i]["image"] for i in range(40))
    }
    assert firsts == {(True, False), (False, True)}


def test_a_class_without_a_patch_is_named():
    with pytest.raises(InputError, match=r"No malignant nodule among the training patients \(2 benign, 0 malignant"):
        views([1, 2], [0, 1])
