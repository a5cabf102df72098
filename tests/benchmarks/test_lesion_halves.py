"""Promises of patients cut in halves: each lesion on its own side, nothing of one side on the other."""

import importlib.util
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lesion_halves.py"
SHAPE = (40, 30, 20)
AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])  # stored from right to left
AFFINE[0, 3] = 30.0


@pytest.fixture
def halves(tmp_path, monkeypatch):
    image, lesion = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    image[6:36, 4:26, 3:17] = 5.0  # from 24 mm on the right to 5 mm left of 0: the middle lies at 9.5 mm
    lesion[8:12, 10:14, 8:12], lesion[18:23, 10:14, 8:12], lesion[30:34, 10:12, 8:12] = 1, 1, 1
    for name, array in (("FLAIR", image), ("drawn", lesion)):
        file = tmp_path / f"cases/p/{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, AFFINE), file)
    spec = importlib.util.spec_from_file_location("lesion_halves", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = ["--dataset_dir", tmp_path / "cases", "--output_dir", tmp_path / "made", "--label", "drawn"]
    monkeypatch.setattr(sys, "argv", ["lesion_halves.py", *map(str, words)])
    module.main()
    return image, lesion, tmp_path / "made", module


def of_side(folder, side, name):
    entry = json.loads((folder / f"{side}.json").read_text())["training"][0]
    stored = nib.load(entry["image"]["FLAIR"] if name == "FLAIR" else entry["label"])
    assert np.allclose(stored.affine, AFFINE)
    return np.asarray(stored.dataobj)


def test_each_side_shows_its_own_part_alone_and_a_gap_lies_between(halves):
    image, _, made, _ = halves
    x = 30.0 - np.arange(SHAPE[0])[:, None, None] + np.zeros(SHAPE)
    assert np.array_equal(of_side(made, "right", "FLAIR"), np.where(x > 13.5, image, 0))
    assert np.array_equal(of_side(made, "left", "FLAIR"), np.where(x < 5.5, image, 0))


def test_lesions_lie_on_their_side_and_those_of_the_middle_on_none(halves):
    _, lesion, made, _ = halves
    right, left = of_side(made, "right", "lesion"), of_side(made, "left", "lesion")
    assert np.array_equal(right[:15], lesion[:15]) and not right[15:].any()
    assert np.array_equal(left[28:], lesion[28:]) and not left[:28].any()


def test_first_labels_are_cut_like_the_image_and_the_source_is_listed_as_it_is(halves, tmp_path, monkeypatch):
    first = np.zeros(SHAPE, np.uint8)
    first[8:12, 20:24, 8:12], first[30:34, 20:24, 8:12] = 1, 1
    (tmp_path / "first/p").mkdir(parents=True)
    nib.save(nib.Nifti1Image(first, AFFINE), tmp_path / "first/p/lesion.nii.gz")
    source = {"name": "s-0", "image": "s/FLAIR.nii.gz", "label": "s/lesion.nii.gz"}
    entries = [{"name": "p-0", "image": "p.nii.gz", "label": "p/lesion.nii.gz"}, source]
    (tmp_path / "first/found.json").write_text(json.dumps({"training": entries}))
    words = ["--dataset_dir", tmp_path / "cases", "--output_dir", tmp_path / "cut", "--label", "drawn"]
    words += ["--found_dir", tmp_path / "first"]
    monkeypatch.setattr("sys.argv", ["lesion_halves.py", *map(str, words)])
    halves[3].main()
    assert of_side(tmp_path / "cut", "found_right", "found")[8:12, 20:24, 8:12].all()
    for side, kept in (("right", slice(0, 15)), ("left", slice(28, None))):
        label = of_side(tmp_path / "cut", f"found_{side}", "found")
        assert np.array_equal(label[kept], first[kept]) and label.sum() == first[kept].sum()
        listed = json.loads((tmp_path / f"cut/found_{side}.json").read_text())["training"]
        assert [one["name"] for one in listed] == [*(f"p-{side}-{copy}" for copy in range(3)), "s-0"]
        assert listed[-1] == {**source, "image": {"FLAIR": "s/FLAIR.nii.gz"}}
        drawn = of_side(tmp_path / "cut", side, "drawn")  # what judges stays what experts drew
        assert np.array_equal(drawn[kept], halves[1][kept])


def test_a_folder_with_something_in_it_is_refused(halves, capsys):
    with pytest.raises(SystemExit):
        halves[3].main()
    assert "not empty" in capsys.readouterr().err
