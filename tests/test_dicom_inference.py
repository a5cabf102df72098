"""A DICOM series in, a CT series out, without being asked; and nothing that names the patient anywhere else."""

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from dicom_images import dicom_slice
from torch import nn

from medical_gans.errors import InputError, OutputError, SettingError, UserError
from medical_gans.inference.synthesis import CaseEvaluator, DicomOutput, SliceSynthesis
from medical_gans.inference.synthesis.one_case import body_outline
from medical_gans.io import find_cases, read_volume
from medical_gans.io.dicom.masks import read_dicom_structure
from medical_gans.io.dicom.structure_set import structure_from_mask, write_structure_set
from medical_gans.report import cases as report_cases
from medical_gans.weights import save_weights

SHAPE = (24, 28, 12)
PLANTED = {
    "PatientName": "Zappelphilipp^Quirin",
    "PatientID": "Qx7731904",
    "PatientBirthDate": "19370429",
    "OtherPatientNames": "Wolkenstein^Odette",
    "PatientAddress": "Vogelweide 99 Krummhausen",
    "ReferringPhysicianName": "Eisenbart^Xaver",
    "OperatorsName": "Tintenklecks^Ulf",
    "InstitutionName": "Klinik Krummhausen",
    "AccessionNumber": "Acc55512345",
    "StudyDescription": "Knie Zappelphilipp",
    "SeriesDescription": "T1 Zappelphilipp",
    "StudyID": "Sid998877",
    "StationName": "KRUMMMR1",
}
WORDS = sorted({word for value in PLANTED.values() for word in value.replace("^", " ").split() if len(word) > 3})


