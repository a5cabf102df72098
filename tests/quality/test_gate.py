"""The gate lights up for what it should see, says it in a table, and never says that anything is right."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from medical_gans.checks.quality import QualityGate, QualityLimits, RealismCritic, load_gate, measure_limits
from medical_gans.checks.quality.measures import VAULT_LIMITS
from medical_gans.checks.quality.realism import coloured
from medical_gans.errors import InputError
from medical_gans.inference.synthesis import CaseEvaluator, SliceSynthesis
from medical_gans.io import Volume, find_cases, save_volume
from medical_gans.networks.patch_discriminator import patch_discriminator
from medical_gans.phantom import write_dataset
from medical_gans.report.views import CaseVolumes
from medical_gans.weights import WeightsCard, save_weights

VAULT = ("skull", "bone in the brain", "brain")


class LocalMean(nn.Module):
    """Scores a patch of 8 x 8 by its mean unit HU: soft tissue about 0."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(images, 8)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("quality") / "limbs", "limb", 5, spacing=(4.0, 4.0, 12.0))


@pytest.fixture(scope="module")
def gate(dataset) -> QualityGate:
    critic = RealismCritic(LocalMean(), (None, None))
    cases = find_cases(dataset, ["mr", "ct"])
    return QualityGate(measure_limits(cases[:4], "thigh", critic), critic)


@pytest.fixture
def patient(dataset) -> tuple[Volume, np.ndarray]:
    from medical_gans.io import read_volume

    case = find_cases(dataset, ["mr", "ct"])[4]
    return read_volume(case.mr), read_volume(case.ct).array.copy()


def lights(verdict) -> dict[str, str]:
    return {check.name: check.light for check in verdict.checks}


def test_a_patient_like_those_of_training_has_no_red_tissue(gate, patient):
    found = lights(gate(*patient))
    assert "red" not in {light for name, light in found.items() if ":" in name}
    assert found["uncertainty"] == "not judged"


def test_hounsfield_that_are_off_are_not_green(gate, patient):
    mr, ct = patient
    assert lights(gate(mr, np.where(ct > -500, ct + 80, ct)))["soft: median HU"] in ("amber", "red")


def test_invented_bone_shows_as_bone_and_as_unreal_patches(gate, patient):
    mr, ct = patient
    muscle = (ct > 0) & (ct < 120)
    invented = np.where(muscle, 1200, ct)
    before, after = lights(gate(mr, ct)), lights(gate(mr, invented))
    assert after["bone: share of the body"] == "red" != before["bone: share of the body"]


def test_holes_are_found_by_the_critic_and_the_slice_is_named(gate, patient):
    mr, ct = patient
    verdict = gate(mr, ct)
    holed = ct.copy()
    k = ct.shape[2] // 2
    holed[:, :, k] = np.where(ct[:, :, k] > -500, -900, ct[:, :, k])
    worse = gate(mr, holed)
    assert worse.realism.unusual(gate.limits.patch_score) > verdict.realism.unusual(gate.limits.patch_score)
    assert worse.realism.worst_slice(gate.limits.patch_score) == k


def test_a_cut_body_is_told_with_its_sides(gate, patient):
    mr, ct = patient
    body = np.argwhere(ct > -300)
    x = int(np.median(body[:, 0]))
    cut = Volume(mr.array[x:], mr.affine, mr.source)
    check = next(check for check in gate(cut, ct[x:]).checks if check.name == "field of view")
    side = "left" if mr.affine[0, 0] > 0 else "right"
    assert check.light == "red" and side in check.found


def test_a_body_cut_as_in_training_is_amber_and_one_cut_more_is_red(gate, patient):
    mr, ct = patient
    body = np.argwhere(ct > -300)
    x = int(np.median(body[:, 0]))
    cropped = QualityGate(replace(gate.limits, cut_cm=[0.0, 12.0, 14.0]), gate.critic)

    def light(judge, first):
        found = judge(Volume(mr.array[first:], mr.affine, mr.source), ct[first:]).checks[0]
        return found.light, found.limit

    assert light(cropped, 0)[0] == "green"
    assert light(cropped, x)[0] == "amber" and "14.0 cm per slice" in light(cropped, x)[1]
    narrow = QualityGate(replace(gate.limits, cut_cm=[0.0, 1.5]), gate.critic)
    assert light(narrow, x)[0] == "red"
    old = QualityGate(replace(gate.limits, cut_cm=[]), gate.critic)
    assert light(old, x) == ("red", "amber 2, red 20 cm2")


