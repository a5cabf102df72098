"""Promises of the views that a translation network trains on."""

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import CenterSpatialCropd, Compose, RandFlipd

from medical_gans.data.slices import TranslationViews, prepare_volume, translation_views
from medical_gans.errors import InputError, SettingError
from medical_gans.io import Case, TrainingCases
from medical_gans.transforms import (
    DenoiseHounsfieldd,
    EncodeHounsfieldd,
    NormaliseMRd,
    ReadImaged,
    ToGridd,
    hounsfield_to_unit,
)


def _write(path, array, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), affine), path)
    return path


def _patient(folder, name, shape=(48, 40, 12), seed=0, axes=(1, 1, 1)):
    """An ellipse of muscle with a bright and a dark part, the same in MR and CT."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    body = x**2 + y**2 < 0.8
    bone = (x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.03
    mr = np.where(bone, 20, np.where(body, 300 + 500 * (y > 0.3), 2)) + rng.integers(0, 3, shape)
    ct = np.where(bone, 900, np.where(body, 50 - 150 * (y > 0.3), -1000))
    affine = np.diag([*(np.array([2.0, 2.0, 3.0]) * axes), 1.0])
    flips = tuple(i for i, a in enumerate(axes) if a < 0)
    return Case(
        name,
        _write(folder / name / "mr.nii.gz", np.flip(mr, flips), affine),
        _write(folder / name / "ct.nii.gz", np.flip(ct, flips), affine),
    )


def preprocessing(spacing=(2.0, 2.0, None), plane="axial", denoise=0):
    keys = {"keys": ["image", "ct"], "allow_missing_keys": True}
    return Compose(
        [
            ReadImaged(**keys),
            DenoiseHounsfieldd("ct", denoise, allow_missing_keys=True),
            ToGridd(spacing=spacing, planes=plane, **keys),
            NormaliseMRd("image", allow_missing_keys=True),
            EncodeHounsfieldd("ct", allow_missing_keys=True),
        ]
    )


def crop(*size):
    return CenterSpatialCropd(["mr", "ct"], size, allow_missing_keys=True)


def _prepared(folder, kinds=("mr", "ct"), patients=2, dimensions=2, plane="axial"):
    cases = [_patient(folder, f"p{n}", seed=n) for n in range(patients)]
    recipe = preprocessing(plane=plane)
    return [[prepare_volume(c, k, recipe, folder / "cache", dimensions) for c in cases] for k in kinds]


def test_prepared_ct_is_the_encoded_hounsfield_of_the_body_and_air_around_it(tmp_path):
    case = _patient(tmp_path, "p")
    prepared = prepare_volume(case, "ct", preprocessing(), tmp_path / "cache")
    hounsfield = np.asarray(nibabel.load(case.ct).dataobj)
    array = prepared.array().astype(np.float32)
    body = hounsfield > -500
    assert np.abs(array - hounsfield_to_unit(hounsfield))[body].max() < 1e-3
    assert array[0, 0, 0] == -1.0


def test_preparation_brings_any_axis_order_to_canonical(tmp_path):
    plain = prepare_volume(_patient(tmp_path / "a", "p"), "ct", preprocessing(), tmp_path / "c")
    flipped = prepare_volume(_patient(tmp_path / "b", "p", axes=(-1, -1, 1)), "ct", preprocessing(), tmp_path / "c")
    assert np.array_equal(plain.array(), flipped.array())


def test_preparation_resamples_in_plane_and_keeps_the_null_axis(tmp_path):
    prepared = prepare_volume(_patient(tmp_path, "p"), "mr", preprocessing((1.0, 1.0, None)), tmp_path / "cache")
    assert prepared.array().shape == (96, 80, 12)
    assert prepared.spacing == pytest.approx((1.0, 1.0, 3.0))


def test_a_prepared_volume_is_used_again_until_the_file_changes(tmp_path):
    case = _patient(tmp_path, "p")
    first = prepare_volume(case, "ct", preprocessing(), tmp_path / "cache")
    stamp = first.path.stat().st_mtime_ns
    assert prepare_volume(case, "ct", preprocessing(), tmp_path / "cache").path.stat().st_mtime_ns == stamp
    assert prepare_volume(case, "ct", preprocessing((1.0, 1.0, None)), tmp_path / "cache").path != first.path


def test_median_filter_takes_noise_from_the_ct_and_leaves_the_slices_apart(tmp_path):
    case = _patient(tmp_path, "p")
    image = nibabel.load(case.ct)
    hounsfield = np.asarray(image.dataobj).copy()
    hounsfield[24, 14, 6] = 1000
    _write(case.ct, hounsfield, image.affine)
    kept = prepare_volume(case, "ct", preprocessing(), tmp_path / "cache").array()
    cleaned = prepare_volume(case, "ct", preprocessing(denoise=3), tmp_path / "cache", recipe=3).array()
    assert kept[24, 14, 6] > 0.4
    assert cleaned[24, 14, 6] == pytest.approx(float(hounsfield_to_unit(np.array(50.0))), abs=1e-3)


def test_a_view_depends_on_seed_epoch_and_index_alone(tmp_path):
    mr, ct = _prepared(tmp_path)
    turning = Compose([RandFlipd(["mr", "ct"], 0.5, allow_missing_keys=True), crop(32, 32)])
    options = {"crop_size": (32, 32), "views_per_epoch": 8, "augmentation": turning}
    make = lambda seed: TranslationViews(mr, ct, seed=seed, **options)  # noqa: E731
    first, second = make(1), make(1)
    second[0], second[5]  # what was drawn before does not matter
    first.set_epoch(3), second.set_epoch(3)
    for key in ("mr", "ct"):
        assert torch.equal(first[2][key], second[2][key])
        assert not torch.equal(first[2][key], first[3][key])
        assert not torch.equal(first[2][key], make(2)[2][key])
    before = first[2]["mr"]
    first.set_epoch(4)
    assert not torch.equal(first[2]["mr"], before)


def test_unpaired_views_come_from_different_places(tmp_path):
    mr, ct = _prepared(tmp_path, patients=1)
    views = TranslationViews(mr, ct, crop_size=(32, 32), views_per_epoch=20)
    bone = [(v["mr"][0].argmin(), v["ct"][0].argmax()) for v in (views[i] for i in range(20))]
    assert len({(int(a) - int(b)) for a, b in bone}) > 5


def test_paired_views_show_the_same_place(tmp_path):
    mr, ct = _prepared(tmp_path)
    views = TranslationViews(mr, ct, crop_size=(32, 32), views_per_epoch=10, paired=True)
    for index in range(10):
        view = views[index]
        fat_mr, fat_ct = view["mr"] > 0.3, (view["ct"] < -0.28) & (view["ct"] > -0.48)
        overlap = 2 * (fat_mr & fat_ct).sum() / (fat_mr.sum() + fat_ct.sum()).clamp(min=1)
        assert fat_mr.sum() < 20 or overlap > 0.7


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_adjacent_slices_become_channels_in_any_plane(tmp_path, plane):
    mr, ct = _prepared(tmp_path, plane=plane)
    views = TranslationViews(mr, ct, crop_size=(16, 16), views_per_epoch=2, plane=plane, adjacent=3)
    assert views[0]["mr"].shape == (3, 16, 16)


def test_three_crop_numbers_give_blocks(tmp_path):
    mr, ct = _prepared(tmp_path, dimensions=3)
    views = TranslationViews(mr, ct, crop_size=(16, 16, 8), views_per_epoch=2)
    assert views[1]["ct"].shape == (1, 16, 16, 8)


def test_empty_side_is_refused(tmp_path):
    mr, ct = _prepared(tmp_path)
    with pytest.raises(InputError, match="no CT volume"):
        TranslationViews(mr, [], crop_size=(32, 32), views_per_epoch=2)
    with pytest.raises(InputError, match="no MR volume"):
        TranslationViews([], ct, crop_size=(32, 32), views_per_epoch=2)


def test_pair_on_two_grids_is_refused_by_name(tmp_path):
    case = _patient(tmp_path, "p")
    smaller = _patient(tmp_path / "other", "p", shape=(40, 40, 12))
    cases = TrainingCases([Case("p", case.mr, smaller.ct)], [Case("p", case.mr, smaller.ct)], [])
    options = {
        "cache_dir": tmp_path / "cache",
        "preprocessing": preprocessing(),
        "crop_size": (16, 16),
        "views_per_epoch": 1,
    }
    with pytest.raises(InputError, match=r"MR and CT of p lie on different grids"):
        translation_views(cases, paired=True, **options)


def test_volume_without_a_body_is_refused(tmp_path):
    array = np.random.default_rng(0).integers(-1010, -990, (24, 24, 6))
    case = Case("p", None, _write(tmp_path / "ct.nii.gz", array, np.eye(4)))
    with pytest.raises(InputError, match="shows no body"):
        prepare_volume(case, "ct", preprocessing((1.0, 1.0, None)), tmp_path / "cache")


@pytest.mark.parametrize("wrong", [{"crop_size": (30, 32)}, {"plane": "axail"}, {"adjacent": 2}])
def test_settings_that_make_no_sense_are_named(tmp_path, wrong):
    mr, ct = _prepared(tmp_path, patients=1)
    with pytest.raises(SettingError, match=next(iter(wrong))):
        TranslationViews(mr, ct, **{"crop_size": (32, 32), "views_per_epoch": 2, **wrong})


def test_a_pair_at_two_places_is_refused_in_paired_training(tmp_path):
    case = _patient(tmp_path, "p")
    image = nibabel.load(case.ct)
    (mr,) = [prepare_volume(case, "mr", preprocessing(), tmp_path / "cache")]
    turned = image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]], float))
    nibabel.save(turned, case.ct)
    stored_otherwise = prepare_volume(case, "ct", preprocessing(), tmp_path / "other")
    views = TranslationViews([mr], [stored_otherwise], crop_size=(32, 32), views_per_epoch=4, paired=True)
    assert len(views) == 4
    affine = image.affine.copy()
    affine[0, 3] += 50
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), case.ct)
    far = prepare_volume(case, "ct", preprocessing(), tmp_path / "far")
    with pytest.raises(InputError, match="lie at different places: corners up to 50 mm apart"):
        TranslationViews([mr], [far], crop_size=(32, 32), views_per_epoch=4, paired=True)


def test_a_registered_pair_is_trusted_at_the_same_place_in_every_view(tmp_path):
    cases = []
    for number in range(2):
        case = _patient(tmp_path, f"p{number}", seed=number)
        hounsfield = np.asarray(nibabel.load(case.ct).dataobj)
        mask = _write(tmp_path / case.name / "trusted.nii.gz", hounsfield == 900, nibabel.load(case.ct).affine)
        cases.append(Case(case.name, case.mr, case.ct, trusted=mask if number == 0 else None))
    views = translation_views(
        TrainingCases(cases, cases, []),
        cache_dir=tmp_path / "cache",
        preprocessing=preprocessing(),
        crop_size=(32, 32),
        views_per_epoch=24,
        paired=True,
    )
    inner = (slice(None), slice(12, 20), slice(12, 20))  # not beyond the edge of the volume
    fully = 0
    for view in (views[index] for index in range(24)):
        trusted, bone = view["trusted"][inner] > 0.9, view["ct"][inner] > 0.2
        if trusted.all():
            fully += 1
        else:
            assert not (trusted & ~bone).any()
    assert 0 < fully < 24


def test_unpaired_views_know_nothing_of_trust(tmp_path):
    case = _patient(tmp_path, "p")
    mask = _write(tmp_path / "p" / "trusted.nii.gz", np.ones((48, 40, 12)), nibabel.load(case.ct).affine)
    cases = [Case("p", case.mr, case.ct, trusted=mask)]
    views = translation_views(
        TrainingCases(cases, cases, []),
        cache_dir=tmp_path / "cache",
        preprocessing=preprocessing(),
        crop_size=(32, 32),
        views_per_epoch=1,
    )
    assert set(views[0]) == {"mr", "ct"}


def test_views_of_a_batch_are_the_views_one_by_one(tmp_path):
    mr, ct = _prepared(tmp_path)
    flips = Compose([RandFlipd(["mr", "ct"], prob=0.5, spatial_axis=0, allow_missing_keys=True)])
    options = {"crop_size": (32, 24), "views_per_epoch": 9, "augmentation": flips, "seed": 3}
    views = TranslationViews(mr, ct, **options)
    single = TranslationViews(mr, ct, **options)
    single.batched = None  # MONAI's way
    assert views.batched is not None
    together = views.__getitems__(range(9))
    for index, view in enumerate(together):
        for key, image in single[index].items():
            torch.testing.assert_close(view[key], image, rtol=0, atol=1e-6)
            torch.testing.assert_close(views[index][key], image, rtol=0, atol=1e-6)


def test_a_window_that_leaves_the_volume_on_both_sides_is_air_there():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    ranges = [np.arange(-1, 3), np.arange(1, 6), np.arange(-3, 0)]
    block = TranslationViews._cut(array, ranges)
    expected = np.full((4, 5, 3), -1, np.float32)
    assert np.array_equal(block, expected)
    ranges[2] = np.arange(-1, 6)
    expected = np.full((4, 5, 7), -1, np.float32)
    expected[1:3, 0:2, 1:5] = array[:, 1:]
    assert np.array_equal(TranslationViews._cut(array, ranges), expected)
