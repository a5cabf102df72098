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


def test_a_folder_with_something_in_it_is_refused(halves, capsys):
    with pytest.raises(SystemExit):
        halves[3].main()
    assert "not empty" in capsys.readouterr().err