def test_the_realism_map_colours_what_the_critic_dislikes_where_it_lies(gate, patient, tmp_path):
    mr, ct = patient
    right = ct.copy()
    middle = ct.shape[0] // 2
    right[middle:] = np.where(ct[middle:] > -500, -900, ct[middle:])
    verdict = gate(mr, right)
    volumes = CaseVolumes.from_stored(mr.array, right, mr.affine)
    number = len(verdict.realism.slices) // 2
    index = int(verdict.realism.slices[number])
    limit = gate.limits.patch_score
    image = coloured(volumes.synthetic_ct, index, verdict.realism.scores[number], limit)
    assert image.shape == (*volumes.synthetic_ct.shape[1::-1], 3)
    reddish = image[..., 0] > image[..., 2] + 0.2
    columns = np.flatnonzero(reddish.any(axis=0))
    assert columns.size and columns.max() <= image.shape[1] // 2 + 8, "the patient's right is on the left"
    pictures = verdict.pictures()
    assert list(pictures) == ["realism"]
    draw, caption = pictures["realism"]
    assert draw(volumes, tmp_path / "realism.png").stat().st_size > 5000 and "unlike real CT" in caption
    assert QualityGate(gate.limits)(mr, ct).pictures() == {}


def test_slices_of_another_contrast_are_told(gate, patient):
    mr, ct = patient
    inverted = Volume(np.where(mr.array > 60, 1100 - mr.array, mr.array), mr.affine, mr.source)
    assert lights(gate(inverted, ct))["slices of the MR"] in ("amber", "red")


def test_a_spread_of_estimates_is_judged(gate, patient):
    mr, ct = patient
    for spread, light in ((10, "green"), (60, "amber"), (100, "red")):
        assert lights(gate(mr, ct, np.full(ct.shape, spread)))["uncertainty"] == light


def test_a_spread_is_compared_with_training_where_as_many_estimates_were_made(dataset, patient):
    spreads = [80.0, 95.0, 100.0, 105.0, 120.0]
    measured = measure_limits(find_cases(dataset, ["mr", "ct"])[:4], "head", spreads={3: spreads})
    error = np.std(spreads, ddof=1) * np.sqrt(1 + 1 / 5)
    amber, red = (np.mean(spreads) + stats.t.ppf(1 - beyond, 4) * error for beyond in (0.05, 0.002))
    mr, ct = patient
    for spread, light in ((amber - 1, "green"), (amber + 1, "amber"), (red - 1, "amber"), (red + 1, "red")):
        deviation = np.full(ct.shape, spread)
        assert lights(QualityGate(measured)(mr, ct, deviation, estimates=3))["uncertainty"] == light
        assert lights(QualityGate(measured)(mr, ct, deviation, estimates=6))["uncertainty"] == "red"


def test_limits_of_uncertainty_are_kept(dataset, tmp_path):
    cases = find_cases(dataset, ["mr", "ct"])[:4]
    measured = measure_limits(cases, "head", spreads={3: [80.0, 100.0, 105.0]})
    assert QualityLimits.read(measured.save(tmp_path / "limits.json")) == measured


