"""Promises of the lists for T1 without T1 labels: own lesions are found, others' are painted, no label is opened."""

import importlib.util
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPACING, SHAPE = 3.0, (56, 64, 52)
AFFINE = np.diag([-SPACING, SPACING, SPACING, 1.0])
MIDDLE = np.array([84.0, 96.0, 78.0])


def ellipsoid(middle, radii):
    axes = np.meshgrid(*[np.arange(n) * SPACING for n in SHAPE], indexing="ij")
    return sum(((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radii, strict=True)) < 1


def ventricles(wide):
    aside = np.array([14.0 * wide, 0, 0])
    return ellipsoid(MIDDLE - aside, (8 * wide, 36, 12)) | ellipsoid(MIDDLE + aside, (8 * wide, 36, 12))


def write(file, tissues, seed):
    """An image of ``(mask, signal)``, the later over the earlier, with noise in the brain, which is the first."""
    image = np.zeros(SHAPE)
    for mask, signal in tissues:
        image[mask] = signal
    image = ndimage.gaussian_filter(image, 0.4) + 0.01 * np.random.default_rng(seed).standard_normal(SHAPE)
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.where(tissues[0][0], 300 * image, 0).astype(np.float32), AFFINE), file)


def mask(file, array):
    nib.save(nib.Nifti1Image(array.astype(np.uint8), AFFINE), file)


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("lesion_transplant", BENCHMARKS / "lesion_transplant.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


def run(benchmark, folder, *options):
    argv = ["lesion_transplant.py", "--source_dir", folder / "source", "--target_dir", folder / "target"]
    argv += ["--output_dir", folder / "made", "--label", "lesion", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(word) for word in argv])
        benchmark.main()


@pytest.fixture(scope="module")
def made(benchmark, tmp_path_factory):
    """Two FLAIR with a bright lesion beside a ventricle, a wider T1 with a dark one there and a dark nucleus."""
    folder = tmp_path_factory.mktemp("transplant")
    for number, back in enumerate((4, -4)):
        brain = ellipsoid(MIDDLE, (60, 78, 57))
        liquid = ventricles(1.0)
        lesion = ellipsoid(MIDDLE + np.array([27, 6 + back, 4]), (6, 16, 9)) & ~liquid
        write(folder / f"source/p{number}/FLAIR.nii.gz", [(brain, 1.0), (liquid, 0.3), (lesion, 1.6)], number)
        mask(folder / f"source/p{number}/lesion.nii.gz", lesion)
    brain = ellipsoid(MIDDLE, (66, 78, 57))
    liquid = ventricles(1.1)
    own = ellipsoid(MIDDLE + np.array([31, 6, 4]), (6, 14, 8)) & ~liquid
    nucleus = ellipsoid(MIDDLE - np.array([40, 30, 10]), (8, 12, 8))
    write(folder / "target/q/T1.nii.gz", [(brain, 1.0), (liquid, 0.25), (nucleus, 0.7), (own, 0.7)], 9)
    mask(folder / "target/q/brainmask.nii.gz", brain)
    (folder / "target/q/lesion.nii.gz").write_text("whoever opens this label fails")
    run(benchmark, folder)
    return folder, own, nucleus, liquid


def listed(folder, name):
    return json.loads((folder / f"made/{name}.json").read_text())["training"]


def loaded(file):
    return np.asarray(nib.load(file).dataobj)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_the_own_lesion_of_the_t1_is_labelled_and_nothing_else_that_is_dark(made):
    folder, own, nucleus, liquid = made
    label = loaded(folder / "made/q/lesion.nii.gz") > 0
    assert dice(label, own) > 0.6
    assert not label[nucleus].any() and not label[liquid].any()
    assert np.allclose(nib.load(folder / "made/q/lesion.nii.gz").affine, AFFINE)


def test_the_list_of_found_lesions_holds_t1_as_it_is_and_flair_with_its_label(made):
    folder = made[0]
    entries = listed(folder, "found")
    images = [Path(entry["image"]) for entry in entries]
    assert images.count(folder / "target/q/T1.nii.gz") == 3 and len({entry["name"] for entry in entries}) == len(images)
    for person in ("p0", "p1"):
        of_person = [entry for entry in entries if entry["image"].endswith(f"{person}/FLAIR.nii.gz")]
        assert {entry["label"] for entry in of_person} == {str(folder / f"source/{person}/lesion.nii.gz")}
    assert {Path(e["label"]) for e in entries if "T1" in e["image"]} == {folder / "made/q/lesion.nii.gz"}


