"""`mr_to_ct register` from files to a training set: what was moved is put back, and what cannot be is refused.

Needs itk-elastix, whose import alone takes 10 to 20 s of one core.
"""

import contextlib
import csv
import json
from importlib.metadata import PackageNotFoundError, version

import nibabel
import numpy as np
import pytest
from registration import limbs

from medical_gans.cli import main
from medical_gans.errors import SettingError
from medical_gans.io import find_training_cases, save_volume
from medical_gans.studies.registration import Schedule, elastix

try:
    version("itk-elastix")
except PackageNotFoundError:
    needs_elastix = pytest.mark.skip(reason="itk-elastix is not installed: pip install 'medical-gans[register]'")
else:
    needs_elastix = pytest.mark.slow

QUICK = Schedule(control_spacing=30.0, levels=2, rigid_iterations=60, iterations=60, samples=800)
MOTION = limbs.Motion((12, -9, 8), turn=(3, -4, 6), waves=2.5)
# an MR whose stored axes are permuted and flipped, as a sagittal acquisition is
STORED = np.array([[1, -1], [2, -1], [0, 1]])


def _patient(folder, ct_label):
    label = limbs.tissue(limbs.points())
    to_stored = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), STORED)
    mr = nibabel.apply_orientation(limbs.mr_of(label), to_stored)
    mr_affine = limbs.affine() @ nibabel.orientations.inv_ornt_aff(to_stored, limbs.SHAPE)
    folder.mkdir(parents=True)
    save_volume(folder / "mr.nii.gz", mr.astype(np.int16), mr_affine)
    save_volume(folder / "ct.nii.gz", limbs.ct_of(ct_label), limbs.affine())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("register")
    (place / "here").mkdir()
    _patient(place / "data" / "anna", limbs.tissue(MOTION(limbs.points())))
    # another limb, whose bone is thick and elsewhere
    x, y, _ = np.moveaxis(limbs.points(), -1, 0)
    other = np.where(np.hypot(x, y) < 46, 2, 0)
    other[np.hypot(x + 22, y - 18) < 14] = 3
    _patient(place / "data" / "bert", other)
    settings = {"levels": 2, "rigid_iterations": 60, "iterations": 60, "samples": 800, "control_spacing": 30}
    words = [word for name, value in {**settings, "rotation": 0}.items() for word in (f"--{name}", str(value))]
    places = ["--dataset_dir", str(place / "data"), "--output_dir", str(place / "out")]
    with contextlib.chdir(place / "here"):
        assert main(["mr_to_ct", "register", *places, *words]) == 0
    return place


@needs_elastix
def test_the_registered_ct_shows_what_the_mr_shows(run):
    mr, ct = (nibabel.load(run / "out" / "anna" / f"{name}.nii.gz") for name in ("mr", "ct"))
    source = nibabel.load(run / "data" / "anna" / "mr.nii.gz")
    assert ct.shape == source.shape and np.abs(ct.affine - source.affine).max() < 1e-5
    assert np.array_equal(np.asarray(mr.dataobj), np.asarray(source.dataobj))
    assert ct.get_data_dtype() == np.int16
    hounsfield = np.asarray(nibabel.as_closest_canonical(ct).dataobj)
    trusted = (
        np.asarray(nibabel.as_closest_canonical(nibabel.load(run / "out" / "anna" / "trusted.nii.gz")).dataobj) > 0
    )
    label = limbs.tissue(limbs.points())
    before, after = limbs.ct_of(limbs.tissue(MOTION(limbs.points()))) > 400, hounsfield > 400
    true = (label == 3) & (hounsfield > -1024)

    def dice(bone):
        return 2 * (bone & true).sum() / (bone.sum() + true.sum())

    assert dice(before) < 0.55 and dice(after) > 0.85
    soft = trusted & np.isin(label, (1, 2))
    expected = np.array([-1000.0, -100.0, 55.0])[np.where(soft, label, 0)]
    assert np.abs(hounsfield - expected)[soft].mean() < 40


@needs_elastix
def test_points_come_back_across_the_limb_to_within_two_millimetres():
    label = limbs.tissue(limbs.points())
    fixed = elastix.Placed(limbs.mr_of(label).astype(np.float32), limbs.affine())
    moving = elastix.Placed(limbs.ct_of(limbs.tissue(MOTION(limbs.points()))).astype(np.float32), limbs.affine())
    start = np.eye(4)
    start[:3, 3] = -np.array(MOTION.shift) + [3, -3, 2]
    tool = elastix.Elastix(fixed, np.ones(limbs.SHAPE, bool), QUICK)
    bone = label == 3
    errors = {}
    points = elastix.positions(limbs.SHAPE, limbs.affine())
    rigid = tool.rigid(moving, start)
    for name, where in (("rigid", elastix.transformed(points, rigid)), ("all", tool.deformable(moving, rigid))):
        off = np.abs(MOTION(where) - limbs.points())[bone]
        errors[name] = np.linalg.norm(off[:, :2], axis=-1).mean(), off[:, 2].mean()
    # along a shaft both images change little
    assert errors["rigid"][0] < 3 and errors["all"][0] < 2 and errors["all"][1] < 5, errors


@needs_elastix
def test_nothing_is_written_outside_of_the_output_folder(run):
    assert sorted(path.name for path in run.iterdir()) == ["data", "here", "out"]
    assert not any((run / "here").iterdir())


@needs_elastix
def test_the_output_is_a_training_set_of_the_accepted_pairs(run):
    cases = find_training_cases(run / "out", paired=True, validation_fraction=0.0, seed=0)
    assert [case.name for case in cases.mr] == ["anna"]
    assert cases.mr[0].trusted is not None and cases.mr[0].mask is not None


@needs_elastix
def test_a_refused_pair_leaves_its_pictures_its_figures_and_the_reason_only(run):
    assert not (run / "out" / "bert").exists()
    record = json.loads((run / "out" / "report" / "bert" / "case.json").read_text())
    assert record["metrics"]["accepted"] == 0 and any("Refused" in sentence for sentence in record["warnings"])
    assert (run / "out" / "report" / "bert" / "registration.png").stat().st_size > 10_000
    with open(run / "out" / "pairs.csv", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows["anna"]["accepted"] == "1" and rows["bert"]["accepted"] == "0"
    assert float(rows["anna"]["moved_mean_mm"]) == pytest.approx(17, abs=3)
    manifest = json.loads((run / "out" / "manifest.json").read_text())
    assert manifest["stage"] == "register" and "anna/ct.nii.gz" in manifest["inputs"]


def test_without_itk_elastix_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(elastix.importlib, "import_module", missing)
    with pytest.raises(SettingError, match=r"medical-gans\[register\]"):
        elastix.require_extra()
