"""Promises of the painter: truth on the same voxels, and each effect does what it says."""

import numpy as np
import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.transforms import CtTissues, Painter, RandomFields, Window, label_tissues

SIGNALS = {
    "fat": (0.9, 0.9),
    "water": (0.3, 0.3),
    "fatty_marrow": (0.9, 0.9),
    "red_marrow": (0.5, 0.5),
    "cortex": (0.0, 0.0),
}
NOTHING_ELSE = {
    "free": 0.0,
    "suppressed": 0.0,
    "texture": 0.0,
    "region": 0.0,
    "lines": 0.0,
    "spots": 0.0,
    "borders": 0.0,
    "chemical_shift": 0.0,
    "blur": (0.0, 0.0),
    "thick": 0.0,
    "bias": 0.0,
    "noise": (0.0, 0.0),
    "gamma": 0.0,
    "gain": (0.9, 0.9),
}
PLAIN_TISSUES = CtTissues(
    fat_hounsfield=(-100, -100),
    water_hounsfield=(20, 20),
    marrow_hounsfield=(0, 0),
    mineral_hounsfield=(1300, 1300),
    red_marrow=(0, 0),
    cortex_change=0,
)
HALO = Painter.HALO


def window(origin=(0, 0, 0), shape=(3, 80, 80), spacing=(3.0, 1.0, 1.0)):
    return Window(origin, shape, spacing)


def limb(shape=(3, 80, 80), origin=(0, 0, 0)):
    """HU, bone and body of a leg on the positions of a window: fat around muscle around a bone with marrow."""
    rows = torch.arange(shape[1]) + origin[1] - 40.0
    columns = torch.arange(shape[2]) + origin[2] - 40.0
    radius = torch.hypot(rows[:, None], columns[None]).expand(shape)
    hounsfield = torch.full(shape, -1024.0)
    for limit, value in ((28, -100.0), (22, 50.0), (9, 1300.0), (5, 0.0)):
        hounsfield = torch.where(radius < limit, value, hounsfield)
    return hounsfield, (radius < 9).float(), (radius < 28).float()


def paint(painter, tissues=PLAIN_TISSUES, where=None, seed=0):
    where = where or window()
    rng = np.random.default_rng(seed)
    fields = painter.fields(where, rng)
    return painter(tissues(*limb(where.shape, where.origin), fields, rng), fields, rng)


def inside(image):
    return image[tuple(slice(h, n - h) for h, n in zip(HALO, image.shape, strict=True))]


def test_without_effects_each_tissue_has_its_signal_on_the_voxels_of_the_truth():
    image = paint(Painter(signals=SIGNALS, **NOTHING_ELSE))
    hounsfield, *_ = limb()
    for value, signal in ((-100.0, 0.9), (50.0, 0.3), (1300.0, 0.0), (0.0, 0.9), (-1024.0, 0.0)):
        here = inside(hounsfield) == value
        assert here.any()
        assert torch.allclose(inside(image)[here], torch.tensor(signal), atol=1e-4), value


def test_signal_of_marrow_falls_linearly_with_mineral():
    hounsfield = torch.linspace(0, 1300, 64).expand(1, 64, 64)
    ones = torch.ones(1, 64, 64)
    rng = np.random.default_rng(0)
    fields = RandomFields(window(shape=(1, 64, 64)), rng)
    shares = PLAIN_TISSUES(hounsfield, ones, ones, fields, rng)
    assert torch.allclose(shares["fatty_marrow"][0, 0], torch.linspace(1, 0, 64), atol=1e-5)
    assert torch.allclose(sum(shares.values()), ones)


def test_nothing_painted_depends_on_where_the_crop_lies():
    painter = Painter(signals=SIGNALS, suppressed=0.5, thick=0.5, lines=1.0, spots=1.0, borders=1.0, chemical_shift=2.0)
    moved = (1, 7, 12)
    for seed in range(8):
        whole = paint(painter, CtTissues(cortex_change=0), window(), seed)
        part = paint(painter, CtTissues(cortex_change=0), window(moved, (2, 60, 58)), seed)
        same = whole[moved[0] : moved[0] + 2, moved[1] : moved[1] + 60, moved[2] : moved[2] + 58]
        assert torch.allclose(inside(part), inside(same), atol=1e-4), seed


