"""Promises of reading and splitting lung patches."""

from functools import partial

import numpy as np
import pytest
import torch
from stage_components import component

from medical_gans.data.lung_patches import LungPatches, read_patches
from medical_gans.data.lung_views import NormalViews, near_duplicate_groups, split_patches
from medical_gans.data.patches import images_of
from medical_gans.errors import InputError, SettingError
from medical_gans.io.nodules.patch_files import save_patch

EDGE = 24
PREPROCESSING = component("lung_nodule_anomaly_train", "preprocessing")


def textures(count, seed=0, edge=EDGE):
    """Unrelated patches of smooth noise, uint8."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=(count, edge, edge))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    return np.clip(128 + 200 * smooth / smooth.std() / 4, 0, 255).astype(np.uint8)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "patches.npz"
    np.savez(path, image=textures(60), is_nodule=np.repeat([0, 1], [40, 20]))
    return path


def test_grey_values_span_the_window(archive):
    patches = read_patches(archive, size=16)
    grey = np.load(archive)["image"][:, 4:20, 4:20]
    np.testing.assert_allclose(patches.hounsfield, -1000 + grey / 255 * 1400, atol=0.51)
    np.testing.assert_allclose(images_of(patches.hounsfield, PREPROCESSING)[:, 0].numpy(), grey / 127.5 - 1, atol=1e-3)
    assert np.isnan(patches.spacing).all()
    assert (patches.is_nodule == np.repeat([0, 1], [40, 20])).all()


def test_a_folder_of_patches_is_read_upright_with_its_labels(tmp_path):
    made = np.random.default_rng(0).integers(-1000, 300, (3, 20, 20))
    for index, patch in enumerate(made):
        save_patch(tmp_path / f"p{index}.nii.gz", patch, (0.7, 0.7))
    (tmp_path / "labels.csv").write_text("name,is_nodule\np0,1\np1,0\n")
    patches = read_patches(tmp_path, size=16, spacing=None)
    np.testing.assert_array_equal(patches.hounsfield, made[:, 2:18, 2:18])
    assert patches.is_nodule.tolist() == [1, 0, -1]
    assert patches.name.tolist() == ["p0", "p1", "p2"]
    assert patches.spacing == pytest.approx((0.7, 0.7))


def test_patches_of_another_voxel_size_are_brought_to_ours(tmp_path):
    save_patch(tmp_path / "p.nii.gz", np.tile(np.arange(-900, -900 + 32 * 10, 10), (32, 1)), (0.5, 0.5))
    patch = read_patches(tmp_path, size=16, spacing=1.0).hounsfield[0]
    assert np.diff(patch.mean(0)) == pytest.approx(20, abs=1)


def test_what_is_no_patch_is_refused(tmp_path, archive):
    with pytest.raises(InputError, match="does not exist"):
        read_patches(tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no patches"):
        read_patches(empty)
    whole = tmp_path / "whole"
    whole.mkdir()
    save_patch(whole / "ct.nii.gz", np.full((120, 120), -800), (1.0, 1.0))
    with pytest.raises(InputError, match="whole CT"):
        read_patches(whole, size=16, spacing=1.0)
    np.savez(tmp_path / "odd.npz", other=np.zeros(3))
    with pytest.raises(InputError, match="lacks"):
        read_patches(tmp_path / "odd.npz")
    with pytest.raises(SettingError, match="window"):
        read_patches(archive, size=16, window=(400, -1000))


def test_a_wrong_label_is_refused(tmp_path):
    save_patch(tmp_path / "p.nii.gz", np.full((16, 16), -800) + np.eye(16), (1.0, 1.0))
    (tmp_path / "labels.csv").write_text("name,is_nodule\np,maybe\n")
    with pytest.raises(InputError, match="maybe"):
        read_patches(tmp_path, size=16, spacing=None)


def test_shifted_copies_are_one_group_and_unrelated_patches_are_not():
    images = textures(12, edge=32)
    shifted = np.roll(images[3], (2, -4), axis=(0, 1))[None]
    brighter = np.clip(images[5] * 0.8 + 20, 0, 255)[None]
    groups = near_duplicate_groups(np.concatenate([images, shifted, brighter]))
    assert groups[12] == groups[3]
    assert groups[13] == groups[5]
    assert len(set(groups)) == 12


def test_no_two_sides_share_a_near_duplicate():
    images = textures(60, edge=32)
    hounsfield = np.concatenate([images, images]).astype(np.int16)
    labels = np.tile(np.repeat([0, 1], [40, 20]), 2).astype(np.int8)
    names = np.array([f"p{i % 60}_{i // 60}" for i in range(120)])
    patches = LungPatches(hounsfield, labels, names, (1.0, 1.0), (-1000.0, 400.0))
    split = split_patches(patches, seed=3)
    sides = [{name.partition("_")[0] for name in one.name} for one in (split.train, split.validation, split.test)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sum(len(one) for one in (split.train, split.validation, split.test)) == 120
    assert (split.train.is_nodule == 0).all()
    assert (split.validation.is_nodule == 1).sum() == 8
    again = split_patches(patches, seed=3)
    assert again.test.name.tolist() == split.test.name.tolist()


def test_a_nodule_that_is_nearly_a_training_patch_takes_no_part():
    images = textures(30, edge=32)
    hounsfield = np.concatenate([images, images]).astype(np.int16)
    labels = np.repeat([0, 1], 30).astype(np.int8)
    names = np.array([f"p{i % 30}_{i // 30}" for i in range(60)])
    split = split_patches(LungPatches(hounsfield, labels, names, (1.0, 1.0), (-1000.0, 400.0)))
    trained = {name.partition("_")[0] for name in split.train.name}
    others = {name.partition("_")[0] for one in (split.validation, split.test) for name in one.name}
    assert not trained & others
    assert len(others) == 30 - len(trained)
    assert {name.partition("_")[0] for name in split.left_out.name} == trained


def test_views_depend_on_seed_epoch_and_index_alone():
    patches = LungPatches(
        textures(5).astype(np.int16), np.zeros(5, np.int8), np.array(list("abcde")), (1.0, 1.0), (0.0, 255.0)
    )
    given = {
        "preprocessing": component("lung_nodule_anomaly_train", "preprocessing", window=[0.0, 255.0]),
        "views_per_epoch": 8,
        "seed": 1,
    }
    size = patches.hounsfield.shape[1]
    augmentation = partial(component, "lung_nodule_anomaly_train", "augmentation", size=size)
    views = NormalViews(patches, augmentation=augmentation(), **given)
    again = NormalViews(patches, augmentation=augmentation(), **given)
    assert all(torch.equal(views[i]["image"], again[i]["image"]) for i in range(8))
    again.set_epoch(1)
    assert not all(torch.equal(views[i]["image"], again[i]["image"]) for i in range(8))
    plain = NormalViews(patches, augmentation=augmentation(symmetries=False, shift=0), **given)
    originals = images_of(patches.hounsfield, given["preprocessing"])
    assert all((plain[i]["image"] == originals).flatten(1).all(1).any() for i in range(8))


def test_the_symmetries_of_a_square_come_equally_often_and_shifts_repeat_the_border():
    augmentation = component("lung_nodule_anomaly_train", "augmentation", size=4, shift=0)
    image = torch.arange(16.0).reshape(1, 4, 4)
    seen = {}
    for seed in range(800):
        augmentation.set_random_state(seed)
        key = tuple(augmentation({"image": image})["image"].flatten().tolist())
        seen[key] = seen.get(key, 0) + 1
    eight = [torch.rot90(one, k, (1, 2)) for one in (image, image.flip(2)) for k in range(4)]
    assert set(seen) == {tuple(one.flatten().tolist()) for one in eight}
    assert min(seen.values()) > 60
    augmentation = component("lung_nodule_anomaly_train", "augmentation", size=4, shift=2, symmetries=False)
    corners = set()
    for seed in range(200):
        augmentation.set_random_state(seed)
        corners.add(float(augmentation({"image": image})["image"][0, 0, 0]))
    assert corners == {float(4 * row + column) for row in range(3) for column in range(3)}
