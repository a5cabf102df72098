"""Promises of the updates of CycleGAN and paired training."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.losses import adversarial_objective, mind_loss, structure_loss
from medical_gans.methods.conditional_gan import ConditionalGan
from medical_gans.methods.cyclegan import CycleGan
from medical_gans.training.player import Player
from medical_gans.training.schedules import FlatThenLinear, flat_then_linear


class Affine(nn.Module):
    """gain * x + offset: a generator whose losses can be written down."""

    def __init__(self, gain: float, offset: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, image):
        return self.gain * image + self.offset


class Mean(nn.Module):
    """A judge that says slope times the mean of the image."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, image):
        return [self.slope * image.mean(dim=(1, 2, 3), keepdim=True)]


def _batch(seed=0, shape=(2, 1, 8, 8)):
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.rand(shape, generator=generator) * 2 - 1 for k in ("mr", "ct")}


def _player(networks, *, learning_rate=2e-4, flat_epochs=100, decay_epochs=100, **options):
    return Player(
        networks,
        partial(torch.optim.Adam, lr=learning_rate, betas=(0.5, 0.999)),
        schedule=partial(FlatThenLinear, flat_epochs=flat_epochs, decay_epochs=decay_epochs),
        **options,
    )


def _gan(
    *, cycle=10.0, identity=0.0, structure=0.0, penalty=0.0, pool_size=0, seed=0, objective="least_squares", **own
):
    shared = {name: own.pop(name) for name in ("learning_rate", "flat_epochs", "decay_epochs") if name in own}
    clip = {"clip_norm": own.pop("clip_norm", 0.0)}
    return CycleGan(
        _player(
            {"mr_to_ct": Affine(0.5, 0.1), "ct_to_mr": Affine(1.5, -0.2)},
            **shared,
            **clip,
            average=["mr_to_ct"],
            hold=["mr_to_ct"],
            **own,
        ),
        _player({"ct": Mean(1.0), "mr": Mean(2.0)}, **shared, **clip, clip_each=True),
        {
            "adversarial": adversarial_objective(objective),
            "cycle": nn.L1Loss(),
            "identity": nn.L1Loss(),
            "structure": structure_loss("mind"),
        },
        {"adversarial": 1.0, "cycle": cycle, "identity": identity, "structure": structure},
        gradient_penalty_weight=penalty,
        pool_size=pool_size,
        seed=seed,
    )


def test_generator_terms_equal_the_published_formula():
    batch = _batch()
    mr, ct = batch["mr"], batch["ct"]
    gan = _gan(cycle=10.0, identity=2.0, structure=3.0)
    terms = gan.generator_terms(batch)
    fake_ct, fake_mr = 0.5 * mr + 0.1, 1.5 * ct - 0.2
    expected = {
        "adversarial_ct": ((fake_ct.mean((1, 2, 3)) - 1) ** 2).mean(),
        "adversarial_mr": ((2 * fake_mr.mean((1, 2, 3)) - 1) ** 2).mean(),
        "cycle_mr": 10 * (1.5 * fake_ct - 0.2 - mr).abs().mean(),
        "cycle_ct": 10 * (0.5 * fake_mr + 0.1 - ct).abs().mean(),
        "identity": 2 * ((fake_ct * 0 + 0.5 * ct + 0.1 - ct).abs().mean() + (1.5 * mr - 0.2 - mr).abs().mean()),
        "structure": 3 * (mind_loss(mr, fake_ct) + mind_loss(ct, fake_mr)),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value.detach()), rel=1e-5), name


