"""One update of generator and discriminator, against the same thing written out."""

import copy

import pytest
import torch
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.methods.gan import AdversarialStep
from medical_gans.networks import nodule_discriminator, nodule_generator


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


def small_step(**options):
    torch.manual_seed(0)
    return AdversarialStep(Line(), Judge(), **options)


def tiny_step(**options):
    torch.manual_seed(0)
    generator = nodule_generator(size=8, latent_size=4, width=2)
    return AdversarialStep(generator, nodule_discriminator(size=8, width=2), **options)


def tiny_batch():
    draw = torch.Generator().manual_seed(1)
    return {
        "image": torch.rand(6, 1, 8, 8, generator=draw) * 2 - 1,
        "label": torch.randint(0, 3, (6,), generator=draw),
    }


def test_one_update_equals_goodfellows_game_written_out(batch):
    step = small_step(objective="goodfellow", learning_rate=0.01, betas=(0.5, 0.999))
    generator, judge = copy.deepcopy(step.generator), copy.deepcopy(step.discriminator)
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
    for mine, theirs in ((step.generator, generator), (step.discriminator, judge)):
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q)


def test_consensus_step_equals_the_gradients_written_out(batch):
    step = small_step(objective="goodfellow", consensus_weight=0.7)
    generator, judge = copy.deepcopy(step.generator), copy.deepcopy(step.discriminator)
    for optimiser in step.optimisers.values():  # to see gradients: plain descent with rate 1
        optimiser.step = lambda: None
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
    for network, loss, parameters in ((step.generator, fooling, ours), (step.discriminator, judging, theirs)):
        expected = torch.autograd.grad(loss + energy, parameters, retain_graph=True)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_the_generator_waits_for_the_critic(batch):
    step = small_step(objective="wasserstein", penalty="wgan_gp", penalty_weight=10.0, critic_steps=3)
    start = copy.deepcopy(step.generator.state_dict())
    step(batch), step(batch)
    assert all(torch.equal(start[name], value) for name, value in step.generator.state_dict().items())
    step(batch)
    assert not torch.equal(start["line.weight"], step.generator.state_dict()["line.weight"])


@pytest.mark.parametrize("penalty", ["none", "r1", "r1_r2", "wgan_gp"])
@pytest.mark.parametrize("objective", ["hinge", "relativistic", "wasserstein", "f_pearson"])
def test_every_objective_and_penalty_moves_both_players(objective, penalty):
    step = tiny_step(objective=objective, penalty=penalty)
    before = copy.deepcopy(step.state_dict())
    losses = step(tiny_batch())
    assert all(torch.isfinite(torch.tensor(value)) for value in losses.values())
    for player in ("generator", "discriminator"):
        after = step.state_dict()[player]
        assert any(not torch.equal(before[player][name], after[name]) for name in after)


def test_r1_is_zero_for_a_flat_discriminator(batch):
    step = small_step(penalty="r1")
    for parameter in step.discriminator.parameters():
        parameter.data.zero_()
    assert step._penalty(batch["image"], batch["image"], None).item() == 0.0


def test_the_shipped_network_is_the_running_average():
    step = tiny_step(ema_decay=0.5)
    start = step.averaged.module.last.weight.detach().clone()
    step(tiny_batch())
    first = step.generator.last.weight.detach().clone()
    step(tiny_batch())  # torch copies the first update, and averages from the second on
    expected = 0.5 * first + 0.5 * step.generator.last.weight
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