def test_two_draws_differ_and_one_draw_is_repeatable():
    painter = Painter(signals=SIGNALS)
    assert torch.equal(paint(painter, seed=3), paint(painter, seed=3))
    assert (paint(painter, seed=3) - paint(painter, seed=4)).abs().mean() > 0.01


def test_fat_suppression_darkens_fat_and_fatty_marrow_only():
    plain = {**NOTHING_ELSE, "suppressed": 1.0, "suppression": (0.1, 0.1)}
    image, hounsfield = inside(paint(Painter(signals=SIGNALS, **plain))), inside(limb()[0])
    fat, muscle = image[hounsfield == -100].mean(), image[hounsfield == 50].mean()
    assert muscle == pytest.approx(0.9 * 0.3 / 0.5, abs=1e-3)  # red marrow is the brightest now
    assert fat == pytest.approx(0.9 * 0.09 / 0.5, abs=1e-3)


def test_chemical_shift_moves_fat_by_so_many_mm_and_leaves_water():
    shifts = []
    for seed in range(12):
        plain = {**NOTHING_ELSE, "chemical_shift": 2.0}
        only_fat = Painter(signals=SIGNALS, **plain)
        rng = np.random.default_rng(seed)
        where = window()
        fields = only_fat.fields(where, rng)
        blob = torch.zeros(where.shape)
        blob[:, 26:38, 26:38] = 1.0
        image = only_fat({"fat": blob}, fields, rng)
        at = [float((image[0].sum(1 - a) * torch.arange(80)).sum() / image[0].sum()) - 31.5 for a in range(2)]
        shifts.append(at)
        rng = np.random.default_rng(seed)
        fields = only_fat.fields(where, rng)
        water = only_fat({"water": blob}, fields, rng)
        assert torch.allclose(water, 0.3 * blob, atol=1e-5)
    moved = np.abs(shifts)
    assert (moved.min(axis=1) < 1e-3).all()  # along one axis only
    assert moved.max() <= 2.0
    assert moved.max(axis=1).mean() > 0.4


def test_thick_slices_blur_one_axis():
    plain = {**NOTHING_ELSE, "thick": 1.0, "thickness": (5.0, 5.0)}
    where = window(shape=(1, 64, 64))
    point = torch.zeros(where.shape)
    point[0, 32, 32] = 1.0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        painter = Painter(signals=SIGNALS, **plain)
        image = painter({"water": point}, painter.fields(where, rng), rng)[0]
        rows, columns = image.sum(1), image.sum(0)
        widths = sorted(float(torch.count_nonzero(line > 0.5 * line.max())) for line in (rows, columns))
        assert widths[0] == 1
        assert 4 <= widths[1] <= 10  # a slice is 5 mm thick, and shown between its neighbours


def test_noise_is_rician_in_air():
    plain = {**NOTHING_ELSE, "noise": (0.05, 0.05)}
    painter = Painter(signals=SIGNALS, **plain)
    rng = np.random.default_rng(0)
    where = window(shape=(4, 60, 60))
    image = painter({}, painter.fields(where, rng), rng)
    assert float(image.mean()) == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.1)


def test_dark_structures_spare_bone_and_never_brighten():
    plain = Painter(signals=SIGNALS, **NOTHING_ELSE)
    dark = Painter(signals=SIGNALS, **{**NOTHING_ELSE, "lines": 1.0, "spots": 1.0, "borders": 1.0})
    bone = limb()[1] > 0
    darkened = 0.0
    for seed in range(6):
        before, after = paint(plain, seed=seed), paint(dark, seed=seed)
        assert torch.allclose(before[bone], after[bone], atol=1e-5)
        assert (after <= before + 1e-5).all()
        darkened += float((after < 0.7 * before)[~bone].float().mean())
    assert darkened > 0


