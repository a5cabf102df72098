"""One update of generator and discriminator, against the same thing written out."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.losses import adversarial_objective, discriminator_penalty
from medical_gans.methods.gan import Gan
from medical_gans.networks import nodule_discriminator, nodule_generator
from medical_gans.training.player import Player
from medical_gans.training.schedules import FlatThenLinear


class Line(nn.Module):
    """x = w z + b: the smallest generator."""

    latent_size, num_classes = 3, 0

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 4)

    def forward(self, latent, label=None):
        return self.line(latent).reshape(-1, 1, 2, 2)


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, image, label=None):
        return self.layers(image)


@pytest.fixture
def batch():
    return {"image": torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(3))}


def gan(
    generator,
    discriminator,
    *,
    objective="hinge",
    penalty="none",
    penalty_weight=1.0,
    consensus_weight=0.0,
    learning_rate=2e-4,
    betas=(0.0, 0.9),
    ema_decay=0.999,
    num_classes=0,
    **options,
):
    optimizer = partial(torch.optim.Adam, lr=learning_rate, betas=betas)
    return Gan(
        Player({"generator": generator}, optimizer, average=["generator"], ema_decay=ema_decay),
        Player({"discriminator": discriminator}, optimizer),
        {"adversarial": adversarial_objective(objective), "penalty": discriminator_penalty(penalty)},
        weights={"penalty": penalty_weight, "consensus": consensus_weight},
        latent_size=generator.latent_size,
        num_classes=num_classes,
        **options,
    )


def networks(step):
    return [step.players[name][name] for name in ("generator", "discriminator")]


def small_step(**options):
    torch.manual_seed(0)
    return gan(Line(), Judge(), **options)


def tiny_step(**options):
    torch.manual_seed(0)
    generator = nodule_generator(size=8, latent_size=4, width=2)
    return gan(generator, nodule_discriminator(size=8, width=2), **{"num_classes": 3, **options})


def tiny_batch():
    draw = torch.Generator().manual_seed(1)
    return {
        "image": torch.rand(6, 1, 8, 8, generator=draw) * 2 - 1,
        "label": torch.randint(0, 3, (6,), generator=draw),
    }


def test_one_update_equals_goodfellows_game_written_out(batch):
    step = small_step(objective="goodfellow", learning_rate=0.01, betas=(0.5, 0.999))
    generator, judge = copy.deepcopy(networks(step))
    torch.manual_seed(7)
    losses = step(batch)

    torch.manual_seed(7)
    fake = generator(torch.randn(5, 3))
    of_judge = torch.optim.Adam(judge.parameters(), 0.01, betas=(0.5, 0.999))
    loss = -torch.log(torch.sigmoid(judge(batch["image"]))).mean()
    loss = loss - torch.log(1 - torch.sigmoid(judge(fake.detach()))).mean()
    loss.backward()
    of_judge.step()
    of_generator = torch.optim.Adam(generator.parameters(), 0.01, betas=(0.5, 0.999))
    fooling = -torch.log(torch.sigmoid(judge(fake))).mean()
    fooling.backward()
    of_generator.step()

    assert losses["discriminator"] == pytest.approx(loss.item(), rel=1e-5)
    assert losses["generator"] == pytest.approx(fooling.item(), rel=1e-5)
    for mine, theirs in zip(networks(step), (generator, judge), strict=True):
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q)


def test_consensus_step_equals_the_gradients_written_out(batch):
    step = small_step(objective="goodfellow", consensus_weight=0.7)
    generator, judge = copy.deepcopy(networks(step))
    for player in step.players.values():  # to see gradients
        player.optimizer.step = lambda: None
    torch.manual_seed(7)
    step(batch)

    torch.manual_seed(7)
    fake = generator(torch.randn(5, 3))
    judging = nn.functional.softplus(-judge(batch["image"])).mean() + nn.functional.softplus(judge(fake)).mean()
    fooling = nn.functional.softplus(-judge(fake)).mean()
    ours, theirs = list(generator.parameters()), list(judge.parameters())
    field = torch.autograd.grad(fooling, ours, create_graph=True) + torch.autograd.grad(
        judging, theirs, create_graph=True
    )
    energy = 0.7 * sum(part.square().sum() for part in field) / 2
    for network, loss, parameters in zip(networks(step), (fooling, judging), (ours, theirs), strict=True):
        expected = torch.autograd.grad(loss + energy, parameters, retain_graph=True)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_the_generator_waits_for_the_critic(batch):
    step = small_step(objective="wasserstein", penalty="wgan_gp", penalty_weight=10.0, critic_steps=3)
    generator = networks(step)[0]
    start = copy.deepcopy(generator.state_dict())
    step(batch), step(batch)
    assert all(torch.equal(start[name], value) for name, value in generator.state_dict().items())
    step(batch)
    assert not torch.equal(start["line.weight"], generator.state_dict()["line.weight"])


@pytest.mark.parametrize("penalty", ["none", "r1", "r1_r2", "wgan_gp"])
@pytest.mark.parametrize("objective", ["hinge", "relativistic", "wasserstein", "f_pearson"])
def test_every_objective_and_penalty_moves_both_players(objective, penalty):
    step = tiny_step(objective=objective, penalty=penalty)
    before = copy.deepcopy([network.state_dict() for network in networks(step)])
    losses = step(tiny_batch())
    assert all(torch.isfinite(torch.tensor(value)) for value in losses.values())
    for first, network in zip(before, networks(step), strict=True):
        after = network.state_dict()
        assert any(not torch.equal(first[name], after[name]) for name in after)


def test_r1_is_zero_for_a_flat_discriminator(batch):
    step = small_step(penalty="r1")
    judge = networks(step)[1]
    for parameter in judge.parameters():
        parameter.data.zero_()
    assert step.penalty(judge, batch["image"], batch["image"], lambda images: images).item() == 0.0


def test_the_shipped_network_is_the_running_average():
    step = tiny_step(ema_decay=0.5)
    start = step.shipped.last.weight.detach().clone()
    step(tiny_batch())
    first = networks(step)[0].last.weight.detach().clone()
    step(tiny_batch())  # torch copies the first update, and averages from the second on
    expected = 0.5 * first + 0.5 * networks(step)[0].last.weight
    assert not torch.equal(step.shipped.last.weight, start)
    torch.testing.assert_close(step.shipped.last.weight, expected)


def test_the_running_average_has_the_statistics_of_its_own_images():
    step = tiny_step(ema_decay=0.9, learning_rate=0.05)
    for _ in range(8):
        step(tiny_batch())
    step.end_epoch()
    first = step.shipped.blocks[0].first_norm.norm
    seen = []
    first.register_forward_hook(lambda _, given, made: seen.append(given[0]))
    with torch.no_grad():
        step.shipped(torch.randn(3000, 4), tiny_batch()["label"].repeat(500))
    entering = seen[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(first.running_mean, entering.mean(1), atol=0.1, rtol=0.1)
    torch.testing.assert_close(first.running_var, entering.var(1), atol=0.1, rtol=0.3)
    assert not step.shipped.training


def test_a_restored_step_goes_on_identically():
    step, other = tiny_step(), tiny_step()
    step(tiny_batch())
    other.load_state_dict(copy.deepcopy(step.state_dict()))
    torch.manual_seed(5)
    first = step(tiny_batch())
    torch.manual_seed(5)
    assert other(tiny_batch()) == first
    for p, q in zip(step.shipped.parameters(), other.shipped.parameters(), strict=True):
        assert torch.equal(p, q)


def test_bad_choices_are_refused_in_plain_words():
    with pytest.raises(SettingError, match=r"penalty is 'r3'; choose none, r1, r1_r2, wgan_gp"):
        tiny_step(penalty="r3")
    with pytest.raises(SettingError, match="set critic_steps to 1"):
        tiny_step(consensus_weight=1.0, critic_steps=5)
    with pytest.raises(SettingError, match=r"NoduleGenerator, has 3 classes, num_classes is 0. Set num_classes to 3"):
        tiny_step(num_classes=0)
    with pytest.raises(SettingError, match=r"Judge2, has no classes, num_classes is 3. Set num_classes to 0"):
        small_step_of(Judge2())


def small_step_of(judge):
    return gan(nodule_generator(size=8, latent_size=4, width=2), judge, num_classes=3)


class Judge2(nn.Sequential):
    """A foreign network: it takes an image, and nobody has told how many classes it knows."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 1))


