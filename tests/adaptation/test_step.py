"""The segmenter segments the source and hides the domain; the discriminator looks for it."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from medical_gans.errors import SettingError
from medical_gans.methods.adaptation import Adaptation, ConfidentLabels, Ramp
from medical_gans.networks import DomainDiscriminator, FeatureTaps, MultiScaleSegmenter, feature_channels
from medical_gans.training.player import Player


def loss(logits, label):
    return cross_entropy(logits, label[:, 0].long())


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 2, 1, 9, 9, 9, generator=draw)
    return {"source": source, "target": target + 1, "label": (source > 0).float()}


LAYERS = ("normal.1", "low.1", "joint.0")


def step_of(
    segmenter, judge, layers, *, ramp=(10, 35, 0.05), judging_rate=1e-3, ema_decay=0.0, clip_norm=5.0, **options
):
    """An adaptation of these two networks; no judge: source only."""
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    player = Player({"segmenter": segmenter}, adam, average=["segmenter"], ema_decay=ema_decay, clip_norm=clip_norm)
    judging = functools.partial(torch.optim.Adam, lr=judging_rate)
    against = Player({"discriminator": judge}, judging) if judge is not None else None
    losses = {"segmentation": loss, "domain": nn.BCEWithLogitsLoss(), "self_training": ConfidentLabels(0.95)}
    return Adaptation(player, against, losses, layers=layers, alpha=Ramp(*ramp), **options)


def tiny_step(ramp=(0, 1, 0.5), judged=True, **options):
    torch.manual_seed(0)
    segmenter = MultiScaleSegmenter(1, 2, channels=(3, 4), joint_channels=(6,), residual=(2,), dropout=0.0)
    channels = feature_channels(segmenter, LAYERS, 1, (9, 9, 9))
    judge = DomainDiscriminator(channels, width=4, layers=2, crop=0)
    return step_of(segmenter, judge if judged else None, LAYERS, ramp=ramp, **options)


def networks(step):
    return step.segmenter["segmenter"], step.discriminator["discriminator"]


def test_alpha_is_zero_then_rises_then_stays():
    alphas = [Ramp(10, 35, 0.05)(epoch) for epoch in (0, 9.9, 10, 22.5, 35, 100)]
    assert alphas == pytest.approx([0, 0, 0, 0.025, 0.05, 0.05])


def test_without_alpha_the_segmenter_moves_as_if_there_were_no_target(batch):
    alone, judged = tiny_step(judged=False), tiny_step(ramp=(5, 10, 0.5))
    assert "domain" not in alone(batch)
    judged(batch)
    for p, q in zip(alone.segmenter.parameters(), judged.segmenter.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_the_segmenters_gradient_is_segmentation_minus_alpha_times_domain(batch):
    step = tiny_step(clip_norm=0.0)
    step.segmenter.steps = 1  # alpha at its highest
    for player in step.players.values():
        player.optimizer.step = lambda *_: None
    twin, judge = (copy.deepcopy(network) for network in networks(step))
    step(batch)

    taps = FeatureTaps(twin, LAYERS)
    segmentation = loss(twin(batch["source"]), batch["label"])
    of_source = taps()
    twin(batch["target"])
    logits = judge([torch.cat(both) for both in zip(of_source, taps(), strict=True)])
    truth = torch.zeros_like(logits)
    truth[:2] = 1
    domain = binary_cross_entropy_with_logits(logits, truth)
    expected = torch.autograd.grad(segmentation - 0.5 * domain, list(twin.parameters()), allow_unused=True)
    for parameter, gradient in zip(step.segmenter.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_the_domains_are_compared_by_patches_that_were_drawn_alike(batch):
    """A source patch chosen for its lesion teaches the segmenter, not the discriminator."""

    def without_norm():
        torch.manual_seed(0)
        segmenter = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 2, 1))
        return step_of(segmenter, DomainDiscriminator([3], width=4, layers=1, crop=0), ["0"])

    step, other = without_norm(), without_norm()
    chosen = {**batch, "anywhere": torch.tensor([False, True])}
    losses = step(chosen)
    changed = {**chosen, "source": chosen["source"].clone(), "target": chosen["target"].clone()}
    changed["source"][0] += 3.0
    changed["target"][1] += 3.0
    again = other(changed)
    assert again["domain"] == pytest.approx(losses["domain"], rel=1e-3)
    assert again["segmentation"] != pytest.approx(losses["segmentation"], rel=1e-3)
    with pytest.raises(SettingError, match="no source patch drawn anywhere"):
        step({**batch, "anywhere": torch.tensor([False, False])})


def test_the_discriminator_learns_to_tell_the_domains(batch):
    step = tiny_step(ramp=(1e6, 2e6, 0.5), judging_rate=0.02)
    first = step(batch)
    for _ in range(60):
        last = step(batch)
    assert last["domain"] < 0.2 < first["domain"]
    assert last["domain_accuracy"] > 0.95


def test_the_pupil_learns_from_its_own_view_what_the_teacher_says_of_the_plain_one(batch):
    asked = []

    class Remembered(ConfidentLabels):
        def __call__(self, logits, taught):
            asked.append((logits.detach().clone(), taught.clone()))
            return super().__call__(logits, taught)

    step = tiny_step(ramp=(0, 0, 0.0), self_training_weight=1.0, ema_decay=0.5)
    step.losses["self_training"] = Remembered(0.0)
    twin, teacher = copy.deepcopy(step.segmenter["segmenter"]), copy.deepcopy(step.shipped)
    pupil = batch["target"] * 0.5
    step({**batch, "pupil": pupil})
    ((learnt, taught),) = asked
    torch.testing.assert_close(taught, teacher(batch["target"]).detach())
    torch.testing.assert_close(learnt, twin.train()(pupil).detach())


def test_confident_predictions_of_the_average_teach_only_where_they_are_confident():
    taught = torch.tensor([[[4.0, 0.1]], [[0.0, 0.0]]]).permute(1, 0, 2)  # one sure voxel, one not
    logits = torch.tensor([[[-1.0, 2.0]], [[1.0, 0.0]]]).permute(1, 0, 2)
    each = cross_entropy(logits, torch.tensor([[0, 0]]), reduction="none")
    assert ConfidentLabels(0.95)(logits, taught).item() == pytest.approx(each[0, 0].item() / 2)


def test_the_average_teaches_once_alpha_is_at_its_highest(batch):
    step = tiny_step(ramp=(0, 2, 0.5), self_training_weight=1.0)
    assert ["self_training" in step(batch) for _ in range(4)] == [False, False, True, True]


def test_every_patch_goes_through_the_inferer(batch):
    seen = []
    step = tiny_step(ramp=(0, 0, 0.5), self_training_weight=1.0, inferer=lambda x, net: (seen.append(net), net(x))[1])
    step(batch)
    assert seen == [step.segmenter["segmenter"]] * 2 + [step.shipped]


def test_the_running_average_is_shipped_and_does_not_disturb_what_the_adversary_sees(batch):
    step = tiny_step(ema_decay=0.5, self_training_weight=1.0, ramp=(0, 0, 0.5))
    follows = [p.detach().clone() for p in step.segmenter.parameters()]
    for number in range(3):
        step(batch)
        now = [p.detach() for p in step.segmenter.parameters()]
        follows = [new.clone() if number == 0 else (old + new) / 2 for old, new in zip(follows, now, strict=True)]
    for expected, shipped in zip(follows, step.shipped.parameters(), strict=True):
        torch.testing.assert_close(shipped.detach(), expected)
    segmenter, _ = networks(step)
    segmenter(batch["target"])
    seen = [feature.clone() for feature in step.taps()]
    segmenter(batch["target"])
    step.shipped(batch["source"] + 5.0)
    assert all(torch.equal(one, two) for one, two in zip(seen, step.taps(), strict=True))


def test_more_steps_of_the_discriminator_do_not_move_the_segmenter_more(batch):
    once = tiny_step(ramp=(1e6, 2e6, 0.5))
    thrice = tiny_step(ramp=(1e6, 2e6, 0.5), discriminator_steps=3)
    thrice.load_state_dict(copy.deepcopy(once.state_dict()))
    judge = [p.detach().clone() for p in once.discriminator.parameters()]
    once(batch), thrice(batch)
    for one, three in zip(once.segmenter.parameters(), thrice.segmenter.parameters(), strict=True):
        assert torch.equal(one, three)
    moved = [
        sum((p - q).abs().sum() for p, q in zip(s.discriminator.parameters(), judge, strict=True))
        for s in (once, thrice)
    ]
    assert moved[1] > 1.5 * moved[0]


def test_a_restored_step_goes_on_identically(batch):
    step, other = tiny_step(), tiny_step()
    step(batch)
    other.load_state_dict(copy.deepcopy(step.state_dict()))
    assert other(batch) == step(batch)


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(
        SettingError, match=r"no layer 'normal\.9' \(did you mean 'normal\.\d'\?\)\. It has normal, normal\.0"
    ):
        FeatureTaps(MultiScaleSegmenter(1, 2), ["normal.9"])
    with pytest.raises(SettingError, match="adversarial_layers is empty"):
        FeatureTaps(nn.Conv3d(1, 1, 1), [])
