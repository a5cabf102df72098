"""Promises of training on views whose truth is known."""

from functools import partial

import pytest
import torch

from medical_gans.methods.painted import PaintedTranslation
from medical_gans.networks import BoneGenerator, ResnetGenerator
from medical_gans.training.player import Player
from medical_gans.training.schedules import FlatThenLinear


def batch(seed=0, tolerance=0):
    generator = torch.Generator().manual_seed(seed)
    bone = torch.zeros(2, 1, 32, 32)
    bone[:, :, 8:20, 10:22] = 1.0
    mr = torch.where(bone > 0, -1.0, 0.2) + 0.05 * torch.randn(bone.shape, generator=generator)
    ct = torch.where(bone > 0, 0.7, 0.0)
    return {"mr": mr, "ct": ct, "weight": 1 + 2 * bone, "tolerance": torch.full((2,), tolerance)}


def step(seed=0, network=None, lr=5e-3, **options):
    torch.manual_seed(seed)
    network = network or BoneGenerator(2, 1, 1, widths=(4, 8), blocks=(1, 1))
    schedule = partial(FlatThenLinear, flat_epochs=1, decay_epochs=3)
    optimizer = partial(torch.optim.AdamW, lr=lr)
    options = {"average": ["mr_to_ct"], "clip_norm": 1.0, "schedule": schedule, **options}
    return PaintedTranslation(Player({"mr_to_ct": network}, optimizer, **options), warm_up=1)


def test_it_learns_bone_and_hands_out_a_running_average():
    training = step(ema_decay=0.9)
    first = training(batch())
    for number in range(80):
        last = training(batch(number))
    assert set(first) == {"l1", "bone_probability", "soft", "bone"}
    assert last["l1"] < 0.4 * first["l1"]
    with torch.no_grad():
        made = training.shipped(batch()["mr"])
    assert made[:, :, 10:18, 12:20].mean() > 0.4
    assert made[:, :, 24:, 24:].abs().mean() < 0.2


def test_a_generator_without_branches_learns_by_l1_alone():
    training = step(network=ResnetGenerator(width=4, blocks=1))
    assert set(training(batch())) == {"l1"}


def test_a_run_continues_bit_for_bit():
    whole, begun = step(), step()
    for number in range(4):
        whole(batch(number))
        if number == 1:
            whole.end_epoch()
    for number in range(2):
        begun(batch(number))
    begun.end_epoch()
    resumed = step(seed=9)
    resumed.load_state_dict(begun.state_dict())
    for number in (2, 3):
        resumed(batch(number))
    for name, tensor in whole.players["generator"].networks.state_dict().items():
        assert torch.equal(tensor, resumed.players["generator"].networks.state_dict()[name]), name
    for name, tensor in whole.shipped.state_dict().items():
        assert torch.equal(tensor, resumed.shipped.state_dict()[name]), name


@pytest.mark.parametrize("has_instructions", [True, False])
def test_mixed_precision_on_a_cpu_is_for_those_with_instructions_and_keeps_float_weights(monkeypatch, has_instructions):
    monkeypatch.setattr("medical_gans.training.player.computes_in_bfloat16", lambda: has_instructions)
    training = step(amp=True, amp_type="bfloat16")
    product = torch.ones(2, 2)
    with training.players["generator"].autocast():
        assert (product @ product).dtype == (torch.bfloat16 if has_instructions else torch.float32)
    terms = training(batch())
    assert all(value == value for value in terms.values())
    assert {p.dtype for p in training.players["generator"].parameters()} == {torch.float32}


def test_the_truth_of_a_pair_is_moved_to_where_the_generator_sees_the_anatomy():
    moved = batch()
    moved["ct"] = moved["ct"].roll((2, -1), (2, 3))
    losses = {}
    for tolerance in (0, 2):
        training = step()
        for number in range(60):
            training(batch(number))
        losses[tolerance] = training({**moved, "ct": moved["ct"].clone(), "tolerance": torch.full((2,), tolerance)})
    assert losses[2]["l1"] < 0.7 * losses[0]["l1"]


def test_the_batch_is_left_as_it_was():
    given = batch(tolerance=2)
    given["ct"] = given["ct"].roll(2, 2)
    before = given["ct"].clone()
    step()(given)
    assert torch.equal(given["ct"], before)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_clipping_can_be_left_out(clip):
    assert step(clip_norm=clip)(batch())["l1"] > 0


def test_the_learning_rate_warms_up_and_is_the_schedules_again():
    torch.manual_seed(0)
    seen = []
    training = step(lr=1e-2)
    training.warm_up = 4
    player = training.players["generator"]
    descend = player.descend
    player.descend = lambda loss: (seen.append(player.optimizer.param_groups[0]["lr"]), descend(loss))
    for number in range(5):
        training(batch(number))
    assert seen == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    assert player.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)