def test_networks_that_take_no_class_are_called_without_one():
    class Plain(nn.Sequential):
        latent_size = 4

        def __init__(self):
            super().__init__(nn.Linear(4, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))

    step = gan(Plain(), Judge2())
    assert set(step(tiny_batch())) == {"generator", "discriminator", "discriminator_accuracy"}


def test_a_longer_plan_continues_as_if_it_had_been_the_plan():
    def planned(epochs):
        torch.manual_seed(0)
        generator = nodule_generator(size=8, latent_size=4, width=2)
        optimizer = partial(torch.optim.Adam, lr=0.01)
        schedule = partial(FlatThenLinear, flat_epochs=1, decay_epochs=epochs - 1)
        return Gan(
            Player({"generator": generator}, optimizer, schedule=schedule, average=["generator"]),
            Player({"discriminator": nodule_discriminator(size=8, width=2)}, optimizer, schedule=schedule),
            {"adversarial": adversarial_objective("hinge")},
            latent_size=4,
            num_classes=3,
        )

    whole, short, longer = planned(4), planned(2), planned(4)
    for step, epochs in ((whole, 4), (short, 1)):
        for epoch in range(epochs):
            torch.manual_seed(epoch)
            step(tiny_batch())
            step.end_epoch()
    longer.load_state_dict(copy.deepcopy(short.state_dict()))
    for epoch in range(1, 4):
        torch.manual_seed(epoch)
        longer(tiny_batch())
        longer.end_epoch()
    for p, q in zip(whole.shipped.state_dict().values(), longer.shipped.state_dict().values(), strict=True):
        assert torch.equal(p, q)