def test_a_painted_t1_has_the_lesion_of_the_other_person_dark_and_no_longer_its_own(made):
    folder, own, nucleus, _ = made
    before = loaded(folder / "target/q/T1.nii.gz")
    painted = [entry for entry in listed(folder, "painted") if "T1" in entry["image"]]
    assert sorted(entry["name"] for entry in painted) == ["q-p0", "q-p1"]
    for entry, back in zip(sorted(painted, key=lambda one: one["name"]), (4, -4), strict=True):
        image, label = loaded(entry["image"]), loaded(entry["label"]) > 0
        there = ellipsoid(MIDDLE + np.array([31, 6 + back, 4]), (6.6, 16, 9))
        assert dice(label, there) > 0.6
        white = np.median(before[before > 240])
        inner = ndimage.binary_erosion(label)
        assert 0.5 * white < image[inner].mean() < 0.95 * white
        healed = own & ~ndimage.binary_dilation(label)
        assert not healed.any() or image[healed].mean() > before[healed].mean() + 0.1 * white
        assert image[nucleus] == pytest.approx(before[nucleus], rel=0.01)


def test_with_found_only_nothing_is_painted(benchmark, made, tmp_path):
    for name in ("source", "target"):
        (tmp_path / name).symlink_to(made[0] / name)
    run(benchmark, tmp_path, "--found_only")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["found.json", "q"]
    once = loaded(made[0] / "made/q/lesion.nii.gz")
    assert np.array_equal(loaded(tmp_path / "made/q/lesion.nii.gz"), once)


def test_a_flair_of_another_scanner_gets_a_first_label_of_what_is_bright(benchmark, made, tmp_path):
    folder, own, nucleus, liquid = made
    (tmp_path / "source").symlink_to(folder / "source")
    brain = ellipsoid(MIDDLE, (66, 78, 57))
    tissues = [(brain, 1.0), (liquid, 0.25), (nucleus, 1.6), (own, 1.6)]
    write(tmp_path / "target/q/FLAIR.nii.gz", tissues, 9)
    run(benchmark, tmp_path, "--target_channel", "FLAIR", "--copies", "1")
    label = loaded(tmp_path / "made/q/lesion.nii.gz") > 0
    assert dice(label, own) > 0.6 and not label[nucleus].any() and not label[liquid].any()
    names = sorted(entry["name"] for entry in listed(tmp_path, "found"))
    assert names == ["p0-0", "p1-0", "q-0", "q-1", "q-2"]  # each labelled FLAIR once
    assert not (tmp_path / "made/painted.json").exists()


def test_people_of_the_source_judge_first_labels_made_of_lesions_of_the_others(benchmark, made, tmp_path, capsys):
    (tmp_path / "source").symlink_to(made[0] / "source")
    (tmp_path / "target").symlink_to(made[0] / "source")
    run(benchmark, tmp_path, "--target_channel", "FLAIR", "--judge", "lesion")
    pairs = [
        (loaded(tmp_path / f"{root}/{name}/lesion.nii.gz") > 0 for root in ("made", "source")) for name in ("p0", "p1")
    ]
    truth = [dice(*pair) for pair in pairs]
    assert min(truth) > 0.6
    said = capsys.readouterr().out
    assert [f"{name}: Dice {one:.2f}" in said for name, one in zip(("p0", "p1"), truth, strict=True)] == [True, True]
    assert f"mean Dice {np.mean(truth):.3f}" in said


def test_one_limit_serves_a_scanner_so_a_head_without_lesions_gets_hardly_a_label(benchmark, made, tmp_path):
    (tmp_path / "source").symlink_to(made[0] / "source")
    liquid, rim = ventricles(1.0), ellipsoid(MIDDLE + np.array([27, 6, 4]), (6, 14, 8)) & ~ventricles(1.0)
    brain = ellipsoid(MIDDLE, (60, 78, 57))
    for name, signal in (("ill", 1.6), ("well", 1.1)):
        write(tmp_path / f"target/{name}/FLAIR.nii.gz", [(brain, 1.0), (liquid, 0.25), (rim, signal)], 9)
    run(benchmark, tmp_path, "--target_channel", "FLAIR")
    assert dice(loaded(tmp_path / "made/ill/lesion.nii.gz") > 0, rim) > 0.6
    assert not (loaded(tmp_path / "made/well/lesion.nii.gz") > 0).any()


def test_a_folder_with_something_in_it_is_refused(benchmark, tmp_path, capsys):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/kept.txt").touch()
    with pytest.raises(SystemExit):
        run(benchmark, tmp_path)
    assert "not empty" in capsys.readouterr().err
