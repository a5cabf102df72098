"""A fingerprint lets pass what is like its training set, and says in plain words how others differ."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import stats

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.checks.fingerprint.measurement import QUANTILE_LEVELS, Contrast, Spread, measure
from medical_gans.errors import InputError

SPACING = (4.0, 4.0, 4.0)


def head(seed: int, *, skull_stripped: bool = False) -> np.ndarray:
    """T1-like head: bright scalp, dark skull, brain of grey and white matter, in a volume of 240 mm."""
    rng = np.random.default_rng(seed)
    radii = np.array([76.0, 96.0, 100.0]) * rng.uniform(0.95, 1.05, 3)
    axes = np.meshgrid(*[(np.arange(60) - 30) * 4.0] * 3, indexing="ij")
    shell = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)))
    depth = (1 - shell) * radii.min()
    texture = rng.normal(0, 20, shell.shape)
    white = np.sin(axes[0] / 9) * np.sin(axes[1] / 11) * np.sin(axes[2] / 10) > 0
    values = np.where(white, 330.0, 230.0)
    values[depth < 11] = 30.0 if not skull_stripped else 0.0
    values[depth < 8] = 560.0 if not skull_stripped else 0.0
    values[depth < 0] = 0.0
    values *= rng.uniform(0.9, 1.1)
    return np.abs(values + np.where(values > 0, texture, 4)).astype(np.int16)


def limb(seed: int) -> np.ndarray:
    """T1-like thigh that runs out of the picture: bright fat over dark muscle, with a bone."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(*[(np.arange(n) - n / 2) * 4.0 for n in (33, 35, 45)], indexing="ij")
    depth = rng.uniform(75, 85) - np.hypot(x - rng.uniform(-20, 20), y + 20)
    values = np.where(depth > rng.uniform(10, 20), 280.0, 950.0)
    values[np.hypot(x, y) < 14] = 80.0
    values[np.hypot(x, y) < 8] = 900.0
    values[depth < 0] = 0.0
    return np.abs(values + rng.normal(0, 25, values.shape)).astype(np.int16)


@pytest.fixture(scope="module")
def head_fingerprint() -> Fingerprint:
    return Fingerprint.from_volumes(((head(seed), SPACING) for seed in range(4)), anatomy="head")


@pytest.fixture(scope="module")
def limb_fingerprint() -> Fingerprint:
    return Fingerprint.from_volumes(((limb(seed), SPACING) for seed in range(6)), anatomy="thigh")


def only(sentences: list[str]) -> str:
    assert len(sentences) == 1, sentences
    return sentences[0]


@pytest.mark.parametrize("seed", range(10, 16))
def test_another_patient_of_the_same_kind_passes(
    head_fingerprint: Fingerprint, limb_fingerprint: Fingerprint, seed: int
) -> None:
    assert head_fingerprint.compare(head(seed), SPACING) == []
    assert limb_fingerprint.compare(limb(seed), SPACING) == []


def test_axes_in_another_order_and_direction_pass(head_fingerprint: Fingerprint) -> None:
    assert head_fingerprint.compare(head(20)[::-1].transpose(2, 0, 1), SPACING) == []


def test_the_wrong_site_is_named_both_ways(head_fingerprint: Fingerprint, limb_fingerprint: Fingerprint) -> None:
    for fingerprint, volume in ((head_fingerprint, limb(10)), (limb_fingerprint, head(10))):
        said = " ".join(fingerprint.compare(volume, SPACING))
        assert f"does not look like the {fingerprint.anatomy} MR" in said
        assert "choose weights for that site" in said


def test_a_skull_stripped_head_is_called_so(head_fingerprint: Fingerprint) -> None:
    said = only(head_fingerprint.compare(head(10, skull_stripped=True), SPACING))
    assert "skull-stripped" in said and "before brain extraction" in said


def test_a_ct_is_refused_by_its_header_by_its_values_and_without_its_intercept(
    limb_fingerprint: Fingerprint,
) -> None:
    mr = limb(10)
    hounsfield = np.where(mr > 700, -90, np.where(mr > 150, 60, -1000)) + np.random.default_rng(0).normal(
        0, 10, mr.shape
    )
    assert "The file says that it is CT" in only(limb_fingerprint.compare(mr, SPACING, "CT"))
    assert "Hounsfield units of a CT" in only(limb_fingerprint.compare(hounsfield, SPACING))
    assert "Hounsfield units of a CT" in only(limb_fingerprint.compare(hounsfield, SPACING, "MR"))
    assert "without its rescale intercept" in only(limb_fingerprint.compare(hounsfield + 1024, SPACING))


