"""Skulls in an evaluation: with and without a true CT, whatever the axes of the file."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from medical_gans.errors import InputError
from medical_gans.evaluation import StoredSyntheticCt, TranslationEvaluation, translation
from medical_gans.evaluation.skulls import skull_figures
from medical_gans.io import find_cases, read_volume, save_volume

SPACING = 2.0
FLIPPED = np.diag([-SPACING, SPACING, SPACING, 1.0])


def head(inner: float = 60.0, outer: float = 68.0) -> np.ndarray:
    """A ball of 75 mm, so that the rays start at its centre, with a skull between two radii."""
    axes = np.meshgrid(*[np.arange(90) * SPACING - 90.0] * 3, indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    hounsfield = np.where((radius > inner) & (radius <= outer), 1100, 35)
    return np.where(radius > 75.0, -1024, hounsfield).astype(np.int16)


@pytest.fixture
def patient(tmp_path):
    """A patient whose synthetic skull is 4 mm thicker than the true one, and one without a CT."""
    for name in ("known", "alone"):
        mr = np.where(head() > -500, 500, 0).astype(np.int16)
        for kind in ("data", "made"):
            (tmp_path / kind / name).mkdir(parents=True)
        save_volume(tmp_path / "data" / name / "mr.nii.gz", mr, FLIPPED)
        save_volume(tmp_path / "made" / name / "synthetic_ct.nii.gz", head(60.0, 72.0), FLIPPED)
    save_volume(tmp_path / "data" / "known" / "ct.nii.gz", head(), FLIPPED)
    return tmp_path


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(translation, "write_case_report", lambda *arguments, **named: None)


def evaluation(folder, skull):
    cases = find_cases(folder / "data", required=("mr",))
    source = StoredSyntheticCt(folder / "made")
    return TranslationEvaluation(cases, source, folder / "out", skull=skull, dataset_dir=folder / "data")


def test_a_skull_is_measured_against_the_true_one_and_alone(patient, capsys):
    figures = evaluation(patient, skull=True).run()
    made, true = figures["known"]["synthetic_ct"], figures["known"]["true_ct"]
    assert made["vault_thickness_mm"] == pytest.approx(12.0, abs=1.0)
    assert true["vault_thickness_mm"] == pytest.approx(8.0, abs=1.0)
    assert made["vault_thickness_error_mm"] == pytest.approx(4.0, abs=0.7)
    assert "vault_thickness_error_mm" not in true and made["mae"] > 0
    assert figures["alone"]["synthetic_ct"] == {n: made[n] for n in figures["alone"]["synthetic_ct"]}
    shown = capsys.readouterr().out
    assert "Mean over 1 patient, inside the mask" in shown and "Skulls, mean over 2 patients" in shown
    table = (patient / "out" / "metrics.csv").read_text()
    assert table.startswith("case,method,mae,") and "vault_thickness_error_mm" in table.splitlines()[0]
    assert "known,true_ct,,,,,,,,,,,," in table


def test_a_head_without_a_ct_needs_its_skull_to_be_judged(patient):
    with pytest.raises(InputError, match="has no CT"):
        evaluation(patient, skull=False)._judge(find_cases(patient / "data", required=("mr",))[0], None)


def test_axes_of_the_file_change_no_figure(patient):
    mr = read_volume(patient / "data" / "known" / "mr.nii.gz")
    turned = nibabel.as_closest_canonical(nibabel.load(patient / "data" / "known" / "ct.nii.gz"))
    save_volume(patient / "turned.nii.gz", np.asarray(turned.dataobj), turned.affine)
    straight = read_volume(patient / "turned.nii.gz")
    assert skull_figures(head(), mr) == pytest.approx(skull_figures(straight.array, straight), abs=0.02)