def test_axes_and_directions_of_the_file_do_not_matter(gate, patient):
    mr, ct = patient
    affine = mr.affine @ np.array([[0, -1, 0, ct.shape[0] - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    turned = tuple(np.swapaxes(array[::-1], 0, 1) for array in (mr.array, ct))
    found = gate(Volume(turned[0], affine, mr.source), turned[1])
    assert [check.row() for check in found.checks] == [check.row() for check in gate(mr, ct).checks]


def test_without_limits_and_critic_what_can_be_judged_is(patient):
    found = lights(QualityGate()(*patient))
    assert found["realism"] == found["slices of the MR"] == found["soft: median HU"] == "not judged"
    assert found["field of view"] != "not judged"


def test_the_gate_lies_beside_the_weights(tmp_path, gate):
    critic = patch_discriminator(width=4, layers=3, norm="none")
    (tmp_path / "critics").mkdir()
    save_weights(tmp_path / "critics" / "mr_to_ct_x.pt", critic)
    network_def = {"_target_": "medical_gans.networks.patch_discriminator", "width": 4, "layers": 3, "norm": "none"}
    WeightsCard([1.0, 1.0, None], network_def=network_def).save(tmp_path / "critics" / "mr_to_ct_x.pt")
    gate.limits.save(tmp_path / "mr_to_ct_x_quality.json")
    loaded = load_gate([tmp_path / "mr_to_ct_x.pt", tmp_path / "other.pt"])
    assert loaded.limits == gate.limits and loaded.critic.spacing == (1.0, 1.0)
    nothing = load_gate(str(tmp_path / "mine.pt"))
    assert nothing.limits is None and nothing.critic is None
    (tmp_path / "mr_to_ct_x_quality.json").write_text("{}")
    with pytest.raises(InputError, match="mr_to_ct_x_quality"):
        load_gate(tmp_path / "mr_to_ct_x.pt")


def test_too_few_patients_give_no_limits(dataset):
    with pytest.raises(InputError, match="at least 3"):
        measure_limits(find_cases(dataset, ["mr", "ct"])[:2], "thigh")


def test_the_table_is_on_the_page_of_an_inference_and_never_says_safe(tmp_path, patient, gate):
    mr, _ = patient
    (tmp_path / "data" / "anna").mkdir(parents=True)
    save_volume(tmp_path / "data" / "anna" / "mr.nii.gz", mr.array, mr.affine)
    weights = tmp_path / "model.pt"
    save_weights(weights, nn.Linear(1, 1))
    out = tmp_path / "out"
    synthesis = SliceSynthesis([nn.Tanh()])
    CaseEvaluator("cpu", find_cases(tmp_path / "data"), synthesis, [weights], out, quality=gate).run()
    page = (out / "report.html").read_text()
    assert "unlike real CT to the critic" in page and (out / "report" / "anna" / "realism.png").is_file()
    assert "soft: median HU" in page and 'class="failed">red' in page and "Research use only" in page
    assert not re.search(r"\b(safe|approved|certified)\b", page, re.IGNORECASE)
    record = json.loads((out / "report" / "anna" / "case.json").read_text())
    assert record["seconds"]["checks"] > 0
    assert any(sentence.startswith("Check of") for sentence in record["warnings"])


def test_a_head_is_red_where_bone_lies_in_the_brain_or_the_skull_is_open():
    axes = [np.arange(100) * 2.0 - 100.0] * 3
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    ct = np.where(radius < 60, 30.0, np.where(radius < 68, 1150.0, np.where(radius < 75, 30.0, -1024.0)))
    brain = radius < 60
    ct[brain] += np.random.default_rng(0).normal(0, 8, brain.sum())
    mr = Volume(np.where(radius < 75, 400.0, 0.0), np.diag([2.0, 2.0, 2.0, 1.0]), "head.nii.gz")
    limits = QualityLimits("head", {}, [0.0] * 9, np.eye(9).tolist(), [99.0, 99.0], [99.0], vault=VAULT_LIMITS)
    gate = QualityGate(limits)

    def vault(hounsfield):
        checks = gate(mr, hounsfield).checks
        return {check.name: check.light for check in checks if check.name.split(":")[0] in VAULT}

    assert vault(ct) == dict.fromkeys(vault(ct), "green")
    assert len(vault(ct)) == len(VAULT_LIMITS)
    assert vault(np.where(radius < 15, 600, ct))["bone in the brain"] == "red"
    assert (
        vault(np.where((radius > 55) & (radius < 75) & (np.indices(ct.shape)[2] > 75), 30, ct))["skull: closed"]
        == "red"
    )
    assert vault(np.where(brain, 30, ct))["brain: spread of HU"] == "red", "flat"
    verdict = gate(mr, np.where(radius < 15, 600, ct))
    assert verdict.light == "red" and any("bone in the brain is red" in sentence for sentence in verdict.warnings())
    assert gate(mr, ct).light == "not judged", "no critic: realism could not be judged"
    low = Volume(mr.array[:, :, :80], mr.affine, mr.source)
    cut = [check.light for check in gate(low, ct[:, :, :80]).checks if check.name.split(":")[0] in VAULT]
    assert cut == ["not judged"] * len(VAULT_LIMITS)
