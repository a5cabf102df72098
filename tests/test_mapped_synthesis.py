"""A case whose volumes lie in mapped files gives the files that it gives in memory, byte for byte."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from dicom_images import dicom_slice

from medical_gans.checks.quality import QualityGate
from medical_gans.errors import InputError
from medical_gans.inference.synthesis import CaseEvaluator, DicomOutput, SliceSynthesis
from medical_gans.io import find_cases, mapped, save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.report import cases as report_cases
from medical_gans.weights import save_weights

SHAPE = (40, 44, 28)
TURNED = np.array([[0.0, 0, -3, 50], [-2, 0, 0, 30], [0, 2.5, 0, -60], [0, 0, 0, 1]])


def head(dtype: type = np.int16) -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in axes) < 0.7
    return (np.random.default_rng(0).integers(300, 900, SHAPE) * inside).astype(dtype)


def nifti(folder: Path) -> None:
    save_volume(folder / "mr.nii.gz", head(), TURNED)


def scaled_big_endian(folder: Path) -> None:
    """Stored as big-endian numbers with a slope and an offset, its background not at 0."""
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(head().astype(">i2"), TURNED, header)
    image.header.set_slope_inter(0.5, -100)
    nibabel.save(image, folder / "mr.nii")


def dicom(folder: Path) -> None:
    array = head()
    for k in range(SHAPE[2]):
        image = dicom_slice("MR", array[:, :, k].T, [-20.0, -30, 40 + 3.0 * k], (1, 0, 0, 0, 1, 0), "2.25.100")
        image.PixelSpacing = [2, 2]
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)


def run(data: Path, out: Path, planes: str, flips: bool) -> None:
    torch.manual_seed(0)
    generator = ResnetGenerator(width=4, blocks=1)
    weights = data.parent / "model.pt"
    if not weights.exists():
        save_weights(weights, generator)
    synthesis = SliceSynthesis([generator], planes=planes, flips=flips)
    given = {"dataset_dir": data, "dicom": DicomOutput(uid_seed=3), "quality": QualityGate()}
    CaseEvaluator("cpu", find_cases(data), synthesis, [weights], out, **given).run()


def drawn(kind: str) -> Callable[[object, Path], object]:
    def draw(volumes: object, path: Path) -> object:
        return path.write_bytes(b"picture")

    draw.__name__ = kind
    return draw


def content(path: Path) -> object:
    """Of a file, without the times at which it was made."""
    if path.suffix == ".dcm":
        written = pydicom.dcmread(path)
        lasting = [e for e in written.iterall() if e.VR != "SQ" and "Time" not in e.name and "Date" not in e.name]
        return [(e.tag, e.value) for e in lasting]
    if path.name == "case.json":
        return {**json.loads(path.read_text()), "seconds": None}
    return path.read_bytes()


@pytest.mark.parametrize(
    ("write", "planes", "flips", "pictures"),
    [
        (nifti, "axial,coronal,sagittal", True, True),
        (scaled_big_endian, "coronal", True, False),
        (dicom, "axial", False, False),
    ],
)
def test_mapped_volumes_change_no_file(tmp_path, monkeypatch, write, planes, flips, pictures):
    if not pictures:  # which take most of the time
        for kind in ("overview", "contact_sheet", "histogram", "thumbnail"):
            monkeypatch.setattr(report_cases, kind, drawn(kind))
    data = tmp_path / "data" / "anna"
    data.mkdir(parents=True)
    write(data)
    run(data, tmp_path / "plain", planes, flips)
    made: list[int] = []
    file_of = mapped._file_of
    monkeypatch.setattr(mapped, "_LEAST", 1)
    monkeypatch.setattr(mapped, "_SLAB", 1 << 14)
    monkeypatch.setattr(mapped, "_file_of", lambda size, folder: made.append(size) or file_of(size, folder))
    run(data, tmp_path / "mapped", planes, flips)
    assert len(made) >= 4  # the MR, the HU, the outline of the body, the structures of the page
    names = sorted(path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*") if path.is_file())
    found = sorted(path.relative_to(tmp_path / "mapped") for path in (tmp_path / "mapped").rglob("*") if path.is_file())
    assert found == names
    same = [name for name in names if name.name not in ("manifest.json", "made_from.json", "report.html")]
    for name in same:
        assert content(tmp_path / "mapped" / name) == content(tmp_path / "plain" / name), name


def test_a_case_that_fails_leaves_no_mapped_file(tmp_path, monkeypatch):
    data = tmp_path / "data" / "anna"
    data.mkdir(parents=True)
    nifti(data)
    monkeypatch.setattr(mapped, "_LEAST", 1)

    def fails(*_):
        raise InputError("no verdict")

    monkeypatch.setattr(QualityGate, "__call__", fails)
    with pytest.raises(Exception, match="no verdict"):
        run(data, tmp_path / "out", "axial", False)
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not [name for name in left if name.startswith(("tmp", ".medical_gans"))]
    assert "synthetic_ct.nii.gz" not in left