def test_an_mr_given_as_ct_is_called_so() -> None:
    ct = [np.where(limb(seed) > 150, limb(seed + 9) % 30, -1000) for seed in range(3)]
    fingerprint = Fingerprint.from_volumes([(array, SPACING) for array in ct], modality="CT", anatomy="thigh")
    assert fingerprint.compare(ct[0], SPACING, "CT") == []
    assert "do not look like Hounsfield units" in only(fingerprint.compare(limb(10), SPACING))


@pytest.mark.parametrize(("factor", "size"), [(0.4, "smaller"), (2.5, "larger")])
def test_a_wrong_voxel_size_is_said_with_both_numbers(head_fingerprint: Fingerprint, factor: float, size: str) -> None:
    said = head_fingerprint.compare(head(10), [4 * factor] * 3)
    assert f"Voxels measure {4 * factor:.3g} x" in said[0] and "those of training 4 x 4 x 4 mm" in said[0]
    assert f"field of view is {size} than in training: {240 * factor:.3g} x" in said[1]
    assert len(said) == 2


def test_an_empty_and_a_constant_volume_are_called_empty(head_fingerprint: Fingerprint) -> None:
    almost = np.zeros((60, 60, 60), dtype=np.int16)
    almost[30:34, 30:34, 30:34] = 100
    for volume in (almost, np.zeros((60, 60, 60)), np.full((60, 60, 60), 7.0)):
        assert "almost empty" in only(head_fingerprint.compare(volume, SPACING))


def test_a_saturated_image_is_called_so(limb_fingerprint: Fingerprint) -> None:
    assert "saturated" in limb_fingerprint.compare(np.minimum(limb(10), 600), SPACING)[0]


def test_another_contrast_is_called_so(head_fingerprint: Fingerprint) -> None:
    t2 = head(10)
    inverted = np.where(t2 > 0, 620 - np.clip(t2, 0, 600), 0)
    assert any("grey values differ" in said for said in head_fingerprint.compare(inverted, SPACING))


def test_strict_refuses_with_all_sentences(head_fingerprint: Fingerprint) -> None:
    said = head_fingerprint.compare(head(10), [10.0] * 3)
    with pytest.raises(InputError) as error:
        head_fingerprint.compare(head(10), [10.0] * 3, strict=True)
    assert str(error.value) == " ".join(said)
    assert head_fingerprint.compare(head(10), SPACING, strict=True) == []


def test_a_fingerprint_survives_json(head_fingerprint: Fingerprint) -> None:
    assert Fingerprint.from_json(head_fingerprint.to_json()) == head_fingerprint
    for text in ("", "[]", "{}", '{"scalars": {"a": 1}}'):
        with pytest.raises(InputError, match="cannot be read"):
            Fingerprint.from_json(text)


def test_a_training_set_without_a_body_has_no_fingerprint() -> None:
    with pytest.raises(InputError, match="No MR of the training set shows a body"):
        Fingerprint.from_volumes([(np.zeros((20, 20, 20)), SPACING)], anatomy="head")


def test_one_training_case_is_enough() -> None:
    fingerprint = Fingerprint.from_volumes([(head(0), SPACING)], anatomy="head")
    assert fingerprint.compare(head(1), SPACING) == []
    assert fingerprint.compare(limb(1), SPACING) != []


def test_measured_figures_equal_the_phantom() -> None:
    x, y, z = np.meshgrid(*[np.arange(60) * 2.0 - 59.0] * 3, indexing="ij")
    ball = np.where(np.sqrt(x**2 + y**2 + z**2) < 40, 500, 0)
    ball[::2, ::2, ::2] += ball[::2, ::2, ::2] // 5
    figures = measure(ball, (2.0, 2.0, 2.0), "MR")
    assert figures is not None
    assert figures.scalars["body_volume"] == pytest.approx(4 / 3 * np.pi * 0.04**3 * 1000, rel=0.02)
    assert figures.scalars["body_fraction"] == pytest.approx(4 / 3 * np.pi * 40**3 / 120**3, rel=0.02)
    assert figures.scalars["border"] == 0
    assert [figures.scalars[f"extent_{n}"] for n in (1, 2, 3)] == [120, 120, 120]
    assert figures.scalars["background"] == -1
    # The reference is 600, the 99th percentile, so that 500 lies at 500 / 600 / 1.25 of the range.
    assert figures.quantiles[QUANTILE_LEVELS.index(0.5)] == pytest.approx(2 * 500 / 750 - 1, abs=1e-6)


