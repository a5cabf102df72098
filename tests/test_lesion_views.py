"""Promises of the patches of lesions: balanced, apart, repeatable."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medical_gans.data.sequence_views import LesionViews
from medical_gans.errors import InputError
from medical_gans.transforms.sequence_volume import SequenceVolume

CONFIG = Path(__file__).parents[1] / "configs" / "brain_lesion_train.yaml"
RNG = np.random.default_rng(0)


def shipped_augmentation():
    """That of brain_lesion train."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(str(CONFIG)))
    return parser.get_parsed_content("augmentation")


def overlay_augmentation(name, **values):
    """That of brain_lesion train with an overlay, and its norm."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(CONFIG), str(CONFIG.with_name(name))])
    parser.update(values)
    return parser.get_parsed_content("augmentation"), parser["network_def"]["norm"]


def volume(shape=(30, 28, 26), lesion=True, value=None):
    foreground = np.zeros(shape, bool)
    foreground[3:-3, 3:-3, 3:-3] = True
    image = RNG.standard_normal((2, *shape)) if value is None else np.full((2, *shape), value)
    label = np.zeros(shape, np.uint8)
    if lesion:
        label[8, 8, 8] = 1
        label[18:22, 18:22, 18:22] = 2
    return SequenceVolume((image * foreground).astype(np.float32), foreground, np.eye(4), label, label, None)


def test_lesion_patches_show_each_class_equally_often():
    views = LesionViews([volume()], patch_size=(4, 4, 4), views_per_epoch=200, lesion_share=1.0)
    shown = [set(np.unique(views[n]["label"])) - {0} for n in range(200)]
    assert all(shown)
    small = sum(1 in one for one in shown)  # one voxel against 64
    assert 75 < small < 125


def test_the_share_of_lesion_patches_is_as_asked():
    big = volume((60, 60, 60))
    views = LesionViews([big], patch_size=(4, 4, 4), views_per_epoch=300, lesion_share=0.3)
    anywhere = np.array([bool(views[n]["anywhere"]) for n in range(300)])
    assert (~anywhere).sum() == 90 and (~anywhere).reshape(-1, 10).sum(1).max() == 3
    assert all(bool(views[n]["label"].any()) for n in np.flatnonzero(~anywhere))


def test_a_patch_is_a_part_of_the_image_with_its_label():
    one = volume()
    one.image[0] = np.arange(one.image[0].size).reshape(one.image[0].shape) * one.foreground
    views = LesionViews([one], patch_size=(8, 8, 8), views_per_epoch=5)
    for n in range(5):
        view = views[n]
        index = np.unravel_index(view["source"][0].numpy().astype(int), one.label.shape)
        inside = view["source"][0].numpy() > 0
        assert (one.label[index][inside] == view["label"][0].numpy()[inside]).all()


def test_the_target_comes_without_labels_and_from_the_target_alone():
    views = LesionViews([volume(value=1.0)], [volume(value=5.0)], patch_size=(4, 4, 4), views_per_epoch=20)
    for n in range(20):
        assert set(views[n]) == {"source", "target", "label", "anywhere"}
        assert set(np.unique(views[n]["target"])) <= {0.0, 5.0}
        assert set(np.unique(views[n]["source"])) <= {0.0, 1.0}


def test_translated_images_take_the_place_of_the_source_with_its_labels():
    one = volume(value=1.0)
    look = np.where(one.foreground, 3.0, 0.0)[None].repeat(2, 0).astype(np.float32)
    options = {"patch_size": (4, 4, 4), "views_per_epoch": 100, "lesion_share": 1.0, "translated": [look]}
    views = LesionViews([one], translated_share=0.5, **options)
    looks = [float(views[n]["source"].max()) for n in range(100)]
    assert set(looks) == {1.0, 3.0} and 30 < looks.count(3.0) < 70
    assert all(views[n]["label"].any() for n in range(20))


def test_views_repeat_and_differ_between_epochs():
    options = {"patch_size": (6, 6, 6), "views_per_epoch": 4, "augmentation": shipped_augmentation()}
    views = LesionViews([volume()], [volume()], **options)
    first = views[2]
    assert all(torch.equal(first[name], views[2][name]) for name in first)
    views[0], views[3]
    assert all(torch.equal(first[name], views[2][name]) for name in first)
    views.set_epoch(1)
    assert not torch.equal(first["source"], views[2]["source"])


def test_the_background_stays_zero_whatever_is_varied():
    options = {"patch_size": (30, 28, 26), "views_per_epoch": 8, "augmentation": shipped_augmentation()}
    views = LesionViews([volume(value=1.0)], **options)
    assert len({float(views[n]["source"].max()) for n in range(8)}) == 8  # and all else varies
    for n in range(8):
        assert (views[n]["source"][:, 0] == 0).all() and views[n]["source"].isfinite().all()


def test_a_flip_turns_image_and_label_together():
    one = volume(value=0.0)
    one.image[:] = one.label + one.foreground  # 1 in the head, 2 and 3 in the lesions
    views = LesionViews([one], patch_size=(16, 16, 16), views_per_epoch=40, lesion_share=1.0, augmentation=flip())
    turned = 0
    for n in range(40):
        view, plain = views[n], LesionViews([one], patch_size=(16, 16, 16), views_per_epoch=40, lesion_share=1.0)[n]
        shown = view["source"][0] > 0
        assert torch.equal((view["source"][0] - 1)[shown], view["label"][0][shown].float())
        turned += not torch.equal(view["source"], plain["source"])
        assert torch.equal(view["source"], plain["source"]) or torch.equal(view["source"], plain["source"].flip(1))
    assert 8 < turned < 32


def flip():
    from monai.transforms import Compose, RandFlipd

    return Compose([RandFlipd(["image", "label", "foreground"], prob=0.5, spatial_axis=0)])


def test_a_volume_smaller_than_a_patch_is_padded():
    views = LesionViews([volume((24, 24, 24))], patch_size=(32, 32, 32), views_per_epoch=1)
    assert views[0]["source"].shape == (2, 32, 32, 32)


def test_labels_without_any_lesion_are_refused():
    with pytest.raises(InputError, match="None of the 2 labelled cases has a lesion"):
        LesionViews([volume(lesion=False)] * 2, patch_size=(4, 4, 4), views_per_epoch=1)


def test_the_pupil_sees_the_same_patch_of_the_target_in_another_contrast():
    def brighter(view):
        return {**view, "image": view["image"] * 2}

    options = {"patch_size": (4, 4, 4), "views_per_epoch": 6}
    views = LesionViews([volume()], [volume()], pupil_augmentation=brighter, **options)
    for n in range(6):
        assert torch.equal(views[n]["pupil"], 2 * views[n]["target"])
    assert "pupil" not in LesionViews([volume()], [volume()], **options)[0]


def test_the_same_scanner_changes_signals_little_and_any_scanner_much():
    moved = {}
    for scanner_change in (0.4, 1.0):
        augmentation, norm = overlay_augmentation("any_scanner.yaml", scanner_change=scanner_change)
        assert norm == "batch"
        flat = volume((24, 24, 24), value=1.5)
        views = LesionViews([flat], patch_size=(8, 8, 8), views_per_epoch=60, augmentation=augmentation)
        changes = [views[n]["source"] - 1.5 for n in range(60)]
        inside = [change[change > -1.4] for change in changes]  # 0 is not brain
        moved[scanner_change] = float(np.mean([one.mean().abs() for one in inside if len(one)]))
    assert 0 < 1.5 * moved[0.4] < moved[1.0]
