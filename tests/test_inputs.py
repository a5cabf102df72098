"""Whatever lies in a data set is used, or passed over and named: through the command."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from test_outputs import AFFINE, dicom_series, head, image, no_pictures, run, tree, weights  # noqa: F401

from medical_gans.cli.command import check_places
from medical_gans.errors import InputError
from medical_gans.io.formats import IMAGE_SUFFIXES


@pytest.fixture
def made(run, tmp_path):  # noqa: F811
    """Run inference; returns the cases that were done, and everything that was said."""

    def inference(workflow: str, dataset: Path | str, *words: str, out: str = "out", code: int = 0):
        found, said = run(workflow, dataset, tmp_path / out, *words)
        assert found == code, said
        result = {"mr_to_ct": "synthetic_ct.nii.gz", "brain_lesion": "lesions.nii.gz"}[workflow]
        names = sorted(path.parent.name for path in (tmp_path / out).rglob(result))
        manifest = tmp_path / out / "manifest.json"
        return names, said, json.loads(manifest.read_text()).get("passed_over", {}) if manifest.is_file() else {}

    return inference


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz"], ["sub-01_T1w", "sub-02_T1w"]),
        (["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"], ["sub-01_ses-1_T1w"]),
        (["p1/T1.nii.gz", "p2/T1.nii.gz"], ["p1_T1", "p2_T1"]),
        (["p1/T1.nii.gz", "p2/mr.nii.gz"], ["p1_T1", "p2"]),
        (["a/b/c/d/scan.nii.gz"], ["a_b_c_d_scan"]),
        (["loose.nii.gz", "below/deep.nii.gz"], ["below_deep", "loose"]),
        (["report.nii.gz"], ["report_case"]),
        (["report/mr.nii.gz", "p1/mr.nii.gz"], ["p1", "report_case"]),
    ],
)
def test_images_are_found_at_any_depth(tmp_path, made, files, names):
    for number, file in enumerate(files):
        image(tmp_path / "d" / file, number)
    assert made("mr_to_ct", tmp_path / "d")[0] == names
    for name in names:
        assert (tmp_path / "out" / "report" / name / "overview.png").is_file()


def test_what_is_no_case_is_named_with_the_reason(tmp_path, made, run):  # noqa: F811
    data = tmp_path / "d"
    image(data / "p1" / "mr.nii.gz")
    image(data / "p1" / "T2.nii.gz", 1)
    image(data / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 2)
    image(data / "sub-01" / "dwi" / "sub-01_dwi.nii.gz", 3)
    image(data / "p2" / "ct.nii.gz", 4)
    image(data / "p3" / "T1.nii.gz", 5)
    image(data / "p3" / "T1_seg.nii.gz", 6)
    for name in ("all.zip", "p3/old.mnc", "notes.txt", "p3/T1.json"):
        (data / name).write_bytes(b"x")
    (data / "p4").mkdir()
    (data / "p4" / "mr.nii.gz").symlink_to("../.git/annex/objects/none.nii.gz")
    names, _, passed = made("mr_to_ct", data)
    assert names == ["p1", "p3_T1", "sub-01_T1w"]
    assert passed["p1/T2.nii.gz"] == "beside mr.nii.gz, which is taken as the MR"
    assert passed["sub-01/dwi"].startswith("BIDS dwi")
    assert passed["p2/ct.nii.gz"] == "without mr"
    assert passed["p3/T1_seg.nii.gz"].startswith("a label map or mask")
    assert passed["all.zip"] == "an archive: unpack it"
    assert passed["p3/old.mnc"] == "a format that is not read: convert it to NIfTI"
    assert passed["p4/mr.nii.gz"].startswith("a link to what is not there")
    assert passed["notes.txt"] == "no image"
    said = [line for line in run.printed.splitlines() if "Passed over" in line]
    assert len(said) == 1 and "all.zip (an archive: unpack it)" in said[0]


def test_a_ct_beside_the_mr_does_not_hide_it(tmp_path, made):
    dicom_series(tmp_path / "patient" / "MR_T1")
    folder = dicom_series(tmp_path / "patient" / "CT", "2.25.2", 1)
    import pydicom

    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.Modality = "CT"
        header.save_as(path)
    names, _, _ = made("mr_to_ct", tmp_path / "patient", "--write_dicom", "false")
    assert names == ["patient"]


@pytest.mark.parametrize(
    "words", [["ORIGINAL", "PRIMARY", "LOCALIZER"], ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "SCOUT"]
)
def test_localizers_and_mosaics_in_folders_beside_the_mr_are_passed_over(tmp_path, made, words):
    dicom_series(tmp_path / "d" / "T1")
    for path in dicom_series(tmp_path / "d" / "other", "2.25.2", 1).iterdir():
        other = pydicom.dcmread(path)
        other.ImageType = words
        other.save_as(path)
    names, _, passed = made("mr_to_ct", tmp_path / "d")
    assert names == ["T1"] and list(passed) == ["other"] and passed["other"].startswith("DICOM of kind ")


@pytest.mark.parametrize("days", [("day1", "day2"), ("pre", "post")])
def test_all_days_of_several_patients_are_named_with_their_patient(tmp_path, made, days):
    for number, place in enumerate((f"p1/{days[0]}", f"p1/{days[1]}", f"p2/{days[0]}")):
        image(tmp_path / "d" / place / "mr.nii.gz", number)
    assert made("mr_to_ct", tmp_path / "d")[0] == sorted([f"p1_{days[0]}", f"p1_{days[1]}", f"p2_{days[0]}"])


def test_what_is_no_file_in_a_dicom_series_costs_nothing_but_itself(tmp_path, made):
    series = dicom_series(tmp_path / "d" / "T1")
    (series / "gone.dcm").symlink_to("annexed")
    os.mkfifo(series / "pipe")
    os.mkfifo(tmp_path / "d" / "pipe")
    assert made("mr_to_ct", tmp_path / "d")[0] == ["T1"]
    assert (tmp_path / "out" / "T1" / "dicom" / "ct").is_dir()


def test_a_dangling_link_in_a_data_list_is_passed_over_and_a_missing_file_refused(tmp_path, made):
    image(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to("annexed")
    (tmp_path / "list.json").write_text(json.dumps(["a.nii.gz", "b.nii.gz"]))
    names, _, passed = made("mr_to_ct", tmp_path / "list.json")
    assert names == ["a"] and list(passed) == ["b.nii.gz"]
    (tmp_path / "list.json").write_text(json.dumps(["a.nii.gz", "c.nii.gz"]))
    assert "names 1 images that do not exist" in made("mr_to_ct", tmp_path / "list.json", out="other", code=2)[1]


def test_our_own_results_are_never_input(tmp_path, made):
    data = tmp_path / "d"
    image(data / "p1" / "T1.nii.gz")
    for _ in range(2):
        names, _, passed = made("mr_to_ct", data, out="d")
        assert names == ["p1_T1"]
    assert passed["p1_T1"] == "results of this program"
    image(data / "p2" / "T1.nii.gz", 1)
    assert made("mr_to_ct", data, out="d")[0] == ["p1_T1", "p2_T1"]
    assert made("mr_to_ct", data, out="d/results")[0] == ["p1_T1", "p2_T1"]
    assert made("mr_to_ct", data, out="d/results")[0] == ["p1_T1", "p2_T1"]


def test_a_nested_dicom_cohort_keeps_the_names_of_its_patients(tmp_path, made):
    import pydicom

    for patient, seed in (("anna", 0), ("bert", 1)):
        folder = dicom_series(tmp_path / "d" / patient / "study" / "series", f"2.25.{seed + 1}", seed)
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            header.PatientID, header.StudyInstanceUID = patient, f"2.25.9{seed}"
            header.save_as(path)
    assert made("mr_to_ct", tmp_path / "d", "--write_dicom", "false")[0] == ["anna", "bert"]


def test_a_folder_without_images_says_what_is_in_it(tmp_path, made):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "images.zip").write_bytes(b"x")
    (tmp_path / "d" / "sub" / "a.png").write_bytes(b"x")
    said = made("mr_to_ct", tmp_path / "d", code=2)[1]
    assert "images.zip (an archive: unpack it)" in said and "1 .png" in said


@pytest.mark.parametrize("suffix", [".mgz", ".nhdr", ".img"])
def test_other_formats_are_read(tmp_path, made, suffix):
    if suffix not in (*IMAGE_SUFFIXES, ".img") or ".hdr" not in IMAGE_SUFFIXES:
        pytest.skip("its reader is not there")
    data = tmp_path / "d"
    data.mkdir()
    if suffix == ".mgz":
        nibabel.save(nibabel.MGHImage(head().astype(np.int16), AFFINE), data / "a.mgz")
    elif suffix == ".img":
        nibabel.save(nibabel.Nifti1Pair(head(), AFFINE), data / "a.img")
    else:
        stored = sitk.GetImageFromArray(head().T.copy())
        stored.SetSpacing([2.0, 2, 3])
        sitk.WriteImage(stored, str(data / "a.nhdr"))
    assert made("mr_to_ct", data)[0] == ["a"]


@pytest.mark.parametrize("name", ["$HOME", "@d", "%x", "$str(1)", "it's @home #1", "~d"])
def test_a_shell_word_is_a_name_like_any_other(tmp_path, made, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    said = made("mr_to_ct", name, code=2)[1]
    assert "does not exist" in said and "bug" not in said
    image(tmp_path / name / "T1.nii.gz")
    given = f"./{name}" if name.startswith("~") else name
    assert made("mr_to_ct", given)[0] == ["T1"]


def test_a_mistyped_path_is_answered_within_a_second(tmp_path, repository):
    (tmp_path / "patients").mkdir()
    begin = time.perf_counter()
    words = ["mr_to_ct", "inference", "--dataset_dir", "patient", "--output_dir", "out"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "medical_gans", *words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repository), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "patient does not exist (did you mean patients?)" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not imported & {"torch", "monai", "numpy"}, "what takes seconds is imported before the path is looked at"
    assert time.perf_counter() - begin < 30  # the machine may be busy; the imports are what counts


@pytest.mark.parametrize("name", ["output_dir", "cache_dir", "painted_dir", "tracking_uri"])
def test_a_folder_to_write_to_need_not_be_there(tmp_path, name):
    check_places({name: str(tmp_path / "new")})
    with pytest.raises(InputError, match="does not exist"):
        check_places({"dataset_dir": str(tmp_path / "new")})


def test_one_file_is_enough_for_one_sequence(tmp_path, made):
    image(tmp_path / "p1" / "T1c.nii.gz")
    assert made("brain_lesion", tmp_path / "p1" / "T1c.nii.gz")[0] == ["p1_T1c"]
    image(tmp_path / "scan of bert.nii.gz", 1)
    assert made("brain_lesion", tmp_path / "scan of bert.nii.gz", out="two")[0] == ["scan_of_bert"]
    said = made("brain_lesion", tmp_path / "p1" / "T1c.nii.gz", "--channels", "[T1c,T2]", out="three", code=2)[1]
    assert "is one image, but 2 sequences are needed" in said


def test_a_folder_of_files_of_one_sequence_is_a_cohort(tmp_path, made):
    for number, name in enumerate(("anna", "bert")):
        image(tmp_path / "d" / f"{name}_T1c.nii.gz", number)
    assert made("brain_lesion", tmp_path / "d")[0] == ["anna", "bert"]


def test_sequences_in_folders_of_their_own_are_found(tmp_path, made):
    dicom_series(tmp_path / "d" / "anna" / "T1c" / "study" / "1")
    assert made("brain_lesion", tmp_path / "d", "--write_dicom", "false")[0] == ["anna"]


def test_a_dangling_link_costs_nothing_but_itself(tmp_path, made):
    image(tmp_path / "d" / "anna" / "T1c.nii.gz")
    (tmp_path / "d" / "bert").mkdir()
    (tmp_path / "d" / "bert" / "T1c.nii.gz").symlink_to("gone.nii.gz")
    names, _, passed = made("brain_lesion", tmp_path / "d")
    assert names == ["anna"] and passed["bert/T1c.nii.gz"].startswith("a link to what is not there")
    said = made("mr_to_ct", tmp_path / "d" / "bert" / "T1c.nii.gz", out="two", code=2)[1]
    assert "a link to what is not there" in said


def test_lists_may_begin_with_a_byte_order_mark(tmp_path, made):
    image(tmp_path / "T1.nii.gz")
    (tmp_path / "list.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(["T1.nii.gz"]).encode())
    assert made("mr_to_ct", tmp_path / "list.json")[0] == ["T1"]


def test_inputs_are_as_they_were(tmp_path, made):
    data = tmp_path / "d"
    image(data / "p1" / "T1.nii.gz")
    dicom_series(data / "p2")
    (data / "p1" / "T1.json").write_text("{}")
    before = tree(data)
    made("mr_to_ct", data)
    assert tree(data) == before