class Water(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(images) - 0.2


def identify(k, image):
    for keyword, value in PLANTED.items():
        setattr(image, keyword, value)
    image.private_block(0x0011, "Zappelphilipp", create=True).add_new(1, "LO", "Zappelphilipp private")


def body(k: int) -> np.ndarray:
    """Rows x columns of a slice: a block that stands out from air."""
    plane = np.zeros((SHAPE[1], SHAPE[0]), dtype=np.int16)
    plane[4:24, 4:20] = np.random.default_rng(k).integers(300, 900, (20, 16))
    return plane


@pytest.fixture
def write_mr(tmp_path):
    """Write an MR series with identities planted in it; return its folder."""

    def write(name="mr_series", uid="2.25.100", number=3, orientation=(1, 0, 0, 0, 1, 0), change=identify) -> Path:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        normal = np.cross(*np.reshape(orientation, (2, 3)))
        for k in range(SHAPE[2]):
            image = dicom_slice("MR", body(k), np.array([-20.0, -30, 40]) + 3 * k * normal, orientation, uid)
            image.PixelSpacing, image.SeriesNumber = [2, 2], number
            change(k, image)
            image.save_as(folder / f"{uid}.{k}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def no_pictures(monkeypatch):
    for kind in ("overview", "contact_sheet", "histogram", "thumbnail"):

        def draw(volumes, path):
            path.write_bytes(b"picture")

        draw.__name__ = kind
        monkeypatch.setattr(report_cases, kind, draw)


def translate(source, out: Path, dicom: DicomOutput | None = None, **choice) -> CaseEvaluator:
    weights = out.parent / "model.pt"
    if not weights.exists():
        save_weights(weights, nn.Linear(1, 1))
    cases = find_cases(source, **choice)
    made = CaseEvaluator(
        "cpu", cases, SliceSynthesis([Water()]), [weights], out, dataset_dir=source, dicom=dicom or DicomOutput()
    )
    made.run()
    return made


def test_a_dicom_mr_gives_a_ct_series_and_its_body_outline_beside_the_nifti(write_mr, tmp_path, no_pictures):
    mr = write_mr()
    translate(mr, tmp_path / "out")
    (case,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name != "report"]
    ct, made = read_volume(case / "dicom" / "ct"), read_volume(case / "synthetic_ct.nii.gz")
    assert np.array_equal(ct.array, made.array) and np.allclose(ct.affine, made.affine, atol=1e-4)
    assert ct.headers[0].PatientName == PLANTED["PatientName"] and ct.headers[0].StudyInstanceUID == "1.2.3.1"
    outline = read_dicom_structure(case / "dicom" / "rtstruct" / "BODY.dcm", "BODY", ct)
    assert np.array_equal(outline.array, body_outline(made.array, made.affine)) and outline.array.any()
    observation = pydicom.dcmread(case / "dicom" / "rtstruct" / "BODY.dcm").RTROIObservationsSequence[0]
    assert observation.RTROIInterpretedType == "EXTERNAL"


def test_a_sagittal_mr_gives_an_axial_pair_and_says_so(write_mr, tmp_path, no_pictures):
    translate(write_mr(orientation=(0, 1, 0, 0, 0, -1)), tmp_path / "out")
    (record,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"].values()
    assert "resampled to an axial grid" in " ".join(record["warnings"])
    (case,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name != "report"]
    ct, mr = read_volume(case / "dicom" / "ct"), read_volume(case / "dicom" / "mr_axial")
    assert np.allclose(ct.affine, mr.affine) and ct.array.shape == mr.array.shape


def test_structure_sets_of_the_mr_are_carried(write_mr, tmp_path, no_pictures):
    folder = write_mr()
    mr = read_volume(folder)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8:12, 9:14, 3:7] = True
    structure, _ = structure_from_mask("GTV", mask, mr.affine, "GTV")
    write_structure_set(folder / "RS.dcm", [structure], mr.headers, label="drawn")
    translate(folder, tmp_path / "out")
    (carried,) = (tmp_path / "out").glob("*/dicom/rtstruct/*.dcm")
    assert carried.name == "RS0001.dcm", "one structure set with all, for planning tools read one"
    assert np.array_equal(read_dicom_structure(carried, "GTV", mr).array, mask)
    ct = read_volume(carried.parent.parent / "ct")
    assert np.array_equal(read_dicom_structure(carried, "BODY", ct).array, body_outline(ct.array, ct.affine))


def test_the_body_outline_stands_alone_where_no_structure_set_could_be_carried(write_mr, tmp_path, no_pictures):
    folder = write_mr()
    mr = read_volume(folder)
    structure, _ = structure_from_mask("GTV", np.ones(SHAPE, dtype=bool), mr.affine, "GTV")
    broken = pydicom.dcmread(write_structure_set(folder / "RS.dcm", [structure], mr.headers, label="drawn"))
    del broken.StructureSetROISequence[0].ROIName
    broken.save_as(folder / "RS.dcm")
    translate(folder, tmp_path / "out")
    (written,) = (tmp_path / "out").glob("*/dicom/rtstruct/*.dcm")
    assert written.name == "BODY.dcm"


def test_no_identifying_value_leaves_the_dicom_objects(write_mr, tmp_path, caplog, capfd):
    """Planted in every naming attribute; looked for in logs, messages, names and contents of all other files."""
    mr = write_mr()
    with caplog.at_level(logging.DEBUG):
        translate(mr, tmp_path / "out")
        write_mr(uid="2.25.200", number=8)
        with pytest.raises(UserError) as several:
            translate(mr, tmp_path / "out2")
        translate(mr, tmp_path / "out3", all_series=True)
        for number, path in enumerate(mr.glob("2.25.200.*")):
            if number % 2:
                path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError) as damaged:
            translate(mr, tmp_path / "out4", series_uid="2.25.200")
    printed = capfd.readouterr()
    found = [caplog.text, printed.out, printed.err, str(several.value), str(damaged.value)]
    others = [path for path in tmp_path.glob("out*/**/*") if "dicom" not in path.relative_to(tmp_path).parts]
    assert len([path for path in others if path.suffix == ".png"]) >= 12
    found += [path.name for path in others]
    for path in others:
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = zlib.decompress(content, wbits=31)
            found.append(content.decode("latin-1"))
    for word in WORDS:
        assert not [text[:200] for text in found if word.lower() in text.lower()], word


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("FrameOfReferenceUID", None, "has no FrameOfReferenceUID"),
        ("PatientPosition", None, "has no PatientPosition"),
        ("PatientPosition", "LYING", "has a PatientPosition that DICOM does not allow"),
        ("StudyInstanceUID", "anonymized", "has a StudyInstanceUID that DICOM does not allow"),
        ("PatientID", "x" * 65, "has a PatientID that DICOM does not allow"),
    ],
)
def test_an_mr_that_no_ct_can_be_tied_to_gives_nifti_and_says_so(
    write_mr, tmp_path, no_pictures, keyword, value, words
):
    with pydicom.config.disable_value_validation():
        mr = write_mr(change=lambda k, image: setattr(image, keyword, value))
    with pytest.raises(InputError, match=rf"{words}.*set write_dicom to false"):
        translate(mr, tmp_path / "out", DicomOutput(write=True))
    assert not list((tmp_path / "out").glob("*/synthetic_ct.nii.gz"))
    translate(mr, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/synthetic_ct.nii.gz"))) == 1
    assert not list((tmp_path / "out").glob("*/dicom"))
    (record,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"].values()
    assert any(words in warning and "Only NIfTI is written" in warning for warning in record["warnings"])


def test_a_ct_series_is_refused_before_anything_is_written(write_mr, tmp_path, no_pictures):
    def as_ct(k, image):
        image.Modality, image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "CT", 1, -1024, "HU"

    ct = write_mr("ct_series", change=as_ct)
    with pytest.raises(InputError, match=r"ct_series is a CT series.*Give the MR series"):
        translate(ct, tmp_path / "out")
    write_mr("mr_series")
    translate(tmp_path / "data", tmp_path / "out")
    made = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert made == {"mr_series", "report"}, "the others are done"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["passed_over"] == {"ct_series": "DICOM of modality CT"}


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(SettingError, match="write_dicom is 'maybe'"):
        DicomOutput(write="maybe")
    with pytest.raises(SettingError, match="write_dicom is false"):
        DicomOutput(write=False, send="localhost:104")
    with pytest.raises(SettingError, match="give host:port"):
        DicomOutput(send="localhost")


def test_every_mr_series_of_a_folder_becomes_a_case(write_mr, tmp_path, no_pictures):
    write_mr()
    mr = write_mr(uid="2.25.200", number=8)
    translate(mr, tmp_path / "out", all_series=True)
    cases = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    assert [name.rpartition("_")[2] for name in cases] == ["series3", "series8"]


def test_another_series_of_the_same_folder_is_not_taken_for_done(write_mr, tmp_path, no_pictures):
    write_mr()
    mr = write_mr(uid="2.25.200", number=8)
    sources = []
    for uid, out in (("2.25.100", "out"), ("2.25.200", "other")):
        translate(mr, tmp_path / out, series_uid=uid)
        (path,) = (tmp_path / out).glob("*/dicom/ct/CT0001.dcm")
        sources.append(pydicom.dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID)
    assert sources == ["2.25.100", "2.25.200"]
    with pytest.raises(OutputError, match="made of another image"):  # nor does it replace the first one's result
        translate(mr, tmp_path / "out", series_uid="2.25.200")


def test_uids_repeat_when_a_seed_is_given(write_mr, tmp_path, no_pictures):
    mr = write_mr()
    found = []
    for name, seed in (("a", 7), ("b", 7), ("c", None)):
        translate(mr, tmp_path / name, DicomOutput(uid_seed=seed))
        paths = sorted((tmp_path / name).glob("*/dicom/*/*.dcm"))
        found.append([(path.name, pydicom.dcmread(path).SOPInstanceUID) for path in paths])
    assert found[0] == found[1] and not set(found[0]) & set(found[2])


def test_what_is_written_is_sent_and_sent_again_after_a_failure(write_mr, tmp_path, no_pictures, monkeypatch):
    pytest.importorskip("pynetdicom")
    sent = []

    def send(files, address, *, calling_ae, called_ae):
        sent.append(len(files))
        assert (address, calling_ae, called_ae) == ("pacs:104", "ME", "PACS")
        return {files[0]: "the archive is out of resources (status 0xA700)"} if len(sent) == 1 else {}

    monkeypatch.setattr("medical_gans.io.dicom.sending.send_files", send)
    dicom = DicomOutput(send="pacs:104", calling_ae="ME", called_ae="PACS")
    mr = write_mr()
    with pytest.raises(
        UserError, match=r"(?s)1 of 13 objects were not stored by pacs:104.*CT0001\.dcm: the archive is out"
    ):
        translate(mr, tmp_path / "out", dicom)
    assert (tmp_path / "out" / "report.html").is_file()
    translate(mr, tmp_path / "out", dicom)
    assert sent == [13, 13]


@pytest.fixture(scope="module")
def sts014(shared_data, tmp_path_factory) -> Path:
    archive = shared_data / "dicom" / "rt_sts014_ct_mr_rtstruct.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is missing")
    folder = tmp_path_factory.mktemp("dicom")
    with tarfile.open(archive) as stream:
        stream.extractall(folder, filter="data")
    return folder / "STS_014"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.real_data
def test_the_real_thigh_goes_from_mr_to_ct_series_in_one_command(sts014, tmp_path):
    """No error by dciodvfy and dcentvfy; the tumour, drawn on the MR, lies on the same voxels of the CT."""
    words = ["mr_to_ct", "inference", "--dataset_dir", sts014 / "MR_T1", "--site", "thigh", "--output_dir", tmp_path]
    subprocess.run([sys.executable, "-m", "medical_gans", *map(str, words)], check=True, timeout=1100)
    case = tmp_path / "MR_T1"
    mr, ct, nifti = (
        read_volume(sts014 / "MR_T1"),
        read_volume(case / "dicom/ct"),
        read_volume(case / "synthetic_ct.nii.gz"),
    )
    assert np.array_equal(ct.array, nifti.array.clip(-1024, 3071))
    assert np.abs(np.linalg.inv(mr.affine) @ ct.affine - np.eye(4)).max() < 1e-3
    if importlib.util.find_spec("itk"):
        import itk

        image = itk.imread([str(path) for path in sorted((case / "dicom/ct").iterdir())])
        assert np.array_equal(itk.array_from_image(image).T, ct.array)
        place = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
        lps = np.diag([-1.0, -1, 1])
        assert np.abs(np.linalg.inv(lps @ place) @ mr.affine[:3, :3] - np.eye(3)).max() * max(ct.array.shape) < 1e-3
        assert np.abs(np.linalg.inv(lps @ place) @ (mr.affine[:3, 3] - lps @ image.GetOrigin())).max() < 1e-3
    drawn = read_dicom_structure(sts014 / "MR_T1/mask/RS.dcm", "GTV_Mass_MR_T1", mr)
    carried = read_dicom_structure(case / "dicom/rtstruct/RS0001.dcm", "GTV_Mass_MR_T1", ct)
    assert np.array_equal(drawn.array, carried.array)
    inside = ct.array[carried.array]
    assert -50 < np.median(inside) < 120 and np.mean((inside > -150) & (inside < 250)) > 0.9  # soft tissue
    warnings = json.loads((tmp_path / "manifest.json").read_text())["cases"]["MR_T1"]["warnings"]
    assert any("44 of 44 images that RS.dcm refers to are not in the MR series" in warning for warning in warnings)
    if shutil.which("dciodvfy"):
        for path in sorted((case / "dicom").rglob("*.dcm")):
            shown = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
            lines = (shown.stdout + shown.stderr).splitlines()
            assert [line for line in lines if line.startswith("Error") and "(0x0008,0x001c)" not in line] == []
        files = [*(case / "dicom" / "ct").iterdir(), *(sts014 / "MR_T1" / "image").iterdir()]
        shown = subprocess.run(["dcentvfy", *files], capture_output=True, text=True, errors="replace")
        assert "Error" not in shown.stdout + shown.stderr
