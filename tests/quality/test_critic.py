"""A critic learns from real CT and damage whose place is known, and tells them apart on a patient it never saw."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from medical_gans.checks.quality import CtSlices, QualityGate, RealismCritic, train_critic
from medical_gans.checks.quality.critic_training import _targets
from medical_gans.checks.quality.damage import KINDS, damaged
from medical_gans.checks.quality.limits import Check
from medical_gans.cli.config_files import models_dir
from medical_gans.errors import InputError
from medical_gans.io import Volume, find_cases
from medical_gans.phantom import write_dataset


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray]:
    """A disc of soft tissue with a ring of bone, 96 x 80, in HU, and its body."""
    distance = np.hypot(*np.meshgrid(np.arange(96) - 48, np.arange(80) - 40, indexing="ij"))
    body = distance < 36
    hounsfield = np.where(body, 30.0, -1024.0) + np.where((distance > 26) & (distance < 32), 900.0, 0.0)
    return hounsfield.astype(np.float32), body


@pytest.mark.parametrize("kind", KINDS)
def test_damage_lies_in_the_body_and_its_place_is_told(head, kind):
    hounsfield, body = head
    changed = []
    for seed in range(12):
        made, where = damaged(hounsfield, body, kind, np.random.default_rng(seed))
        assert np.array_equal(made[~body], hounsfield[~body])
        assert np.array_equal(where, np.abs(made - hounsfield) > 10)
        assert made.min() >= -1024
        changed.append(where.sum())
    assert np.median(changed) > 0


def test_a_third_of_the_damage_is_in_a_part(head):
    hounsfield, body = head
    shares = [
        damaged(hounsfield, body, "HU shifted", np.random.default_rng(seed))[1].sum() / body.sum()
        for seed in range(300)
    ]
    assert 0.25 < np.mean(np.array(shares) < 0.99) < 0.42


def test_blocks_are_the_mean_of_their_voxels(head):
    hounsfield, body = head
    whole = np.ones_like(body)
    made = KINDS["blocks"](hounsfield, whole, np.random.default_rng(0))

    def blocks(image: np.ndarray, edge: int) -> np.ndarray:
        rows, columns = 96 // edge, 80 // edge
        return image[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)

    edge = max(e for e in range(1, 7) if np.ptp(blocks(made, e), axis=(1, 3)).max() < 1e-3)
    assert edge >= 3
    np.testing.assert_allclose(
        blocks(made, edge)[:, 0, :, 0], blocks(hounsfield, edge).mean(axis=(1, 3)), rtol=1e-4, atol=0.01
    )


def test_bone_is_lost_thinned_or_opened(head):
    hounsfield, body = head
    bone, rng = hounsfield > 200, np.random.default_rng(1)
    lost = [(KINDS["bone as soft tissue"](hounsfield, body, rng) > 600).sum() for _ in range(8)]
    assert max(lost) == 0
    thin = KINDS["thin bone"](hounsfield, body, rng) > 200
    assert not (thin & ~bone).any() and thin.sum() <= ndimage.binary_erosion(bone).sum()
    opened = KINDS["open bone"](hounsfield, body, rng) > 200
    assert 0 < (bone & ~opened).sum() < bone.sum() / 2


def test_a_patch_is_damaged_where_damage_reaches_its_middle_and_does_not_count_nearby():
    where = torch.zeros(1, 160, 160, dtype=torch.bool)
    where[0, 28, 28] = True
    target, weight = _targets(where, torch.ones(1, 160, 160, dtype=torch.bool), torch.zeros(1, 1, 18, 18))
    assert target[0, 0, 2, 2] == 0 and weight[0, 0, 2, 2] > 0
    assert weight[0, 0, 5, 2] == 0  # 24 voxels away
    assert target[0, 0, 10, 10] == 1 and weight[0, 0, 10, 10] > 0
    assert weight[target == 0].sum() == pytest.approx(1) == weight[target == 1].sum()
    assert _targets(where, torch.zeros(1, 160, 160, dtype=torch.bool), torch.zeros(1, 1, 18, 18))[1].sum() == 0


def test_a_critic_tells_damage_on_a_patient_that_it_never_saw(tmp_path):
    cases = find_cases(write_dataset(tmp_path / "limbs", "limb", 4, spacing=(2.0, 2.0, 12.0)), ["mr", "ct"])
    kinds = ("noise", "holes of air")
    critic = train_critic(CtSlices(cases[:3], 2.0), 2.0, steps=400, views=6, size=64, width=8, kinds=kinds)
    unseen, rng = CtSlices(cases[3:], 2.0), np.random.default_rng(0)

    def score(kind: str | None) -> float:
        hounsfield, body, _ = unseen.view(rng, 96, kind)
        scores = critic(hounsfield[..., None], body[..., None], (2.0, 2.0, 12.0)).scores
        return float(np.nanmean(scores))

    real = [score(None) for _ in range(16)]
    for kind in kinds:
        worse = [score(kind) for _ in range(16)]
        assert np.mean(np.less.outer(worse, real)) > 0.75, kind


def test_a_critic_is_the_same_for_the_same_seed(tmp_path):
    cases = find_cases(write_dataset(tmp_path / "limbs", "limb", 1, spacing=(4.0, 4.0, 12.0)), ["mr", "ct"])
    made = [
        train_critic(CtSlices(cases, 4.0), 4.0, steps=2, views=2, size=64, width=4).network.state_dict()
        for _ in range(2)
    ]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_a_critic_comes_back_as_it_was_saved(tmp_path):
    cases = find_cases(write_dataset(tmp_path / "limbs", "limb", 1, spacing=(4.0, 4.0, 12.0)), ["mr", "ct"])
    critic = train_critic(CtSlices(cases, 4.0), 4.0, steps=1, views=2, size=64, width=4)
    again = RealismCritic.load(critic.save(tmp_path / "critics" / "mine.pt"))
    assert again.spacing == critic.spacing == (4.0, 4.0)
    ct, body = np.zeros((64, 64, 1), np.float32), np.ones((64, 64, 1), bool)
    before, after = (one(ct, body, (4.0, 4.0, 12.0)).scores for one in (critic, again))
    assert np.isfinite(before).any()
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_without_a_ct_there_is_nothing_to_learn():
    with pytest.raises(InputError, match="no CT to learn from"):
        CtSlices([], 1.0)


def test_slices_of_a_fine_volume_are_scored_some_three_mm_apart():
    class Ones(nn.Module):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [torch.ones(1, 1, 2, 2)]

    critic, body = RealismCritic(Ones(), (None, None)), np.ones((8, 8, 10), bool)
    ct = np.zeros(body.shape, np.float32)
    assert critic(ct, body, (1.0, 1.0, 1.0)).slices.tolist() == [0, 3, 6, 9]
    assert critic(ct, body, (1.0, 1.0, 3.3)).slices.tolist() == list(range(10))


def test_a_critic_does_not_judge_voxels_coarser_than_it_knows():
    critic, size = RealismCritic(nn.Identity(), (1.0, 1.0)), (64, 64, 6)
    assert not critic.unfit(size, (1.5, 1.0, 5.0))
    assert not RealismCritic(nn.Identity(), (None, None)).unfit(size, (9, 9, 9))
    assert critic.unfit(size, (1.0, 2.0, 1.0)) == "voxels of 2.0 mm in the slice; the critic knows CT of 1.0 mm"
    assert "voxels of 2.0 mm" in realism_of(size, 2.0).found


@pytest.mark.parametrize("side", [1, 8, 20, 31, 32, 33, 40])
def test_an_image_that_is_too_small_for_the_critic_is_not_judged_and_the_others_are(side):
    found = realism_of((side, 48, 6), 1.0)
    assert (found.light == "not judged") == (side < 32)
    assert side >= 32 or f"slices of {side} mm are smaller" in found.found


def realism_of(shape: tuple[int, ...], edge: float) -> Check:
    """What the gate of the shipped head weights says of the realism of soft tissue."""
    mr = Volume(np.full(shape, 400, np.int16), np.diag([edge, edge, edge, 1.0]), "mr.nii.gz")
    gate = QualityGate.beside(models_dir() / "mr_to_ct_head.pt")
    checks = gate(mr, np.full(shape, 40, np.int16)).checks
    return {check.name: check for check in checks}["realism"]
