"""Heads with haemorrhages: truth, reproducibility, files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from medical_gans.errors import OutputError, SettingError
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.phantom import Tissue, head, write_lesion_dataset
from medical_gans.phantom.findings import STAGES
from medical_gans.phantom.lesion_dataset import CHANNELS, lesion_patient
from medical_gans.phantom.tissue_maps import TissueMaps
from medical_gans.phantom.tissues import BONE

COARSE, SPACING = 8.0, 2.5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("lesions")
    return {name: write_lesion_dataset(root / name, 2, 3, domain=name, spacing=COARSE) for name in CHANNELS}


@pytest.fixture(scope="module")
def patient():
    return lesion_patient(7, 0, SPACING)


@pytest.fixture(scope="module")
def healthy(patient):
    """The same head without findings."""
    phantom = head(int(np.random.default_rng([7, 0]).integers(2**31)))
    return phantom.tissues(patient.maps.grid), TissueMaps.of(phantom, patient.maps.grid)


def cases(domain):
    return [f"{domain}_s3_head_{number:03d}" for number in range(2)]


def test_patients_of_different_data_sets_never_share_a_name(folders, tmp_path):
    other = write_lesion_dataset(tmp_path / "other", 2, 4, domain="target", spacing=COARSE)
    names = [[case.name for case in find_sequence_cases(one, ["T1w"])] for one in (*folders.values(), other)]
    assert names == [cases("source"), cases("target"), ["target_s4_head_000", "target_s4_head_001"]]


def read(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("domain", list(CHANNELS))
def test_patient_holds_each_channel_and_both_masks_on_one_grid(folders, domain):
    for case in cases(domain):
        names = {path.name for path in (folders[domain] / case).iterdir()}
        assert names == {f"{name}.nii.gz" for name in (*CHANNELS[domain], "lesion", "brainmask")}
        images = [nib.load(folders[domain] / case / name) for name in sorted(names)]
        assert len({(image.shape, image.affine.tobytes()) for image in images}) == 1
        for mask in ("lesion", "brainmask"):
            image = nib.load(folders[domain] / case / f"{mask}.nii.gz")
            assert image.get_data_dtype() == np.uint8
            assert set(np.unique(image.dataobj)) <= {0, 1}


def test_equal_seeds_give_equal_patients_to_both_scanners(folders):
    for pair in zip(cases("source"), cases("target"), strict=True):
        source, target = (folders[domain] / case for domain, case in zip(("source", "target"), pair, strict=True))
        for mask in ("lesion.nii.gz", "brainmask.nii.gz"):
            np.testing.assert_array_equal(read(source / mask), read(target / mask))
        source, target = (read(one / "T2w.nii.gz") for one in (source, target))
        assert (source != target).mean() > 0.5


def test_seed_decides_every_voxel_and_patients_differ(folders, tmp_path):
    again = write_lesion_dataset(tmp_path / "again", 1, 3, domain="target", spacing=COARSE)
    for name in CHANNELS["target"]:
        first, second = (folders["target"] / case / f"{name}.nii.gz" for case in cases("target"))
        np.testing.assert_array_equal(read(again / cases("target")[0] / f"{name}.nii.gz"), read(first))
        assert (read(first) != read(second)).mean() > 0.3


def test_any_sequences_of_a_scanner_can_be_asked_for(tmp_path):
    made = write_lesion_dataset(tmp_path / "set", 1, domain="source", spacing=COARSE, sequences=["SWI", "FLAIR"])
    names = {path.name for path in (made / "source_s0_head_000").iterdir()}
    assert names == {"SWI.nii.gz", "FLAIR.nii.gz", "lesion.nii.gz", "brainmask.nii.gz"}


def test_lesion_has_the_volume_of_its_spheres(patient):
    expected = sum(4 / 3 * np.pi * found.radius_mm**3 for found in patient.haemorrhages)
    assert patient.lesion.sum() * SPACING**3 == pytest.approx(expected, rel=0.12)
    assert not (patient.lesion & ~patient.brain).any()


def test_haemorrhages_are_of_the_promised_number_size_and_stage():
    patients = [lesion_patient(11, index, 7.0) for index in range(4)]
    assert {len(patient.haemorrhages) for patient in patients} <= {0, 1, 2, 3, 4}
    found = [haemorrhage for patient in patients for haemorrhage in patient.haemorrhages]
    assert len(found) > 2
    assert all(3 <= haemorrhage.radius_mm <= 12 and haemorrhage.stage in STAGES for haemorrhage in found)


def test_findings_change_the_brain_alone_and_more_of_it_than_is_labelled(patient, healthy):
    changed = patient.maps.transverse != healthy[1].transverse
    assert (changed & ~patient.lesion).sum() > 500
    assert changed[patient.lesion].all()
    assert not (changed & ~patient.brain).any()


def test_brain_mask_holds_the_brain_and_no_scalp(patient, healthy):
    labels, _ = healthy
    assert patient.brain[labels == Tissue.GREY_MATTER].all()
    assert not patient.brain[np.isin(labels, (*BONE, Tissue.AIR, Tissue.SKIN, Tissue.FAT))].any()
    assert 1000 < patient.brain.sum() * SPACING**3 / 1000 < 2100  # ml


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"domain": "hospital"}, "source, target"),
        ({"sequences": ["T3w"]}, "T1w"),
        ({"sequences": []}, "one at least"),
        ({"patients": 0}, "one at least"),
        ({"spacing": 0.0}, "positive"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        write_lesion_dataset(tmp_path / "set", **settings)
    assert not any(tmp_path.iterdir())


def test_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        write_lesion_dataset(tmp_path, 1, spacing=9)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
