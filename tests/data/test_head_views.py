"""Heads that are painted: what held them is gone, the cavity is found, a brain fills it, and the truth follows."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medical_gans.data.head_anatomy import (
    DEEPEST_MM,
    brain_of,
    eyeballs,
    fitted_brain,
    head_outline,
    prepare_head,
    skull_cavity,
    with_brains,
)
from medical_gans.data.head_painting import BrainContents, sampled, whole_head
from medical_gans.data.head_views import HeadViews, rotation
from medical_gans.data.pairs import read_pair
from medical_gans.errors import InputError
from medical_gans.evaluation.painted_heads import painted_cases
from medical_gans.transforms import CtTissues, Painter, Window, unit_to_hounsfield
from medical_gans.transforms.painting import RandomFields

SIZE = 140
MIDDLE = np.array([70.0, 66.0, 72.0])
PLAIN = {
    "free": 0.0, "suppressed": 0.0, "texture": 0.0, "region": 0.0, "lines": 0.0, "spots": 0.0, "borders": 0.0,
    "chemical_shift": 0.0, "blur": (0.0, 0.0), "thick": 0.0, "bias": 0.0, "noise": (0.0, 0.0), "gamma": 0.0,
    "gain": (1.0, 1.0),
}  # fmt: skip
SIGNALS = {"fat": 1.0, "water": 0.5, "fatty_marrow": 1.0, "red_marrow": 0.6, "cortex": 0.0}
SIGNALS |= {"white": 0.9, "grey": 0.7, "liquid": 0.3, "vessel": 0.3}


def distances(shape=(SIZE,) * 3, middle=MIDDLE, stretch=(1.0, 1.0, 1.0)) -> np.ndarray:
    grid = np.indices(shape, dtype=np.float32)
    return np.sqrt(sum(((g - m) / s) ** 2 for g, m, s in zip(grid, middle, stretch, strict=True)))


def folds(shape: tuple[int, ...]) -> np.ndarray:
    """Where white matter is."""
    return sum(np.sin(g / 3.0) for g in np.indices(shape)) > 0


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """Scalp to 62 mm, skull from 48 to 56 mm with a foramen below, cavity of 48 mm; a table 4 mm behind the scalp."""
    radius = distances()
    hounsfield = np.full(radius.shape, -1000.0, np.float32)
    hounsfield[radius < 62] = -80.0
    hounsfield[(radius >= 48) & (radius < 56)] = 1200.0
    hounsfield[radius < 48] = 35.0
    x, y, z = np.indices(radius.shape)
    foramen = (np.hypot(x - MIDDLE[0], y - MIDDLE[1]) < 6) & (z < MIDDLE[2]) & (radius >= 48) & (radius < 62)
    hounsfield[foramen] = 35.0
    hounsfield[10:130, :3, :] = 100.0
    return hounsfield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head) -> Path:
    root = tmp_path_factory.mktemp("heads")
    nibabel.save(nibabel.Nifti1Image(head.astype(np.int16), np.eye(4)), root / "ct.nii.gz")
    near = distances((100, 120, 100), (50, 60, 50), (0.9, 1.1, 0.9))
    brain = np.select([near < 20, folds(near.shape) & (near < 40), near < 40], [60.0, 300.0, 220.0], 0.0)
    nibabel.save(nibabel.Nifti1Image(brain.astype(np.float32), np.eye(4)), root / "brain.nii.gz")
    return root


@pytest.fixture(scope="module")
def prepared(folder):
    return with_brains(prepare_head("one", folder / "ct.nii.gz", folder), [folder / "brain.nii.gz"], folder)


def views(prepared, tissues=None, grain=2.0, **options) -> HeadViews:
    painter = Painter(signals={name: (value, value) for name, value in SIGNALS.items()}, **PLAIN)
    tissues = tissues or CtTissues(cortex_change=0.0, red_marrow=(0.0, 0.0))
    contents = BrainContents(enhanced=0.0, unknown=0.0, rim=(0.0, 0.0), grain=grain)
    return HeadViews([prepared], painter, tissues, contents, crop_size=[96, 96], views_per_epoch=8, **options)


def test_the_table_is_no_part_of_the_head(head):
    body = head_outline(head)
    assert not body[:, :3].any()
    truth = distances() < 62
    assert 2 * (body & truth).sum() / (body.sum() + truth.sum()) > 0.98


def test_the_cavity_ends_at_the_foramen(head):
    cavity = skull_cavity(head, head > 250, head_outline(head))
    truth = distances() < 48
    assert 2 * (cavity & truth).sum() / (cavity.sum() + truth.sum()) > 0.97
    assert not (cavity & (distances() > 58)).any()


def test_soft_tissue_alone_has_no_cavity(head):
    assert (
        skull_cavity(
            np.where(head > 250, 30.0, head)[::3, ::3, ::3], head[::3, ::3, ::3] > 9e9, head[::3, ::3, ::3] > -300
        )
        is None
    )


def test_a_ct_without_a_skull_is_refused(tmp_path, head):
    small = np.where(distances((60,) * 3, (30,) * 3) < 25, 40, -1000).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(small, np.eye(4)), tmp_path / "ball.nii.gz")
    with pytest.raises(InputError, match="no skull with a cavity"):
        prepare_head("ball", tmp_path / "ball.nii.gz", tmp_path)


def test_a_brain_of_another_shape_and_place_fills_the_cavity_up_to_its_rim():
    depth = distances(middle=(70, 60, 75), stretch=(0.9, 1.1, 1.0)) - 50
    near = distances(middle=(60, 75, 66), stretch=(1.1, 1.0, 0.85))
    hull = near < 44
    fitted = fitted_brain(np.where(hull, 1.0, 0.0).astype(np.float32), hull, depth, rim=3.0) > 0.5
    inner = depth < -3
    assert 2 * (fitted & inner).sum() / (fitted.sum() + inner.sum()) > 0.96
    assert not (fitted & (depth > 1)).any()


def test_liquid_grey_and_white_matter_are_told_apart(folder):
    mr = np.asarray(nibabel.load(folder / "brain.nii.gz").dataobj, dtype=np.float32)
    tissue, hull = brain_of(mr)
    assert hull[50, 60, 50] and not hull[2, 2, 2]
    near, white = distances((100, 120, 100), (50, 60, 50), (0.9, 1.1, 0.9)), folds(mr.shape)
    shell = (near > 23) & (near < 37)
    means = [tissue[part].mean() for part in (near < 17, shell & ~white, shell & white)]
    assert means[0] < 0.15 and means[1] == pytest.approx(0.5, abs=0.1) and means[2] == pytest.approx(1.0, abs=0.2)


def test_the_truth_lies_on_the_painted_voxels(prepared):
    data = views(prepared, vault=0.0)
    for index in range(4):
        view = data[index]
        hounsfield, signal = unit_to_hounsfield(view["ct"]), (view["mr"] + 1) * 1.25 / 2
        bone = hounsfield > 1100
        if bone.sum() > 50:
            assert signal[bone].mean() < 0.25
        brain = (hounsfield > 20) & (hounsfield < 45) & (view["weight"] > 2.5)
        if brain.sum() > 50:
            assert signal[brain].mean() > 0.5
        assert torch.equal(data[index]["mr"], view["mr"]), "a view is a function of its index"


def test_the_shares_of_the_brain_lie_where_the_truth_has_its_hounsfield(prepared):
    view = views(prepared, grain=0.0)[1]
    hounsfield = unit_to_hounsfield(view["ct"])[0]
    liquid, grey, white = view["brain"]
    whole = view["brain"].sum(0) > 0.999
    assert whole.sum() > 500
    expected = 7 * liquid + 39 * grey + 25 * white
    assert torch.allclose(hounsfield[whole], expected[whole], atol=0.6)
    assert view["brain"][:, hounsfield > 300].sum() < 0.2 * (hounsfield > 300).sum()


def test_a_thinner_skull_is_thinner_in_the_truth(prepared):
    amount = {}
    for change in (0.0, 0.7):
        options = {"vault": 1.0, "vault_change": (change, change), "elastic": 0.0, "scaling": (0.0, 0.0)}
        data = views(prepared, planes=(0.0, 0.0, 1.0), **options)
        amount[change] = sum(float((unit_to_hounsfield(data[i]["ct"]) > 600).sum()) for i in range(6))
    assert 0.35 < amount[0.7] / amount[0.0] < 0.75


def test_inside_the_skull_the_truth_follows_the_brain():
    window = Window((0, 0, 0), (1, 60, 60), (1.0, 1.0, 1.0))
    tissue = torch.tensor([0.0, 0.5, 1.0]).repeat_interleave(20)[None, None].expand(1, 60, 60)
    contents = BrainContents(enhanced=0.0, unknown=0.0, rim=(0.0, 0.0), grain=0.0)
    rng = np.random.default_rng(1)
    shares, hounsfield = contents(tissue, torch.full((1, 60, 60), -20.0), RandomFields(window, rng), rng)
    middle = hounsfield[0, :, [10, 30, 50]].mean(0)
    assert middle.tolist() == pytest.approx([7.0, 39.0, 25.0], abs=3.0)
    assert shares["liquid"][0, :, 5].mean() > 0.9 and shares["grey"][0, :, 30].mean() > 0.9
    assert shares["white"][0, :, 55].mean() > 0.9


def test_positions_are_sampled_where_they_are():
    maps = torch.arange(5 * 6 * 7, dtype=torch.float32).reshape(1, 5, 6, 7)
    place = torch.tensor([[1.0, 2.5], [3.0, 3.0], [4.0, 2.0]])[:, None, None]
    assert sampled(maps, place).flatten().tolist() == pytest.approx([1 * 42 + 3 * 7 + 4, 2.5 * 42 + 3 * 7 + 2])
    turn = rotation(np.deg2rad([20.0, -10.0, 5.0]))
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1.0)


def test_a_head_without_a_brain_is_refused(folder):
    bare = prepare_head("one", folder / "ct.nii.gz", folder)
    with pytest.raises(InputError, match="has no brain to show"):
        views(bare)
    depth = DEEPEST_MM - np.load(bare.path)[3] / 100
    assert depth.min() == pytest.approx(-48, abs=2)


def test_a_whole_painted_head_is_the_ct_that_it_was_painted_from(prepared, head):
    painter = Painter(signals={name: (value, value) for name, value in SIGNALS.items()}, alike=False, **PLAIN)
    contents = BrainContents(enhanced=0.0, unknown=0.0, rim=(0.0, 0.0), grain=0.0)
    tissues = CtTissues(cortex_change=0.0, red_marrow=(0.0, 0.0))
    signal, hounsfield, body = whole_head(prepared, 0, painter, tissues, contents, seed=3)
    assert signal.shape == hounsfield.shape == body.shape == head.shape
    radius = distances()
    skull = (radius > 49) & (radius < 55) & (head > 1100)
    assert np.abs(hounsfield[skull] - 1200).mean() < 25 and signal[skull].mean() < 0.1
    scalp = (radius > 57.5) & (radius < 60.5) & (head < 0)
    assert np.abs(hounsfield[scalp] + 80).mean() < 20 and signal[scalp].mean() > 0.7
    brain = radius < 40
    assert hounsfield[brain].min() >= 5 and hounsfield[brain].max() <= 41
    assert not body[:, :3].any() and (hounsfield[~body] == -1024).all()


EYES = MIDDLE + np.array([[-32.0, 36.0, -42.0], [32.0, 36.0, -42.0]])
BEHIND = np.array([0.0, -36.0, -16.0])


@pytest.fixture(scope="module")
def head_with_eyes(head) -> np.ndarray:
    """Two balls of 11.5 mm and 12 HU in fat, under the front of the cavity; a third one of muscle behind each."""
    hounsfield = head.copy()
    outside = distances() >= 56
    for eye in EYES:
        hounsfield[outside & (distances(middle=eye) < 17)] = -80.0
        hounsfield[outside & (distances(middle=eye + BEHIND) < 12.5)] = 60.0
        hounsfield[distances(middle=eye) < 11.5] = 12.0
    return hounsfield


def test_eyes_are_found_and_muscle_is_not(head_with_eyes):
    body = head_outline(head_with_eyes)
    bone = (head_with_eyes > 250) & body
    cavity = skull_cavity(head_with_eyes, bone, body)
    found, expected = eyeballs(head_with_eyes, cavity, body), np.zeros(body.shape, bool)
    for eye in EYES:
        expected |= distances(middle=eye) < 11.5
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.9


def test_a_picture_that_ends_above_the_eyes_has_none(head_with_eyes):
    above = head_with_eyes[:, :, int(EYES[0][2]) + 14 :]
    body = head_outline(above)
    assert not eyeballs(above, skull_cavity(above, (above > 250) & body, body), body).any()


def test_eyes_are_painted_as_liquid_and_keep_their_hounsfield(head_with_eyes, folder, tmp_path):
    nibabel.save(nibabel.Nifti1Image(head_with_eyes.astype(np.int16), np.eye(4)), tmp_path / "ct.nii.gz")
    head = with_brains(prepare_head("eyes", tmp_path / "ct.nii.gz", tmp_path), [folder / "brain.nii.gz"], tmp_path)
    painter = Painter(signals={name: (value, value) for name, value in SIGNALS.items()}, alike=False, **PLAIN)
    tissues = CtTissues(cortex_change=0.0)
    signal, hounsfield, _ = whole_head(head, 0, painter, tissues, BrainContents(), seed=3)
    for eye in EYES:
        inside, muscle = distances(middle=eye) < 9, distances(middle=eye + BEHIND) < 9
        np.testing.assert_allclose(np.median(signal[inside]), SIGNALS["liquid"], atol=0.02)
        np.testing.assert_allclose(np.median(signal[muscle & (distances() > 58)]), SIGNALS["water"], atol=0.02)
        assert np.abs(hounsfield[inside] - 12.0).max() <= 3


def test_views_near_eyes_show_eyes(head_with_eyes, folder, tmp_path):
    nibabel.save(nibabel.Nifti1Image(head_with_eyes.astype(np.int16), np.eye(4)), tmp_path / "ct.nii.gz")
    head = with_brains(prepare_head("eyes", tmp_path / "ct.nii.gz", tmp_path), [folder / "brain.nii.gz"], tmp_path)

    def eye_voxels(near_eyes: float) -> float:
        made = views(head, grain=0.0, near_eyes=near_eyes, planes=(0.0, 0.0, 1.0))
        liquid = [np.abs(unit_to_hounsfield(made[index]["ct"]).numpy() - 12.0) < 1.5 for index in range(16)]
        return float(np.mean(liquid))

    assert eye_voxels(1.0) > 1.5 * eye_voxels(0.0)


def test_a_left_out_ct_becomes_a_pair_that_can_be_judged(folder, head, tmp_path):
    for kind, name in (("ct", "ct"), ("mr", "brain")):
        (tmp_path / "data" / kind).mkdir(parents=True)
        shutil.copy(folder / f"{name}.nii.gz", tmp_path / "data" / kind / f"{kind}_{name}.nii.gz")
    painter = Painter(signals={name: (value, value) for name, value in SIGNALS.items()}, alike=False, **PLAIN)
    contents = BrainContents(enhanced=0.0, unknown=0.0, rim=(0.0, 0.0))
    places = {"painted_dir": tmp_path / "out" / "painted", "cache_dir": folder}
    for _ in range(2):  # a second run replaces what the first one left
        cases = painted_cases(tmp_path / "data", painter, CtTissues(cortex_change=0.0), contents, **places)
    pair = read_pair(cases[0])
    assert len(cases) == 1 and pair.mask.any()
    skull = (distances() > 49) & (distances() < 55) & (head > 1100)
    assert pair.ct.array[skull].mean() > 1150 and pair.mr.array[skull].mean() < 100
