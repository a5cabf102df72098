"""Nothing that a user owns is ever replaced or removed, whatever output_dir is given: through the command."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_images import dicom_slice

from medical_gans.cli import command as cli
from medical_gans.inference.lesions import pictures as lesion_pictures
from medical_gans.io import save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.report import cases as report_cases
from medical_gans.weights import WeightsCard, build_network, save_weights

AFFINE = np.diag([2.0, 2, 3, 1])
NETWORK = {
    "_target_": "monai.networks.nets.UNet",
    **{"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    **{"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "instance"},
}


def head(seed: int = 0) -> np.ndarray:
    mr = np.zeros((24, 28, 16), dtype=np.int16)
    mr[4:20, 4:24, 3:13] = np.random.default_rng(seed).integers(300, 900, (16, 20, 10))
    return mr


def image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_volume(path, head(seed), AFFINE)


def dicom_series(folder: Path, series_uid: str = "2.25.1", seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for k, plane in enumerate(np.moveaxis(head(seed), 2, 0)):
        dicom_slice("MR", plane, (0, 0, 3.0 * k), (1, 0, 0, 0, 1, 0), series_uid).save_as(
            folder / f"{k}.dcm", enforce_file_format=True
        )
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    for kind in ("overview", "contact_sheet", "histogram", "thumbnail"):

        def draw(volumes, path):
            path.write_bytes(b"picture")

        draw.__name__ = kind
        monkeypatch.setattr(report_cases, kind, draw)
    monkeypatch.setattr(lesion_pictures.LesionPictures, "draw", lambda self, folder: None)


@pytest.fixture
def weights(tmp_path) -> dict[str, Path]:
    folder = tmp_path / "weights"
    folder.mkdir()
    save_weights(folder / "ct.pt", ResnetGenerator(width=2, blocks=0))
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
    WeightsCard([None] * 3, network_def=network_def).save(folder / "ct.pt")
    torch.manual_seed(0)
    save_weights(folder / "lesion.pt", build_network(NETWORK))
    WeightsCard([None] * 3, network_def=NETWORK, classes=["background", "lesion"], channels=["T1c"]).save(
        folder / "lesion.pt"
    )
    return {"mr_to_ct": folder / "ct.pt", "brain_lesion": folder / "lesion.pt"}


@pytest.fixture
def run(weights, capsys):
    """Run inference of a workflow; returns exit code and what it said on stderr."""

    def inference(workflow: str, dataset: Path | str, out: Path | str, *words: str) -> tuple[int, str]:
        given = [workflow, "inference", "--dataset_dir", str(dataset), "--output_dir", str(out), "--device", "cpu"]
        code = cli.main([*given, "--weights", str(weights[workflow]), *words])
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if line.startswith("medical-gans:")]
        inference.printed = captured.out
        return code, "\n".join(lines)

    return inference


@pytest.fixture
def refused(run, tmp_path):
    """Run what must be refused in one sentence, with every file of the user as it was, and none added."""

    def check(workflow: str, dataset: Path | str, out: Path | str, *words: str) -> str:
        before = tree(tmp_path)
        code, said = run(workflow, dataset, out, *words)
        assert code == 2 and said.startswith("medical-gans: error: ") and "\n" not in said
        assert tree(tmp_path) == before
        return said

    return check


def test_a_patient_folder_is_not_replaced_by_its_result(tmp_path, refused):
    data = tmp_path / "d"
    image(data / "p1" / "mr.nii.gz")
    image(data / "p2" / "mr.nii.gz", 1)
    said = refused("mr_to_ct", data, data)
    assert "p1" in said and "holds the input" in said and "another output_dir" in said


@pytest.mark.parametrize("spelling", ["relative", "dots", "link", "link_to_patient", "case"])
def test_no_spelling_of_a_path_hides_an_input(tmp_path, refused, spelling, monkeypatch):
    data = tmp_path / "d"
    image(data / "p1" / "mr.nii.gz")
    monkeypatch.chdir(tmp_path)
    out: Path | str = data
    if spelling == "relative":
        out = "d"
    elif spelling == "dots":
        out = "d/p1/.."
    elif spelling == "link":
        (tmp_path / "results").symlink_to(data)
        out = "results"
    elif spelling == "link_to_patient":
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "p1").symlink_to(data / "p1")
        out = "results"
    elif spelling == "case" and not (tmp_path / "D").exists():
        pytest.skip("names differ by letter case here")
    refused("mr_to_ct", "d", out)


def test_a_dicom_folder_with_the_name_of_its_case_is_not_replaced(tmp_path, refused):
    dicom_series(tmp_path / "e" / "T1")
    refused("mr_to_ct", tmp_path / "e" / "T1", tmp_path / "e")


def test_lesions_are_not_written_over_the_case(tmp_path, refused):
    data = tmp_path / "cases"
    image(data / "p1" / "T1c.nii.gz")
    (data / "p1" / "lesion.nii.gz").write_bytes(b"a morning of outlining")
    refused("brain_lesion", data, data)
    refused("brain_lesion", data / "p1", data)


@pytest.mark.parametrize("workflow", ["mr_to_ct", "brain_lesion"])
@pytest.mark.parametrize("name", ["p1", "report", "report/p1", "report.html", "manifest.json", "made_from.json"])
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_the_user_has_under_the_name_of_a_result_stays(tmp_path, refused, workflow, name, kind):
    image(tmp_path / "d" / "p1" / ("mr.nii.gz" if workflow == "mr_to_ct" else "T1c.nii.gz"))
    target = tmp_path / "out" / name
    target.parent.mkdir(parents=True)
    if kind == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("years of work")
    elif kind == "file":
        target.write_text("{}")
    else:
        target.symlink_to(tmp_path / "d")
    refused(workflow, tmp_path / "d", tmp_path / "out")


def test_our_own_results_are_replaced_and_nothing_else(tmp_path, run, refused):
    data, out = tmp_path / "d", tmp_path / "out"
    image(data / "p1" / "mr.nii.gz")
    image(data / "p2" / "mr.nii.gz", 1)
    assert run("mr_to_ct", data, out)[0] == 0
    first = (out / "p1" / "synthetic_ct.nii.gz").stat().st_ino
    assert run("mr_to_ct", data, out, "--flips", "true")[0] == 0
    assert (out / "p1" / "synthetic_ct.nii.gz").stat().st_ino != first
    (out / "p1" / "notes.txt").write_text("mine")
    said = refused("mr_to_ct", data, out)
    assert "notes.txt, which was not made by this program" in said
    (out / "p1" / "notes.txt").unlink()
    (out / "p2" / "synthetic_ct.nii.gz").write_bytes(b"corrected by hand")
    before = tree(out / "p2")
    code, said = run("mr_to_ct", data, out)
    assert code == 2 and "synthetic_ct.nii.gz, which was changed since" in said
    assert tree(out / "p2") == before and (out / "p1" / "synthetic_ct.nii.gz").is_file()


def test_a_result_is_not_replaced_by_that_of_another_patient(tmp_path, run, refused):
    for patient, seed in (("patA", 0), ("patB", 1)):
        image(tmp_path / patient / "T1.nii.gz", seed)
    assert run("mr_to_ct", tmp_path / "patA" / "T1.nii.gz", tmp_path / "out")[0] == 0
    said = refused("mr_to_ct", tmp_path / "patB" / "T1.nii.gz", tmp_path / "out")
    assert "made of another image" in said


def test_the_same_image_in_another_place_replaces_its_own_result(tmp_path, run):
    image(tmp_path / "a" / "T1.nii.gz")
    assert run("mr_to_ct", tmp_path / "a" / "T1.nii.gz", tmp_path / "out")[0] == 0
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert run("mr_to_ct", tmp_path / "b" / "T1.nii.gz", tmp_path / "out", "--flips", "true")[0] == 0


def test_workflows_do_not_replace_each_others_results(tmp_path, run, refused):
    image(tmp_path / "d" / "p1" / "T1c.nii.gz")
    assert run("brain_lesion", tmp_path / "d", tmp_path / "out")[0] == 0
    said = refused("mr_to_ct", tmp_path / "d" / "p1" / "T1c.nii.gz", tmp_path / "out")
    assert "results of another run (brain_lesion inference)" in said


def test_our_result_that_is_now_an_input_is_not_replaced(tmp_path, run, refused):
    image(tmp_path / "d" / "synthetic_ct" / "mr.nii.gz")
    out = tmp_path / "out"
    assert run("mr_to_ct", tmp_path / "d", out)[0] == 0
    refused("mr_to_ct", out / "synthetic_ct" / "synthetic_ct.nii.gz", out)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("inference", "--num_samples", "2"), "nodules"),
        (("inference", "--num_samples", "2"), "samples.csv"),
        (("interpolate", "--steps", "2"), "walk.csv"),
        (("interpolate", "--steps", "2"), "manifest.json"),
    ],
)
def test_nodules_are_not_written_over_what_is_there(tmp_path, capsys, words, name):
    target = tmp_path / "out" / name
    if "." in name:
        target.parent.mkdir()
        target.write_text("file,rating\nmine.nii.gz,5\n")
    else:
        image(target / "mine.nii.gz")
    before = tree(tmp_path)
    assert cli.main(["lung_nodule", *words, "--output_dir", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "was not made by this program" in capsys.readouterr().err or name == "manifest.json"
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["placed", "placement.png", "report.html"])
def test_a_nodule_is_not_placed_over_what_is_there(tmp_path, capsys, name):
    ct = np.full((40, 40, 30), -850, np.int16)
    save_volume(tmp_path / "chest.nii.gz", ct, np.diag([2.0, 2, 2, 1]))
    target = tmp_path / "out" / name
    target.parent.mkdir()
    if name == "placed":
        shutil.copytree(tmp_path, tmp_path / "copy")
        shutil.move(tmp_path / "copy", target)
    else:
        target.write_text("mine")
    before = tree(tmp_path)
    words = ["--dataset_dir", str(tmp_path / "chest.nii.gz"), "--position", "[40,40,30]", "--device", "cpu"]
    assert cli.main(["lung_nodule", "place", *words, "--output_dir", str(tmp_path / "out")]) == 2
    assert "was not made by this program" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_what_a_killed_run_leaves_is_cleared_and_nothing_else(tmp_path, run):
    data, out = tmp_path / "d", tmp_path / "out"
    image(data / "p1" / "mr.nii.gz")
    assert run("mr_to_ct", data, out)[0] == 0
    from medical_gans.io import writing

    gone = writing._beside(out / "p1").name
    writing._MINE.clear()
    for place in (out, out / "report"):
        (place / gone).mkdir()
        (place / gone / "half.nii.gz").write_bytes(b"half")
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("ref")
    (out / ".a1b2c3d4e5f6-p1").write_text("mine")
    assert run("mr_to_ct", data, out)[0] == 0
    left = {path.name for path in out.rglob(".*")}
    assert left == {".git", ".a1b2c3d4e5f6-p1"}


def test_a_folder_of_results_says_what_it_was_made_of_without_naming_a_place(tmp_path, run):
    image(tmp_path / "Doe_John" / "mr.nii.gz")
    assert run("mr_to_ct", tmp_path / "Doe_John" / "mr.nii.gz", tmp_path / "out")[0] == 0
    records = list((tmp_path / "out").rglob("made_from.json"))
    assert len(records) == 3
    for record in records:
        assert str(tmp_path) not in record.read_text()
        assert set(json.loads(record.read_text())) >= {"run", "files"}
