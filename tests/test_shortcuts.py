"""Each workflow in one call makes the voxels that its command makes."""

import nibabel
import numpy as np
import pytest

import medical_gans
from medical_gans.cli import main
from medical_gans.errors import SettingError
from medical_gans.phantom import write_dataset


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("phantom") / "set", patients=1, spacing=6, seed=1) / "head_000"


def test_a_synthetic_ct_in_one_call_is_that_of_the_command(patient, tmp_path):
    mr = medical_gans.read_volume(patient / "mr.nii.gz")
    made = medical_gans.synthetic_ct(mr, site="head")
    assert made.array.dtype == np.int16 and made.modality == "CT"
    np.testing.assert_array_equal(made.affine, mr.affine)
    words = ["--dataset_dir", str(patient / "mr.nii.gz"), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["mr_to_ct", "inference", *words]) == 0
    stored = nibabel.load(next((tmp_path / "out").rglob("synthetic_ct.nii.gz")))
    np.testing.assert_array_equal(np.asarray(stored.dataobj), made.array)
    path = medical_gans.save_volume(tmp_path / "again.nii.gz", made.array, made.affine)
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), made.array)


def test_the_weights_of_unpaired_training_ship_as_a_site_of_their_own(patient, repository):
    mr = medical_gans.read_volume(patient / "mr.nii.gz")
    made = medical_gans.synthetic_ct(mr, site="thigh_cyclegan").array
    file = repository / "models" / "mr_to_ct_thigh_cyclegan.pt"
    np.testing.assert_array_equal(made, medical_gans.synthetic_ct(mr, weights=file).array)
    assert (made != medical_gans.synthetic_ct(mr, site="thigh").array).mean() > 0.05
    card = (repository / "docs" / "models" / "mr_to_ct_thigh_cyclegan.md").read_text(encoding="utf-8")
    assert file.name in card


def test_nodules_in_one_call_are_those_of_the_command(tmp_path):
    nodules, spacing = medical_gans.generate_nodules(3, "malignant", seed=4)
    words = ["--num_samples", "3", "--malignancy", "malignant", "--seed", "4", "--device", "cpu"]
    assert main(["lung_nodule", "inference", *words, "--output_dir", str(tmp_path / "out")]) == 0
    files = sorted((tmp_path / "out" / "nodules").glob("*.nii.gz"))
    assert len(files) == len(nodules) == 3 and len(spacing) == 2
    for file, nodule in zip(files, nodules, strict=True):
        np.testing.assert_array_equal(np.asarray(nibabel.load(file).dataobj)[..., 0].T, nodule)


def test_lesions_in_one_call_are_those_of_the_command(patient, tmp_path):
    case = tmp_path / "cases" / "anna"
    case.mkdir(parents=True)
    (case / "FLAIR.nii.gz").write_bytes((patient / "mr.nii.gz").read_bytes())
    made = medical_gans.segment_lesions({"FLAIR": case / "FLAIR.nii.gz"})
    words = ["--dataset_dir", str(case.parent), "--device", "cpu"]
    words += ["--min_volume_ml", "0", "--output_dir", str(tmp_path / "out")]
    assert main(["brain_lesion", "inference", *words]) == 0
    stored = nibabel.load(tmp_path / "out" / "anna" / "lesions.nii.gz")
    np.testing.assert_array_equal(np.asarray(stored.dataobj), made.array)
    np.testing.assert_allclose(stored.affine, made.affine, atol=1e-5)


def test_an_unknown_site_is_refused_with_those_there_are():
    with pytest.raises(SettingError, match="there are head, thigh"):
        medical_gans.synthetic_ct("nowhere.nii.gz", site="elbow")


def test_names_are_listed_and_unknown_ones_are_errors():
    assert set(medical_gans.__all__) <= set(dir(medical_gans))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = medical_gans.no_such_name