@pytest.mark.parametrize(("seed", "thicker"), [(s, None) for s in range(6)])
def test_cortex_moves_by_a_voxel_at_most_and_takes_the_truth_along(seed, thicker):
    hounsfield, bone, _ = limb()
    tissues = CtTissues(cortex_change=1.0, cortex_voxels=(1.0, 1.0))
    changed, bone_after = tissues.changed_cortex(hounsfield, bone, np.random.default_rng(seed))
    area, before = (float(torch.count_nonzero(h[0] > 600)) for h in (changed, hounsfield))
    ring = 2 * np.pi * (9 + 5)
    assert abs(area - before) <= 1.6 * ring
    far = torch.hypot(torch.arange(80)[:, None] - 40.0, torch.arange(80)[None] - 40.0) > 12
    assert torch.equal(changed[:, far], hounsfield[:, far])
    assert (bone_after >= bone).all()
    amount = np.abs(changed - hounsfield).max()
    assert amount > 1


def test_smooth_fields_have_unit_deviation_and_the_scale_asked_for():
    where = window(shape=(4, 128, 128), spacing=(1.0, 1.0, 1.0))
    deviations, near, far = [], [], []
    for seed in range(10):
        field = RandomFields(where, np.random.default_rng(seed)).smooth(8.0)[0]
        deviations.append(float(field.std()))
        near.append(float((field[:, :, 1:] - field[:, :, :-1]).abs().mean()))
        far.append(float((field[:, :, 40:] - field[:, :, :-40]).abs().mean()))
    assert np.mean(deviations) == pytest.approx(1.0, abs=0.2)
    assert np.mean(near) < 0.2 * np.mean(far)


def test_label_maps_are_painted_with_a_signal_for_each_class():
    labels = torch.zeros(2, 40, 40, dtype=torch.long)
    labels[:, 10:30, 10:20], labels[:, 10:30, 20:30] = 1, 2
    names = {f"label_{n}": (0.1 + 0.3 * n, 0.1 + 0.3 * n) for n in range(3)}
    painter = Painter(signals=names, fat=(), dark=(), **{**NOTHING_ELSE, "gain": (0.7, 0.7)})
    rng = np.random.default_rng(0)
    where = Window((0, 0, 0), (2, 40, 40), (1.0, 1.0, 1.0))
    image = painter(label_tissues(labels, 3), painter.fields(where, rng), rng)
    for number in range(3):
        assert torch.allclose(image[labels == number], torch.tensor(0.1 + 0.3 * number), atol=1e-4)


def test_a_relative_signal_follows_that_of_its_tissue():
    signals = {"fat": (0.4, 1.0), "fatty_marrow": (0.95, 0.95), "water": (0.2, 0.3)}
    painter = Painter(signals=signals, relative={"fatty_marrow": "fat"}, free=0.0, suppressed=0.5)
    for seed in range(20):
        drawn = painter.draw_signals(np.random.default_rng(seed))
        assert drawn["fatty_marrow"] == pytest.approx(0.95 * drawn["fat"])
    with pytest.raises(SettingError, match="fat must come first"):
        Painter(signals={"marrow": (1, 1), "fat": (1, 1)}, relative={"marrow": "fat"})


def test_mistakes_are_named():
    with pytest.raises(SettingError, match=r"gain is \[1\.0, 0\.5\]"):
        Painter(signals=SIGNALS, gain=(1.0, 0.5))
    painter = Painter(signals=SIGNALS)
    rng = np.random.default_rng(0)
    with pytest.raises(SettingError, match="no signal for 'brain'"):
        painter({"brain": torch.zeros(1, 8, 8)}, painter.fields(window(shape=(1, 8, 8)), rng), rng)
    with pytest.raises(SettingError, match="from 0 to 4"):
        label_tissues(torch.tensor([0, 4]), 3)
