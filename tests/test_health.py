"""Alarms fire on what is broken, and never on a healthy training."""

import io
import math

import pytest
import torch

from medical_gans.errors import SettingError, TrainingAlarm
from medical_gans.training.health import Alarms, Generated

CYCLEGAN = (Generated("synthetic_ct", "ct", "mr"), Generated("synthetic_mr", "mr", "ct"))
QUICK = {"every": 1, "patience": 5}


def pictures(seed: int, *, batch: int = 1, size: int = 32, dims: int = 2) -> torch.Tensor:
    """Smooth random bodies on air in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((batch, 1, *[4] * dims), generator=generator) * 2 - 1
    mode = "bilinear" if dims == 2 else "trilinear"
    return torch.nn.functional.interpolate(coarse, size=[size] * dims, mode=mode)


def step(iteration: int, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """Images of one healthy CycleGAN iteration: translations keep structure but invert contrast."""
    mr, ct = pictures(2 * iteration), pictures(2 * iteration + 1)
    return {"mr": mr, "ct": ct, "synthetic_ct": -(mr**3), "synthetic_mr": -(ct**3)} | changed


def healthy_losses(iteration: int) -> dict[str, float]:
    """Least-squares losses as CycleGAN logs show them: wide swings, and spells in which D wins."""
    spell = iteration % 1000 < 400
    return {
        "adversarial_ct": 0.3 + 0.3 * math.sin(iteration / 7),
        "cycle_mr": 1.0 + 0.2 * math.sin(iteration / 3),
        "discriminator_ct": 0.004 if spell else 0.15 + 0.1 * math.sin(iteration / 11),
        "discriminator_ct_accuracy": 1.0 if spell else 0.8,
    }


def test_healthy_training_raises_no_alarm() -> None:
    alarms = Alarms(CYCLEGAN, ["discriminator_ct"])
    images = [step(iteration) for iteration in range(17)]
    for iteration in range(1, 4001):
        alarms.check(healthy_losses(iteration), images[iteration % len(images)], iteration)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_at_once_and_is_named(value: float) -> None:
    with pytest.raises(TrainingAlarm, match=r"iteration 7: cycle_mr"):
        Alarms().check({"cycle_mr": value, "cycle_ct": 1.0}, None, 7)


def run(alarms: Alarms, images, iterations: int = 30, losses=None) -> int | None:
    """First iteration that raised."""
    for iteration in range(1, iterations + 1):
        try:
            alarms.check(losses(iteration) if losses else {}, images(iteration), iteration)
        except TrainingAlarm:
            return iteration
    return None


@pytest.mark.parametrize("dims", [2, 3])
def test_a_generator_of_constants_is_found_after_patience(dims: int) -> None:
    def images(iteration: int) -> dict[str, torch.Tensor]:
        real = pictures(iteration, batch=2, dims=dims)
        return {"real": real, "generated": torch.full_like(real, -0.3)}

    assert run(Alarms([Generated("generated", "real")], **QUICK), images) == 5


@pytest.mark.parametrize("batch", [1, 4])
def test_a_generator_of_one_image_is_found_even_with_batches_of_one(batch: int) -> None:
    favourite = pictures(999)

    def images(iteration: int) -> dict[str, torch.Tensor]:
        return {"real": pictures(iteration, batch=batch), "generated": favourite.expand(batch, -1, -1, -1)}

    alarms = Alarms([Generated("generated", "real")], **QUICK)
    with pytest.raises(TrainingAlarm, match="collapsed to one image: since iteration"):
        for iteration in range(1, 30):
            alarms.check({}, images(iteration), iteration)


def test_a_translator_that_copies_its_input_is_found() -> None:
    def copied(iteration: int) -> dict[str, torch.Tensor]:
        images = step(iteration)
        return images | {"synthetic_ct": images["mr"] + 0.001}

    alarms = Alarms(CYCLEGAN, **QUICK)
    with pytest.raises(TrainingAlarm, match=r"'synthetic_ct' only copies .* since iteration 1 .*'mr'"):
        for iteration in range(1, 30):
            alarms.check({}, copied(iteration), iteration)


def test_identity_looks_at_the_middle_slice_of_a_thick_input() -> None:
    def copied(iteration: int) -> dict[str, torch.Tensor]:
        stack = torch.cat([pictures(3 * iteration + n) for n in range(3)], dim=1)
        return {"mr": stack, "ct": pictures(iteration), "synthetic_ct": stack[:, 1:2]}

    assert run(Alarms([Generated("synthetic_ct", "ct", "mr")], collapse=False, **QUICK), copied) == 5


def test_slices_of_air_are_not_taken_for_copies() -> None:
    air = torch.full((1, 1, 32, 32), -1.0)

    def images(iteration: int) -> dict[str, torch.Tensor]:
        return {"mr": air, "ct": air, "synthetic_ct": air}

    assert run(Alarms([Generated("synthetic_ct", "ct", "mr")], **QUICK), images) is None


def test_slices_of_air_do_not_excuse_a_translator_that_copies() -> None:
    def images(iteration: int) -> dict[str, torch.Tensor]:
        mr = pictures(iteration) if iteration % 2 else torch.full((1, 1, 32, 32), -1.0)
        return {"mr": mr, "ct": pictures(iteration + 99), "synthetic_ct": mr}

    assert run(Alarms([Generated("synthetic_ct", "ct", "mr")], collapse=False, **QUICK), images) == 9


@pytest.mark.parametrize(
    ("loss", "accuracy", "found"),
    [(0.001, 1.0, True), (0.001, 0.9, False), (0.1, 1.0, False), (0.001, None, True)],
)
def test_a_discriminator_has_won_when_its_loss_vanishes_and_it_is_always_right(
    loss: float, accuracy: float | None, found: bool
) -> None:
    figures = {"discriminator_ct": loss} | ({} if accuracy is None else {"discriminator_ct_accuracy": accuracy})
    alarms = Alarms(discriminators=["discriminator_ct"], every=10, patience=3)
    raised = run(alarms, lambda _: {}, iterations=100, losses=lambda _: figures)
    assert (raised == 30) is found
    assert (raised is None) is not found


def test_a_single_good_check_ends_a_streak() -> None:
    def images(iteration: int) -> dict[str, torch.Tensor]:
        constant = {} if iteration % 5 == 0 else {"synthetic_ct": torch.zeros(1, 1, 32, 32)}
        return step(iteration, **constant)

    assert run(Alarms(CYCLEGAN, **QUICK), images, iterations=60) is None


@pytest.mark.parametrize("switched_off", ["non_finite", "collapse", "identity", "discriminator_won"])
def test_each_alarm_can_be_switched_off(switched_off: str) -> None:
    broken = {
        "non_finite": ({"loss": math.nan, "discriminator": 1.0}, lambda i: step(i)),
        "collapse": ({"discriminator": 1.0}, lambda i: step(i, synthetic_ct=torch.zeros(1, 1, 32, 32))),
        "identity": ({"discriminator": 1.0}, lambda i: step(i) | {"synthetic_ct": step(i)["mr"]}),
        "discriminator_won": ({"discriminator": 0.0}, lambda i: step(i)),
    }
    losses, images = broken[switched_off]
    assert run(Alarms(CYCLEGAN, ["discriminator"], **QUICK), images, losses=lambda _: losses) is not None
    off = Alarms(CYCLEGAN, ["discriminator"], **{switched_off: False}, **QUICK)
    assert run(off, images, losses=lambda _: losses) is None


def test_a_resumed_run_raises_at_the_same_iteration() -> None:
    favourite = pictures(999)

    def images(iteration: int) -> dict[str, torch.Tensor]:
        return step(iteration, synthetic_ct=favourite) if iteration > 8 else step(iteration)

    def losses(iteration: int) -> dict[str, float]:
        return {"discriminator_ct": 0.005 * (iteration % 4)}

    def alarms() -> Alarms:
        return Alarms(CYCLEGAN, ["discriminator_ct"], every=3, patience=4)

    whole = run(alarms(), images, iterations=200, losses=losses)
    assert whole is not None
    for stop in (1, whole // 2, whole - 1):
        first, second = alarms(), alarms()
        for iteration in range(1, stop + 1):
            first.check(losses(iteration), images(iteration), iteration)
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        with pytest.raises(TrainingAlarm):
            for iteration in range(stop + 1, whole + 1):
                second.check(losses(iteration), images(iteration), iteration)
        assert iteration == whole


def test_a_resumed_run_has_the_same_state() -> None:
    whole, first, second = (Alarms(CYCLEGAN, ["discriminator_ct"], every=5) for _ in range(3))
    for iteration in range(1, 24):
        part = first if iteration <= 12 else second
        if iteration == 13:
            second.load_state_dict(first.state_dict())
        for alarms in (whole, part):
            alarms.check({"discriminator_ct": iteration / 10}, step(iteration), iteration)
    mine, other = second.state_dict(), whole.state_dict()
    torch.testing.assert_close(mine.pop("thumbnails"), other.pop("thumbnails"), rtol=0, atol=0)
    assert mine == other and other["sums"]


def test_a_watched_name_that_does_not_exist_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match="'discriminator_mr', but this training has discriminator_ct"):
        Alarms(discriminators=["discriminator_mr"]).check({"discriminator_ct": 1.0}, None, 1)
    with pytest.raises(SettingError, match="'synthetic_mr'"):
        Alarms(CYCLEGAN, every=1).check({}, {"mr": pictures(0), "ct": pictures(1), "synthetic_ct": pictures(2)}, 1)


def test_images_are_looked_at_only_when_due() -> None:
    class Untouchable(dict):
        def __getitem__(self, name: str) -> torch.Tensor:
            raise AssertionError("looked at")

    untouchable = Untouchable(dict.fromkeys(step(0)))
    alarms = Alarms(CYCLEGAN, every=50)
    alarms.check({}, step(50), 50)
    for iteration in range(51, 100):
        alarms.check({}, untouchable, iteration)
    with pytest.raises(AssertionError):
        alarms.check({}, untouchable, 100)
