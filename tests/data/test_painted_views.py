"""Promises of the views that are painted from CT."""

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from medical_gans.data.ct_anatomy import bone_mask, smoothed_ct
from medical_gans.data.painted_views import painted_views
from medical_gans.errors import InputError, SettingError
from medical_gans.io import find_training_cases
from medical_gans.transforms import CtTissues, Painter, hounsfield_to_unit

SIGNALS = {
    "fat": (0.8, 1.0),
    "water": (0.2, 0.4),
    "fatty_marrow": (0.8, 1.0),
    "red_marrow": (0.3, 0.6),
    "cortex": (0.0, 0.05),
}


NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def leg(shape=(72, 64, 10)):
    """HU of a leg that lies aslant: skin fat, muscle, a bone with marrow."""
    x, y, z = np.meshgrid(*[np.arange(n, dtype=float) for n in shape], indexing="ij")
    body, bone = np.hypot(x - 36, y - 32), np.hypot(x - 30 - 0.5 * z, y - 34)
    hounsfield = np.full(shape, -1000.0)
    for radius, limit, value in ((body, 27, -100), (body, 22, 55), (bone, 10, 1200), (bone, 6, -20)):
        hounsfield[radius < limit] = value
    return hounsfield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legs")
    hounsfield = leg()
    mr = np.select([hounsfield < -500, hounsfield < 0, hounsfield < 100], [0, 900, 300], 20)
    for split, name in (("training", "P1"), ("training", "P2"), ("validation", "P3")):
        (folder / split / name).mkdir(parents=True)
        for key, array in (("ct", hounsfield), ("mr", mr), ("mask", hounsfield > -500)):
            image = nibabel.Nifti1Image(array.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))
            nibabel.save(image, folder / split / name / f"{key}.nii.gz")
    return folder


def views(cohort, cache, **changes):
    cases = find_training_cases(cohort, paired=False, validation_fraction=0, seed=0)
    painter = changes.pop("painter", Painter(signals=SIGNALS))
    tissues = changes.pop("tissues", CtTissues())
    options = {"crop_size": (32, 40), "views_per_epoch": 6, "adjacent": 3, "spacing": (1.0, 1.0, None), **changes}
    return painted_views(cases, painter, tissues, cache_dir=cache, **options)


def test_a_view_is_a_function_of_seed_epoch_and_index(cohort, tmp_path):
    first, second = views(cohort, tmp_path), views(cohort, tmp_path)
    for key, image in first[2].items():
        assert torch.equal(image, second[2][key])
    second.set_epoch(1)
    assert not torch.equal(first[2]["mr"], second[2]["mr"])
    assert first[2]["mr"].shape == first[2]["ct"].shape == first[2]["weight"].shape == (3, 32, 40)


def test_truth_lies_on_the_voxels_of_the_painted_image(cohort, tmp_path):
    """With one signal for all bone and none else, the painted bone is where the CT has it."""
    plain = {name: (0.0, 0.0) for name in SIGNALS} | {"cortex": (1.0, 1.0)}
    painter = Painter(
        signals=plain, free=0, suppressed=0, texture=0, lines=0, spots=0, borders=0, chemical_shift=0, region=0,
        blur=(0, 0), thick=0, bias=0, noise=(0, 0), gamma=0, gain=(1, 1),
    )  # fmt: skip
    tissues = CtTissues(marrow_hounsfield=(590, 590), mineral_hounsfield=(600, 600), cortex_change=0.5)
    found = 0
    for view in (views(cohort, tmp_path, painter=painter, tissues=tissues, near_bone=1.0)[i] for i in range(6)):
        bright, bone = view["mr"] > -0.2, view["ct"] > float(hounsfield_to_unit(np.float32(595)))
        agreement = {
            shift: float((bright == bone.roll(shift, (1, 2))).float().mean()) for shift in ((0, 0), *NEIGHBOURS)
        }
        assert agreement[0, 0] > 0.97
        assert bone.sum() < 200 or max(agreement, key=lambda shift: agreement[shift]) == (0, 0)
        found += int(bone.sum())
    assert found > 500


def test_weights_are_those_of_bone_body_and_air(cohort, tmp_path):
    view = views(cohort, tmp_path, near_bone=1.0, bone_weight=5.0)[1]
    bone = view["ct"] > 0.3
    assert torch.allclose(view["weight"][bone], torch.tensor(5.0))
    assert set(view["weight"][~bone].unique().tolist()) <= set(torch.tensor([0.2, 1.0]).tolist())


def test_registered_pairs_show_their_real_mr_with_a_tolerance(cohort, tmp_path):
    data = views(cohort, tmp_path, real=1.0, tolerance=2)
    for view in (data[i] for i in range(4)):
        assert int(view["tolerance"]) == 2
        fat, water = (view["ct"] < -0.2) & (view["ct"] > -0.45), (view["ct"] > -0.05) & (view["ct"] < 0.05)
        if fat.sum() > 50 and water.sum() > 50:
            assert view["mr"][fat].median() > view["mr"][water].median() + 0.5
    assert int(views(cohort, tmp_path)[0]["tolerance"]) == 0


def test_unaligned_pairs_are_never_shown(cohort, tmp_path):
    (tmp_path / "training_unaligned").mkdir()
    for name in ("P1", "P2"):
        (tmp_path / "training_unaligned" / name).symlink_to(cohort / "training" / name)
    data = views(tmp_path, tmp_path / "cache", real=1.0)
    assert {int(data[i]["tolerance"]) for i in range(6)} == {0}


def test_smoothing_takes_noise_away_and_leaves_edges():
    clean = leg()
    noisy = clean + np.random.default_rng(0).normal(0, 20, clean.shape)
    smoothed = smoothed_ct(smoothed_ct(noisy))
    inner = ndimage.binary_erosion(clean == 55, iterations=2)
    assert smoothed[inner].std() < 0.4 * noisy[inner].std()
    bone = clean == 1200
    assert abs(smoothed[bone].mean() - 1200) < 25
    assert abs(smoothed[clean == -20].mean() + 20) < 25


def test_bone_mask_holds_cortex_and_marrow_and_leaves_calcifications_out():
    clean = leg()
    clean[60:62, 30:32, 2:4] = 700.0
    bone = bone_mask(clean, (1.0, 1.0, 3.0))
    assert bone[(clean == 1200) | (clean == -20)].all()
    assert not bone[58:64].any()
    assert (bone & (clean == 55)).sum() < 0.05 * bone.sum()


def test_mistakes_are_named(cohort, tmp_path):
    with pytest.raises(SettingError, match="plane is 'oblique'"):
        views(cohort, tmp_path, plane="oblique")
    with pytest.raises(SettingError, match="share between 0 and 1"):
        views(cohort, tmp_path, real=1.5)
    air = tmp_path / "air"
    for kind in ("mr", "ct"):
        (air / kind).mkdir(parents=True)
        image = nibabel.Nifti1Image(
            np.random.default_rng(0).integers(-1010, -990, (20, 20, 4)).astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])
        )
        nibabel.save(image, air / kind / f"{kind}1.nii.gz")
    with pytest.raises(InputError, match="shows no body"):
        views(air, tmp_path / "cache2")