def test_discriminator_terms_are_the_halved_least_squares():
    batch = _batch(1)
    gan = _gan()
    gan.generator_terms(batch)
    terms = gan.discriminator_terms(batch)
    real, fake = batch["ct"].mean((1, 2, 3)), (0.5 * batch["mr"] + 0.1).mean((1, 2, 3))
    assert float(terms["discriminator_ct"]) == pytest.approx(
        float(((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2), rel=1e-5
    )


def test_paired_terms_are_l1_and_a_judge_of_both_images():
    batch = _batch(2)
    mr, ct = batch["mr"], batch["ct"]
    step = ConditionalGan(
        _player({"mr_to_ct": Affine(0.5, 0.1)}),
        _player({"ct": Mean(1.0)}),
        {"adversarial": adversarial_objective("least_squares"), "paired": nn.L1Loss()},
        {"adversarial": 1.0, "paired": 100.0},
    )
    terms = step.generator_terms(mr, ct)
    fake = 0.5 * mr + 0.1
    assert float(terms["paired"]) == pytest.approx(float(100 * (fake - ct).abs().mean()), rel=1e-5)
    seen = torch.cat([mr, fake], 1).mean((1, 2, 3))
    assert float(terms["adversarial_ct"]) == pytest.approx(float(((seen - 1) ** 2).mean()), rel=1e-5)


def test_first_adam_step_moves_each_player_by_the_learning_rate_against_its_own_gradient():
    gan = _gan(learning_rate=1e-3, clip_norm=0.0)
    mirror = _gan()
    batch = _batch(3)
    sum(mirror.generator_terms(batch).values()).backward()
    before = {n: p.detach().clone() for n, p in gan.generators.networks.named_parameters()}
    gan(batch)
    for name, parameter in gan.generators.networks.named_parameters():
        gradient = dict(mirror.generators.networks.named_parameters())[name].grad
        assert float((parameter - before[name]).detach()) == pytest.approx(-1e-3 * float(gradient.sign()), rel=1e-3)


def test_generators_get_no_gradient_from_the_discriminators_update():
    gan = _gan()
    gan(_batch(4))
    after = {n: p.grad.clone() for n, p in gan.generators.networks.named_parameters()}
    gan.discriminators.descend(sum(gan.discriminator_terms(_batch(4)).values()))
    for name, parameter in gan.generators.networks.named_parameters():
        assert torch.equal(parameter.grad, after[name])


def test_r1_and_r2_are_the_squared_slope_of_a_linear_judge():
    """For slope * mean the gradient is slope / n in each of n voxels: squared norm slope^2 / n."""
    batch = _batch(5)
    plain, punished = _gan(), _gan(penalty=4.0)
    for gan in (plain, punished):
        gan.generator_terms(batch)
    difference = (
        punished.discriminator_terms(batch)["discriminator_mr"] - plain.discriminator_terms(batch)["discriminator_mr"]
    )
    assert float(difference) == pytest.approx(0.5 * 4.0 * 2 * 2.0**2 / 64, rel=1e-4)


def test_gradients_are_clipped_to_the_given_norm():
    gan = _gan(clip_norm=1e-3)
    gan(_batch(6))
    gradients = torch.stack([p.grad for p in gan.generators.parameters()])
    assert float(gradients.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_shipped_generator_is_the_running_average():
    gan = _gan(ema_decay=0.9, learning_rate=1e-2)
    expected = None
    for n in range(5):
        gan(_batch(n))
        now = gan.generators["mr_to_ct"].gain.detach().clone()
        expected = now if expected is None else 0.9 * expected + 0.1 * now
    assert float(gan.shipped.gain) == pytest.approx(float(expected), rel=1e-5)


def test_fine_tuning_rate_slows_the_shipped_generator_alone():
    gan = _gan(rates={"mr_to_ct": 0.1}, learning_rate=1e-3, flat_epochs=0, decay_epochs=1)
    before = {n: p.detach().clone() for n, p in gan.generators.networks.named_parameters()}
    gan(_batch())
    for name, parameter in gan.generators.networks.named_parameters():
        moved = float((parameter - before[name]).detach().abs())
        assert moved == pytest.approx(0.5 * (1e-4 if name.startswith("mr_to_ct") else 1e-3), rel=1e-2)


def test_held_generator_waits_while_the_others_learn():
    gan = _gan(hold_steps=2, learning_rate=1e-2)
    start = {n: p.detach().clone() for n, p in gan.generators.networks.named_parameters()}
    for n in range(2):
        gan(_batch(n))
    moved = {n: not torch.equal(p, start[n]) for n, p in gan.generators.networks.named_parameters()}
    assert moved == {n: n.startswith("ct_to_mr") for n in start}
    gan(_batch(2))
    assert not torch.equal(gan.generators["mr_to_ct"].gain, start["mr_to_ct.gain"])


def test_learning_rate_is_flat_then_falls_linearly_to_zero():
    factors = [flat_then_linear(e, 100, 100) for e in range(200)]
    assert factors[:100] == [1.0] * 100
    assert factors[100] == pytest.approx(1 - 1 / 101)
    assert factors[199] == pytest.approx(1 - 100 / 101)
    gan = _gan(flat_epochs=1, decay_epochs=1, learning_rate=1.0)
    gan(_batch())
    gan.end_epoch()
    assert gan.generators.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


@pytest.mark.parametrize("longer", [False, True])
def test_a_restored_method_goes_on_bit_for_bit_with_a_longer_plan_too(longer):
    options = {"flat_epochs": 1, "ema_decay": 0.9, "objective": "hinge", "hold_steps": 1, "pool_size": 3}
    whole = _gan(**options, decay_epochs=4, seed=7)
    for n in range(6):
        whole(_batch(n))
        whole.end_epoch()
    half = _gan(**options, decay_epochs=1 if longer else 4, seed=7)
    for n in range(3 if not longer else 1):
        half(_batch(n))
        half.end_epoch()
    rest = _gan(**options, decay_epochs=4, seed=99)
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    for n in range(3 if not longer else 1, 6):
        rest(_batch(n))
        rest.end_epoch()
    for name, tensor in whole.shipped.state_dict().items():
        assert torch.equal(tensor, rest.shipped.state_dict()[name])
    for name, tensor in whole.discriminators.networks.state_dict().items():
        assert torch.equal(tensor, rest.discriminators.networks.state_dict()[name])


def test_unknown_structure_loss_is_named():
    with pytest.raises(SettingError, match="mutual"):
        structure_loss("mutual")


def test_a_loss_that_is_weighted_but_not_given_is_named():
    gan = _gan()
    with pytest.raises(SettingError, match="'structure' has a weight"):
        CycleGan(gan.generators, gan.discriminators, {"adversarial": None}, {"structure": 1.0})
    with pytest.raises(SettingError, match="no loss 'cylce'"):
        CycleGan(gan.generators, gan.discriminators, {}, {"cylce": 1.0})


def _conditional_gan():
    return ConditionalGan(
        _player({"mr_to_ct": Affine(0.5, 0.1)}, average=["mr_to_ct"]),
        _player({"ct": Mean(1.0)}),
        {"adversarial": adversarial_objective("least_squares"), "paired": nn.L1Loss()},
        {"adversarial": 1.0, "paired": 100.0},
    )


def test_what_is_not_trusted_does_not_teach():
    batch = _batch()
    batch["trusted"] = torch.ones(2, 1, 8, 8)
    batch["trusted"][..., :4] = -1
    lied = {**batch, "ct": batch["ct"].clone()}
    lied["ct"][..., :4] = torch.rand(2, 1, 8, 4) * 2 - 1
    methods = [_conditional_gan(), _conditional_gan()]
    losses = [method(one) for method, one in zip(methods, (batch, lied), strict=True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    right = (0.5 * batch["mr"] + 0.1 - batch["ct"])[..., 4:].abs().sum() / batch["ct"].numel()
    assert losses[0]["paired"] == pytest.approx(100 * float(right), rel=1e-5)
    weights = [[*method.generators["mr_to_ct"].parameters()] for method in methods]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_pair_trusted_everywhere_is_a_pair_without_the_mask():
    batch = _batch()
    plain, masked = _conditional_gan()(batch), _conditional_gan()({**batch, "trusted": torch.ones_like(batch["ct"])})
    assert plain == pytest.approx(masked, rel=1e-5)


class Conv(nn.Module):
    """A generator that is one convolution, with a norm on request; counts what it is given."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1) if norm else nn.Identity())
        self.given: list[int] = []

    def forward(self, image):
        self.given.append(len(image))
        return self.layers(image)


class Judge(Conv):
    def forward(self, image):
        return [super().forward(image)]


def _convolutional(norm=False, **options):
    torch.manual_seed(1)
    to_ct, to_mr, ct, mr = Conv(norm), Conv(norm), Judge(), Judge()
    method = CycleGan(
        _player({"mr_to_ct": to_ct, "ct_to_mr": to_mr}, average=["mr_to_ct"], **options),
        _player({"ct": ct, "mr": mr}, **options),
        {"adversarial": adversarial_objective("least_squares"), "cycle": nn.L1Loss()},
        {"adversarial": 1.0, "cycle": 10.0},
        pool_size=0,
    )
    return method


def test_a_step_passes_no_image_more_often_than_the_paper_needs():
    method = _convolutional()
    method(_batch())
    given = {name: network.given for player in method.players.values() for name, network in player.networks.items()}
    assert given == {"mr_to_ct": [4], "ct_to_mr": [2, 2], "ct": [2, 2, 2], "mr": [2, 2, 2]}


@pytest.mark.parametrize("norm", [False, True])
def test_one_pass_for_two_batches_changes_nothing(norm):
    method, batch = _convolutional(norm), _batch()
    to_ct, to_mr = (copy.deepcopy(method.generators[name]) for name in ("mr_to_ct", "ct_to_mr"))
    method.generator_terms(batch)
    fake_mr = to_mr(batch["ct"])
    fake_ct = to_ct(batch["mr"])
    expected = {
        "synthetic_mr": fake_mr,
        "synthetic_ct": fake_ct,
        "cycle_ct": to_ct(fake_mr),
        "cycle_mr": to_mr(fake_ct),
    }
    for name, image in expected.items():
        torch.testing.assert_close(method.images[name], image.detach())


def test_accumulated_batches_are_one_large_batch():
    one, several = _convolutional(), _convolutional(accumulate=2)
    batch = _batch(shape=(4, 1, 8, 8))
    one(batch)
    halves = [{name: images[part] for name, images in batch.items()} for part in (slice(0, 2), slice(2, 4))]
    several(halves[0])
    assert several.generators.steps == 0
    several(halves[1])
    assert several.generators.steps == 1
    for name in ("generators", "discriminators"):
        for ours, theirs in zip(one.players[name].parameters(), several.players[name].parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_what_was_accumulated_is_used_at_the_end_of_an_epoch():
    method = _convolutional(accumulate=3)
    before = [p.detach().clone() for p in method.generators.parameters()]
    method(_batch())
    assert all(torch.equal(a, b) for a, b in zip(before, method.generators.parameters(), strict=True))
    method.end_epoch()
    assert method.generators.steps == 1
    assert not all(torch.equal(a, b) for a, b in zip(before, method.generators.parameters(), strict=True))


def test_accumulating_nothing_is_refused():
    with pytest.raises(SettingError, match="accumulate is 0"):
        _convolutional(accumulate=0)


def test_compiled_networks_learn_the_same_and_keep_their_names():
    plain, compiled = _convolutional(), _convolutional(compile="eager")
    for seed in range(2):
        plain(_batch(seed))
        compiled(_batch(seed))
    assert "_compiled_call_impl" in vars(compiled.generators["mr_to_ct"])
    ours, theirs = plain.state_dict()["players"], compiled.state_dict()["players"]
    for name, player in ours.items():
        torch.testing.assert_close(dict(player["networks"]), dict(theirs[name]["networks"]))
    compiled.load_state_dict(plain.state_dict())