def test_intervals_hold_new_patients_at_the_promised_rate() -> None:
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(100):
        low, high = Spread.of("extent_1", np.exp(rng.normal(5, 0.3, 30)).tolist()).interval("extent_1")
        new = np.exp(rng.normal(5, 0.3, 1000))
        outside += np.count_nonzero((new < low) | (new > high))
    assert 0.001 < outside / 100_000 < 0.008  # twice FALSE_ALARM is 0.004


def test_contrast_distance_is_calibrated_and_equals_mahalanobis_for_many_patients() -> None:
    rng = np.random.default_rng(0)
    size, count = len(QUANTILE_LEVELS), 4000
    mixing = rng.normal(0, 0.1, (size, size))
    rows = rng.normal(0, 1, (count, size)) @ mixing
    contrast = Contrast.of(rows.tolist())
    new = rng.normal(0, 1, (800, size)) @ mixing
    distances = np.array([contrast.distance(row) for row in new])
    assert np.mean(distances > 1) == pytest.approx(0.005, abs=0.006)
    squared = np.einsum("ni,ij,nj->n", new, np.linalg.inv(mixing.T @ mixing), new)
    expected = np.sqrt(squared / stats.chi2.ppf(0.995, size))
    assert np.median(np.abs(distances / expected - 1)) < 0.05


def test_contrast_shift_is_the_wasserstein_distance() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 0.2, 50_000), rng.normal(0.1, 0.2, 50_000)
    levels = (np.arange(9) + 0.5) / 9
    contrast = Contrast.of([np.quantile(first, levels).tolist()])
    expected = stats.wasserstein_distance(first, second) / 2
    assert contrast.shift(np.quantile(second, levels).tolist()) == pytest.approx(expected, rel=0.05)


def read(path: Path) -> tuple[np.ndarray, list[float]]:
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj), [float(size) for size in image.header.get_zooms()[:3]]


def fingerprint_of(volumes: list[tuple[np.ndarray, list[float]]], anatomy: str) -> tuple[Fingerprint, list]:
    found = [measure(*volume, "MR") for volume in volumes]
    return Fingerprint.from_measurements(found, modality="MR", anatomy=anatomy), found


def test_real_heads_and_thighs_are_told_apart_without_false_warnings(shared_data: Path) -> None:
    thighs = [read(path) for path in sorted(shared_data.glob("thigh_mr_ct/training*/*/mr.nii.gz"))[::3]]
    validation = [read(path) for path in sorted(shared_data.glob("thigh_mr_ct/validation/*/mr.nii.gz"))]
    heads = [read(path) for path in sorted(shared_data.glob("head_unpaired/mr/*")) if "icbm" not in path.name]
    thigh, _ = fingerprint_of(thighs, "thigh")
    whole_head, measured = fingerprint_of(heads, "head")
    assert [thigh.compare(*volume) for volume in validation] == [[]] * len(validation)
    for fingerprint, others in ((thigh, heads), (whole_head, validation)):
        for volume in others:
            assert "does not look like" in fingerprint.compare(*volume)[-1]
    for number, volume in enumerate(heads):
        rest = measured[:number] + measured[number + 1 :]
        found = Fingerprint.from_measurements(rest, modality="MR", anatomy="head").compare(*volume)
        if min(volume[1]) > 1.5:  # one head of 2 mm among heads of 1 mm
            assert "Voxels measure 2 x 2 x 2 mm" in only(found)
        else:
            assert found == []


def test_the_real_skull_stripped_template_is_called_so(shared_data: Path) -> None:
    heads = [read(path) for path in sorted(shared_data.glob("head_unpaired/mr/*")) if "icbm" not in path.name]
    whole_head, _ = fingerprint_of(heads, "head")
    template = read(next(shared_data.glob("head_unpaired/mr/icbm*")))
    assert "skull-stripped" in only(whole_head.compare(*template))


def test_real_ct_is_never_taken_for_mr(shared_data: Path, head_fingerprint: Fingerprint) -> None:
    for path in shared_data.glob("head_unpaired/ct/*"):
        ct, spacing = read(path)
        assert "Hounsfield units of a CT" in only(head_fingerprint.compare(ct, spacing))
        shifted = head_fingerprint.compare(ct.astype(np.int32) + 1024, spacing)
        assert "without its rescale intercept" in only(shifted)
