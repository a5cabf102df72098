"""Views of nodule patches for training."""

import functools

import numpy as np
import pytest
from stage_components import component

from medical_gans.data.patches import MeasuredViews, NoduleViews, images_of
from medical_gans.errors import InputError
from medical_gans.io.nodules import NodulePatches


def patches(ratings):
    ratings = np.array(ratings, dtype=np.int8)
    n = len(ratings)
    hounsfield = (np.arange(n, dtype=np.int16) * 10 - 500)[:, None, None] + np.zeros((n, 8, 8), np.int16)
    hounsfield[:, :, 0] = -1000  # left and right differ
    names = np.array([f"nodule_{i}" for i in range(n)])
    return NodulePatches(hounsfield, ratings, names, names, (0.6, 0.6))


@functools.cache
def shipped_transforms(flip):
    return {name: component("lung_nodule_train", name, flip=flip) for name in ("preprocessing", "augmentation")}


def views(ratings, labels, flip=True, **options):
    return NoduleViews(patches(ratings), labels, **{"views_per_epoch": 300, **shipped_transforms(flip), **options})


def test_classes_come_equally_often_or_as_they_are():
    ratings = [1] * 8 + [5]
    drawn = views(ratings, [0, 1])
    balanced = [int(drawn[i]["label"]) for i in range(300)]
    assert np.mean(balanced) == pytest.approx(0.5, abs=0.1)
    drawn = views(ratings, [0, 1], balanced=False)
    natural = [int(drawn[i]["label"]) for i in range(300)]
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


def test_a_view_does_not_depend_on_what_was_drawn_before():
    """The state of a random transform of MONAI would otherwise go from view to view."""
    first, second = views([1, 2, 4, 5], [0, 1]), views([1, 2, 4, 5], [0, 1])
    forwards = [first[i]["image"] for i in range(20)]
    backwards = [second[i]["image"] for i in reversed(range(20))][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(forwards, backwards, strict=True))


def test_views_for_the_feature_network_are_shifted_and_mirrored_and_use_every_patch_equally():
    images = images_of(patches([1] * 10).hounsfield, component("lung_nodule_features", "preprocessing"))
    augmentation = component("lung_nodule_features", "augmentation", size=8, shift=2)
    options = {"augmentation": augmentation, "views_per_epoch": 25}
    drawn = MeasuredViews(images, np.arange(10.0), np.arange(20.0).reshape(10, 2), **options)
    counts = np.zeros(10, int)
    for epoch in range(2):
        drawn.set_epoch(epoch)
        for index in range(25):
            view = drawn[index]
            counts[int(view["malignant"])] += 1
            assert view["image"].shape == (1, 8, 8) and view["measures"].tolist()[0] == 2 * view["malignant"]
    assert (counts == 5).all()
    edges = {tuple((drawn[i]["image"][0, 0] == -1).tolist()) for i in range(25)}
    assert len(edges) > 4
