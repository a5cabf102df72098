"""Phantom data sets read back like real ones."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medical_gans.errors import OutputError, SettingError
from medical_gans.io.cases import find_cases, find_training_cases
from medical_gans.io.volumes import read_volume
from medical_gans.phantom import write_dataset


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("paired") / "set", patients=2, spacing=8, seed=3)


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpaired") / "set"
    return write_dataset(folder, "limb", 3, "unpaired", seed=3, spacing=(8, 8, 20))


def test_synthrad_layout_holds_mr_ct_and_mask_on_one_grid(paired):
    cases = find_cases(paired, required=("mr", "ct"))
    assert [case.name for case in cases] == ["head_000", "head_001"]
    for case in cases:
        mr, ct, mask = (nib.load(path) for path in (case.mr, case.ct, case.mask))
        assert mr.shape == ct.shape == mask.shape
        np.testing.assert_array_equal(mr.affine, ct.affine)
        np.testing.assert_array_equal(mr.affine, mask.affine)
        assert ct.get_data_dtype() == np.int16
        hounsfield, body = np.asarray(ct.dataobj), np.asarray(mask.dataobj) > 0
        assert hounsfield[~body].mean() < -950
        assert hounsfield[body].mean() > -200


def test_unpaired_layout_holds_different_patients(unpaired):
    found = find_training_cases(unpaired, paired=False, validation_fraction=0.0, seed=0)
    mr, ct = ({case.name for case in cases} for cases in (found.mr, found.ct))
    assert len(mr) == len(ct) == 3
    files = (
        {path.name for path in (unpaired / "mr").iterdir()},
        {path.name for path in (unpaired / "ct").iterdir()},
    )
    assert not files[0] & files[1]


def test_seed_decides_every_voxel_and_patients_differ(paired, tmp_path):
    again = write_dataset(tmp_path / "again", patients=1, spacing=8, seed=3)
    other = write_dataset(tmp_path / "other", patients=1, spacing=8, seed=4)
    first, same, different, second = (
        nib.load(folder / name / "mr.nii.gz").get_fdata()
        for folder, name in (
            (paired, "head_000"),
            (again, "head_000"),
            (other, "head_000"),
            (paired, "head_001"),
        )
    )
    np.testing.assert_array_equal(first, same)
    assert (first != different).mean() > 0.5
    assert (first != second).mean() > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anatomy": "foot"}, "head, limb"),
        ({"layout": "bids"}, "synthrad, unpaired"),
        ({"patients": 0}, "at least one"),
        ({"sequence": "T3w"}, "T1w"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        write_dataset(tmp_path / "set", **settings)
    assert not any(tmp_path.iterdir())


def test_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        write_dataset(tmp_path, patients=1, spacing=20)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_dicom_layout_holds_the_same_mr_as_a_series(paired, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    folder = write_dataset(tmp_path / "series", patients=1, layout="dicom", spacing=8, seed=3) / "head_000"
    nifti = nib.load(paired / "head_000" / "mr.nii.gz")
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])
    seen = volume.to_patient_orientation("RAS")
    np.testing.assert_array_equal(np.rint(seen.array), np.asarray(nifti.dataobj))
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ seen.affine, nifti.affine, atol=1e-4)
    ours = read_volume(folder)
    np.testing.assert_array_equal(
        nib.as_closest_canonical(nib.Nifti1Image(ours.array, ours.affine)).get_fdata(), np.asarray(nifti.dataobj)
    )
