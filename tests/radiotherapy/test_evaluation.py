"""A dose evaluation writes what it found, signed, for every case, and refuses what cannot be compared.

The engines are replaced: what pyRadPlan computes is tested in test_plans.py.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from medical_gans.errors import InputError, OutputError, SettingError, UserError
from medical_gans.io import find_cases, save_volume
from medical_gans.phantom import head, simulate_ct
from medical_gans.studies.radiotherapy import DoseEvaluation, DoseSources, evaluation, figures
from medical_gans.studies.radiotherapy import pictures as dose_pictures

SPACING = 5.0


class DensityAsDose:
    """Stands in for a plan: the dose is 2 Gy times the density."""

    def __init__(self, beams, grid, density, body, target, organs, prescription, on_beam):
        self.reference_dose = prescription * density
        self.prescription = prescription
        on_beam(f"{beams.modality} plan", 1, len(beams.gantry_angles))

    def dose(self, density, name):
        return self.prescription * density


@pytest.fixture(autouse=True)
def no_engines(monkeypatch):
    monkeypatch.setattr(evaluation, "require_extra", lambda: None)
    monkeypatch.setattr(evaluation, "Plan", DensityAsDose)
    monkeypatch.setattr(figures, "gamma_pass_rate", lambda *_, **__: 98.5)


@pytest.fixture(scope="module")
def scanned() -> tuple[np.ndarray, np.ndarray]:
    phantom = head(5)
    grid = phantom.grid(SPACING)
    return simulate_ct(phantom, grid), grid.affine


@pytest.fixture
def dataset(tmp_path, scanned) -> Path:
    ct, affine = scanned
    for name in ("anna", "bert"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        save_volume(folder / "ct.nii.gz", ct, affine)
        synthetic = tmp_path / "made" / name
        synthetic.mkdir(parents=True)
        save_volume(synthetic / "synthetic_ct.nii.gz", np.where((ct > -200) & (ct < 250), ct + 50, ct), affine)
        x, y, z = np.indices(ct.shape)
        target = (x - 20) ** 2 + (y - 24) ** 2 + (z - 30) ** 2 < 16
        save_volume(folder / "gtv.nii.gz", target.astype(np.uint8), affine)
        save_volume(folder / "brain_stem.nii.gz", np.roll(target, -6, axis=2).astype(np.uint8), affine)
    return tmp_path / "data"


def evaluate(dataset: Path, **options) -> DoseEvaluation:
    made = str(dataset.parent / "made" / "{case}" / "synthetic_ct.nii.gz")
    sources = DoseSources(
        options.pop("synthetic_ct", made),
        options.pop("target", str(dataset / "{case}" / "gtv.nii.gz")),
        options.pop("organs", [str(dataset / "{case}" / "brain_stem.nii.gz")]),
    )
    arguments = {"dose_spacing": SPACING, "dataset_dir": dataset, **options}
    return DoseEvaluation(find_cases(dataset, ["ct"]), sources, dataset.parent / "out", **arguments)


def change(case: Path, values: np.ndarray, affine: np.ndarray) -> None:
    save_volume(case / "synthetic_ct.nii.gz", values, affine)


def test_every_case_gets_its_figures_doses_pictures_and_a_line_on_the_page(dataset, capsys):
    found = evaluate(dataset).run()
    out = dataset.parent / "out"
    rows = list(csv.DictReader((out / "dose.csv").open()))
    assert {(row["case"], row["modality"]) for row in rows} == {
        (case, modality) for case in ("anna", "bert") for modality in ("photon", "proton")
    }
    facts = json.loads((out / "dose.json").read_text())["cases"]["anna"]["photon"]
    difference = facts["synthetic"]["target"]["mean"] - facts["reference"]["target"]["mean"]
    expected = found["anna"][0].synthetic["target"]["mean"] - found["anna"][0].reference["target"]["mean"]
    assert difference == pytest.approx(expected, abs=1e-5) and difference > 0.02  # 50 HU more are 2 % more density
    for name in ("dose_photon.png", "dose_proton.png", "dvh.png", "thumbnail.png", "case.json"):
        assert (out / "report" / "anna" / name).stat().st_size > 100
    page = (out / "report.html").read_text()
    assert "brain_stem" in page and "gamma (3 %, 3 mm) 98.5 %" in page and "report/bert/dvh.png" in page
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stage"] == "dose" and "anna/gtv.nii.gz" in manifest["inputs"]
    assert "photon_target_mean_difference" in manifest["cases"]["anna"]["metrics"]
    assert "target_d98_difference" in capsys.readouterr().out


def test_the_doses_are_stored_where_the_patient_lies(dataset, scanned):
    import nibabel

    evaluate(dataset, proton_angles=[]).run()
    image = nibabel.load(dataset.parent / "out" / "anna" / "photon_dose_reference.nii.gz")
    stored, (ct, affine) = image.get_fdata(), scanned
    bone = np.argwhere(stored > 2.6) @ image.affine[:3, :3].T + image.affine[:3, 3]  # density above 1.3
    index = np.rint((bone - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    assert np.mean(ct[tuple(index.T)] > 250) > 0.9


def test_an_equal_ct_has_no_difference(dataset, scanned):
    for case in ("anna", "bert"):
        change(dataset.parent / "made" / case, *scanned)
    for plans in evaluate(dataset).run().values():
        for plan in plans:
            assert plan.compared["largest_difference"] < 1e-4
            assert plan.compared["dose_mae"] == plan.compared["dvh_error"] == 0


def test_without_a_target_a_sphere_is_taken_and_told(dataset):
    run = evaluate(dataset, target=None, target_radius=20.0)
    anatomy = run.read_anatomy(run.cases[0])
    assert "sphere of 20 mm" in anatomy.warnings[0]
    assert np.count_nonzero(anatomy.target) * SPACING**3 == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ct, affine: (ct + 1024, affine), "not in Hounsfield units"),
        (lambda ct, affine: (ct[::-1], affine), "left and right exchanged"),
        (lambda ct, affine: (ct, affine + _shifted(12)), r"1[12]\.\d mm off"),
    ],
    ids=["HU + 1024", "flip", "wrong affine"],
)
def test_what_cannot_be_compared_is_refused_before_any_dose(dataset, scanned, spoil, reason, monkeypatch):
    change(dataset.parent / "made" / "bert", *spoil(*scanned))
    with pytest.raises(UserError, match=f"1 of 2 cases failed: bert.*{reason}"):
        evaluate(dataset).run()
    out = dataset.parent / "out"
    assert (out / "anna").is_dir() and not (out / "bert").exists()
    assert "bert" not in (out / "dose.csv").read_text()


def _shifted(distance: float) -> np.ndarray:
    offset = np.zeros((4, 4))
    offset[0, 3] = distance
    return offset


def test_the_error_of_an_only_case_is_raised_as_it_is(dataset, scanned):
    ct, affine = scanned
    change(dataset.parent / "made" / "bert", ct + 1024, affine)
    run = evaluate(dataset)
    run.cases = run.cases[1:]
    with pytest.raises(InputError, match="rescale intercept"):
        run.run()


def test_a_structure_of_another_patient_is_refused(dataset, scanned):
    ct, affine = scanned
    mask = np.zeros(ct.shape, dtype=np.uint8)
    mask[:2, :2, :2] = 1
    save_volume(dataset / "anna" / "gtv.nii.gz", mask, affine)
    with pytest.raises(UserError, match="target does not lie in the body"):
        evaluate(dataset).run()


def test_a_structure_of_a_dicom_file_is_asked_for_by_name_on_the_grid_of_the_ct(dataset, scanned, monkeypatch):
    from medical_gans.io import Volume
    from medical_gans.io.dicom import masks

    asked = []

    def read(path, name, grid):
        asked.append((path, name, grid.array.shape))
        return Volume(grid.array > -300, grid.affine, path)

    monkeypatch.setattr(masks, "read_dicom_structure", read)
    case = find_cases(dataset, ["ct"])[0]
    for given in ("{case}/rs.dcm#Brain stem", "{case}/rs.dcm::Brain stem"):  # as typed, and as MONAI passes it on
        found = DoseSources(organs=[given]).read_organs(case)
        assert list(found) == ["Brain stem"]
        assert asked.pop() == (Path("anna/rs.dcm"), "Brain stem", scanned[0].shape)
    with pytest.raises(InputError, match=r"Name one: rs\.dcm#NAME"):
        DoseSources(target="rs.dcm").read_target(case)


def test_an_mr_is_translated_where_no_synthetic_ct_is_given(dataset, scanned):
    ct, affine = scanned
    save_volume(dataset / "anna" / "mr.nii.gz", np.clip(ct + 1000, 0, 1100), affine)
    trained = type("Trained", (), {"generators": [None], "spacing": (1, 1, None), "plane": "axial"})
    asked = []

    def synthesis(generators):
        asked.append(generators)
        return lambda mr: type("Made", (), {"hounsfield": mr.array - 1000})

    sources = DoseSources(load_generators=lambda: trained, synthesis=synthesis)
    cases = {case.name: case for case in find_cases(dataset, ["ct"])}
    made = sources.read_synthetic(cases["anna"])
    assert asked == [[None]]
    assert made.array.max() == 100 and np.array_equal(made.affine, affine)
    with pytest.raises(SettingError, match="no synthetic CT of bert"):
        sources.read_synthetic(cases["bert"])


@pytest.mark.parametrize(
    "option",
    [{"prescription": 0}, {"dose_spacing": -1}, {"photon_angles": [], "proton_angles": []}, {"beamlet_spacing": 0}],
)
def test_settings_out_of_range_are_refused(dataset, option):
    with pytest.raises(SettingError):
        evaluate(dataset, **option)


def test_results_of_another_run_are_not_overwritten(dataset):
    out = dataset.parent / "out"
    out.mkdir()
    (out / "manifest.json").write_text('{"stage": "inference"}')
    with pytest.raises(OutputError, match="another run"):
        evaluate(dataset).run()


def test_a_dose_is_drawn_over_the_ct_with_the_target_around_it(tmp_path, scanned):
    from matplotlib.image import imread

    from medical_gans.studies.radiotherapy.dose_grid import DoseGrid

    grid = DoseGrid((20, 24, 16), 4.0, np.zeros(3))
    target = grid.sphere(np.array([40.0, 48, 32]), 12)
    ct = {name: np.full(grid.shape, 40.0) for name in ("reference", "synthetic")}
    reference = np.where(target, 2.0, 0.5)
    both = {"reference": reference, "synthetic": reference * 1.05}
    captions = dose_pictures.draw_case(tmp_path, grid, ct, {"proton": both}, {"target": target}, 2.0)
    assert list(captions) == ["dose_proton", "dvh"]
    picture = imread(tmp_path / "dose_proton.png")
    orange = (picture[..., 0] > 0.9) & (picture[..., 2] < picture[..., 0] - 0.05)
    assert orange[:, picture.shape[1] * 4 // 5 :].any(), "a dose that is too high is orange in the difference"
