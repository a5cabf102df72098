"""What is wrong with an input is said in one plain sentence by the command, and nothing is left half-written."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medical_gans.cli import command as cli
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.io import save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.weights import WeightsCard, save_weights

SHAPE = (24, 28, 16)
SMALL = ("--device", "cpu")


def head() -> np.ndarray:
    mr = np.zeros(SHAPE, dtype=np.int16)
    mr[4:20, 4:24, 3:13] = np.random.default_rng(0).integers(300, 900, (16, 20, 10))
    return mr


@pytest.fixture
def weights(tmp_path) -> Path:
    save_weights(tmp_path / "small.pt", ResnetGenerator(width=2, blocks=0))
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
    WeightsCard([None] * 3, network_def=network_def).save(tmp_path / "small.pt")
    return tmp_path / "small.pt"


@pytest.fixture
def good(tmp_path) -> Path:
    return save_volume(tmp_path / "good.nii.gz", head(), np.diag([2.0, 2, 3, 1]))


@pytest.fixture
def refused(tmp_path, weights, capsys):
    """Run the command on a path; it must fail with one sentence and leave no file. Returns the sentence."""

    def run(path: Path, *words: str, weights: Path = weights, out: Path = tmp_path / "out") -> str:
        given = ["mr_to_ct", "inference", "--dataset_dir", str(path), "--output_dir", str(out)]
        code = cli.main([*given, "--weights", str(weights), *SMALL, *words])
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medical-gans:")]
        assert code == 2
        assert len(said) == 1 and said[0].startswith("medical-gans: error: ")
        assert not out.exists() or [path for path in out.rglob("*") if path.is_file()] == []
        return said[0]

    return run


def written(path: Path, array: np.ndarray, affine: np.ndarray | None = None, **header: object) -> Path:
    """A NIfTI file as nibabel writes it, with header fields overwritten."""
    image = nibabel.Nifti1Image(array, np.diag([2.0, 2, 3, 1]) if affine is None else affine)
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    fields = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in header.items():
        fields[name] = value
    path.write_bytes(bytes(fields.binaryblock) + bytes(content[348:]))
    return path


def test_a_good_mr_is_translated(good, tmp_path, weights):
    """The other runs here fail for the reason they name."""
    words = ["mr_to_ct", "inference", "--dataset_dir", str(good), "--output_dir", str(tmp_path / "out")]
    assert cli.main([*words, "--weights", str(weights), *SMALL]) == 0
    assert (tmp_path / "out" / "good" / "synthetic_ct.nii.gz").is_file()


def test_a_path_that_does_not_exist(tmp_path, refused):
    assert "nowhere does not exist" in refused(tmp_path / "nowhere")


def test_a_folder_with_nothing_in_it(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    assert "No image was found in" in refused(tmp_path / "empty")


def test_no_path_at_all(tmp_path, weights, capsys):
    assert cli.main(["mr_to_ct", "inference", "--output_dir", str(tmp_path / "out"), "--weights", str(weights)]) == 2
    assert "--dataset_dir PATH" in capsys.readouterr().err


def test_a_file_that_is_no_image(tmp_path, refused):
    (tmp_path / "mr.nii.gz").write_bytes(b"no image")
    assert "truncated, damaged, or not what its suffix says" in refused(tmp_path / "mr.nii.gz")


@pytest.mark.parametrize("name", ["mr.nii.gz", "mr.nii"])
def test_a_truncated_file(tmp_path, refused, name):
    path = save_volume(tmp_path / name, head(), np.diag([2.0, 2, 3, 1]))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in refused(path)


@pytest.mark.parametrize(("shape", "dimensions"), [((24, 28), "2D"), ((24, 28, 16, 3), "4D")])
def test_an_image_that_is_not_3d(tmp_path, refused, shape, dimensions):
    path = written(tmp_path / "mr.nii", np.random.default_rng(0).integers(0, 900, shape).astype(np.int16))
    assert f"is {dimensions}" in refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(tmp_path, refused, value):
    mr = head().astype(np.float32)
    mr[5, 5, 5] = value
    assert "1 voxels that are NaN or infinite" in refused(written(tmp_path / "mr.nii", mr))


def test_a_constant_image(tmp_path, refused):
    assert "every voxel is 7" in refused(written(tmp_path / "mr.nii", np.full(SHAPE, 7, dtype=np.int16)))


def test_an_image_with_nothing_but_air(tmp_path, refused):
    mr = np.full(SHAPE, -3, dtype=np.int16)
    mr[0, 0, 0] = -2
    assert "shows no body" in refused(written(tmp_path / "mr.nii", mr))


def test_a_spacing_of_zero(tmp_path, refused):
    path = written(tmp_path / "mr.nii", head(), pixdim=[1, 2, 0, 3, 0, 0, 0, 0], sform_code=0, qform_code=1)
    assert "spacing" in refused(path)


def test_a_singular_affine(tmp_path, refused):
    path = written(tmp_path / "mr.nii", head(), srow_x=[2, 0, 0, 0], srow_y=[2, 1e-9, 0, 0], qform_code=0)
    assert "singular" in refused(path)


def test_a_weights_file_that_does_not_exist(good, refused, tmp_path):
    assert "missing.pt does not exist" in refused(good, weights=tmp_path / "missing.pt")


def test_weights_that_do_not_fit_the_network(good, refused, weights):
    save_weights(weights, ResnetGenerator(width=3, blocks=0))
    assert "do not fit the network" in refused(good)


def test_a_weights_file_that_is_damaged(good, refused, weights):
    weights.write_bytes(weights.read_bytes()[:100])
    assert "cannot be read as weights" in refused(good)


def test_a_checkpoint_given_as_weights(good, refused, weights):
    torch.save({"parts": {}}, weights)
    assert "holds no network weights" in refused(good)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--flip", "true"), "no setting 'flip' (did you mean 'flips'?)"),
        (("--site", "knee"), "choose head, thigh or thigh_cyclegan"),
        (("--planes", "oblique"), "axial, coronal and sagittal"),
        (("--spacing", "1.0,1.0"), "three positive numbers in mm"),
        (("--tile", "30"), "multiple of 4"),
        (("--slice_batch", "0"), "slice_batch is 0"),
        (("--flips", "perhaps"), "must be true or false"),
    ],
)
def test_a_setting_that_is_unknown_or_makes_no_sense(good, refused, words, sentence):
    assert sentence in refused(good, *words)


def test_an_output_folder_below_a_file(good, refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "could not be written" in refused(good, out=tmp_path / "file" / "out")


def test_an_output_folder_that_is_a_file(good, refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "results need a folder" in refused(good, out=tmp_path / "file")


def test_a_full_disk(good, refused, monkeypatch):
    def full(image, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(nibabel, "save", full)
    assert "disk or quota is full" in refused(good)


def test_an_interrupt(good, tmp_path, weights, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SliceSynthesis, "__call__", interrupted)
    words = ["mr_to_ct", "inference", "--dataset_dir", str(good), "--output_dir", str(tmp_path / "out")]
    assert cli.main([*words, "--weights", str(weights), *SMALL]) == 130
    assert "medical-gans: interrupted." in capsys.readouterr().err
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_ctrl_c_while_slices_are_translated(tmp_path, weights, repository):
    """The signal itself, to a process of its own, on a volume that takes minutes."""
    mr = save_volume(tmp_path / "large.nii.gz", np.kron(head(), np.ones((16, 16, 16), np.int16)), np.eye(4))
    words = [
        "mr_to_ct",
        "inference",
        "--dataset_dir",
        mr,
        "--output_dir",
        tmp_path / "out",
        "--weights",
        weights,
    ]
    words += [*SMALL, "--planes", "axial,coronal,sagittal", "--flips", "true"]
    process = subprocess.Popen(
        [sys.executable, "-m", "medical_gans", *map(str, words)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a job that a script started in the background ignores the interrupt, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Cases to translate" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said = process.stdout.read()
    # A shell shows 130 for both: CPython below 3.12 kills itself when the interrupt has passed through `eval`.
    assert process.wait(60) in (130, -signal.SIGINT)
    assert "medical-gans: interrupted." in said and "Traceback" not in said
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_monai_says_the_same_sentence(tmp_path, weights, repository):
    """``python -m monai.bundle run`` on our config ends with the sentence, not with a traceback."""
    config = repository / "configs" / "mr_to_ct_inference.yaml"
    words = ["--config_file", config, "--dataset_dir", tmp_path / "nowhere", "--output_dir", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *map(str, words), "--weights", str(weights)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1 and "nowhere does not exist" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
