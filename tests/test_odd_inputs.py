"""Odd inputs through the command: translated with a word in the manifest, or refused in a sentence with code 2."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_images import dicom_slice
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from medical_gans.cli import command as cli
from medical_gans.errors import InputError
from medical_gans.io import read_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.weights import WeightsCard, save_weights

SHAPE = (24, 28, 16)
SMALL = ("--uncertainty", "false")


def head(seed: int = 0) -> np.ndarray:
    mr = np.zeros(SHAPE, dtype=np.int16)
    mr[4:20, 4:24, 3:13] = np.random.default_rng(seed).integers(300, 900, (16, 20, 10))
    return mr


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    save_weights(path, ResnetGenerator(width=2, blocks=0))
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
    WeightsCard([None] * 3, network_def=network_def).save(path)
    return path


@pytest.fixture
def run(weights, capsys):
    """Run the command; return its code, what it said on the error stream, and the warnings of its only case."""

    def translate(path: Path, out: Path, *words: str) -> tuple[int, str, list[str]]:
        given = ["mr_to_ct", "inference", "--dataset_dir", str(path), "--output_dir", str(out)]
        device = () if "--device" in words else ("--device", "cpu")
        code = cli.main([*given, "--weights", str(weights), *device, *SMALL, *words])
        manifest = out / "manifest.json"
        cases = json.loads(manifest.read_text())["cases"].values() if code == 0 else []
        warned = [warning for case in cases for warning in case["warnings"]]
        return code, capsys.readouterr().err, warned

    return translate


@pytest.fixture
def contradicting(tmp_path) -> Path:
    image = nib.Nifti1Image(head(), np.diag([-2.0, 2, 3, 1]))
    image.set_sform(np.diag([2.0, 2, 3, 1]), 1)
    image.set_qform(np.diag([-2.0, 2, 3, 1]), 1)
    nib.save(image, tmp_path / "head.nii.gz")
    return tmp_path / "head.nii.gz"


def test_a_doubt_is_said_and_strict_refuses_it(contradicting, tmp_path, run):
    code, said, warned = run(contradicting, tmp_path / "out")
    assert code == 0 and any("sform and qform contradict each other" in one for one in warned)
    made = nib.load(tmp_path / "out" / "head" / "synthetic_ct.nii.gz")
    assert np.allclose(made.affine, np.diag([2.0, 2, 3, 1]))
    code, said, _ = run(contradicting, tmp_path / "strict", "--strict", "true")
    assert code == 2 and "strict refuses what can be read in two ways" in said and "Traceback" not in said
    assert not (tmp_path / "strict" / "head").exists()


@pytest.mark.parametrize("device", ["banana", "[2,2,3]", "1"])
def test_a_device_that_there_is_not_is_a_mistake_and_no_bug(contradicting, tmp_path, run, device):
    code, said, _ = run(contradicting, tmp_path / "out", "--device", device)
    assert code == 2 and "give cpu, cuda" in said and "Traceback" not in said


@pytest.fixture
def dixon(tmp_path) -> Path:
    folder = tmp_path / "dixon"
    folder.mkdir()
    for part, name in enumerate(("WATER", "FAT")):
        for k in range(SHAPE[2]):
            image = dicom_slice("MR", head(part)[:, :, k].T, (0, 0, 3 * k), (1, 0, 0, 0, 1, 0), "2.25.100")
            image.PixelSpacing, image.ImageType = [2, 2], ["DERIVED", "PRIMARY", "DIXON", name]
            image.save_as(folder / f"{name}{k}.dcm", enforce_file_format=True)
    return folder


def test_select_chooses_a_stack_by_its_word(dixon, tmp_path, run):
    code, said, _ = run(dixon, tmp_path / "out")
    assert code == 2 and '"WATER"' in said and '"FAT"' in said and not list((tmp_path / "out").glob("dixon*"))
    code, _, warned = run(dixon, tmp_path / "out", "--select", "water")
    assert code == 0 and any("16 of 32 images" in one for one in warned)
    (ct,) = (tmp_path / "out").glob("*/dicom/ct")
    assert len(list(ct.iterdir())) == 16


@settings(
    max_examples=10,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(place=st.integers(0, 351), value=st.integers(0, 255))
def test_a_spoilt_header_ends_in_a_result_or_in_one_sentence(tmp_path_factory, run, place, value):
    folder = tmp_path_factory.mktemp("spoilt")
    image = nib.Nifti1Image(head(), np.diag([2.0, 2, 3, 1]))
    content = bytearray(image.to_bytes())
    content[place] = value
    (folder / "head.nii").write_bytes(content)
    try:
        read_volume(folder / "head.nii")
        readable = True
    except InputError:
        readable = False
    code, said, _ = run(folder / "head.nii", folder / "out")
    assert (folder / "head.nii").read_bytes() == bytes(content)
    assert "Traceback" not in said and "bug of" not in said
    if readable:
        assert code == 0 or said.count("medical-gans: error:") == 1
    else:
        assert code == 2 and said.count("medical-gans: error:") == 1
        assert not list((folder / "out").glob("head"))
