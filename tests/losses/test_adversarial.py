"""Adversarial objectives against formulas written out in numpy."""

import numpy as np
import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.losses import F_DIVERGENCES, adversarial_objective

NAMES = [
    "least_squares",
    "goodfellow",
    "goodfellow_saturating",
    "hinge",
    "wasserstein",
    "relativistic",
    *(f"f_{name}" for name in F_DIVERGENCES),
]
REAL, FAKE = np.random.default_rng(3).normal(size=(2, 3, 1, 4, 5))


def log_sigmoid(v: np.ndarray) -> np.ndarray:
    return np.log(1 / (1 + np.exp(-v)))


LOG_LIKELIHOOD = -log_sigmoid(REAL).mean() - np.log(1 - 1 / (1 + np.exp(-FAKE))).mean()
EXPECTED = {
    "least_squares": (((REAL - 1) ** 2).mean() / 2 + (FAKE**2).mean() / 2, ((FAKE - 1) ** 2).mean()),
    "goodfellow": (LOG_LIKELIHOOD, -log_sigmoid(FAKE).mean()),
    "goodfellow_saturating": (LOG_LIKELIHOOD, np.log(1 - 1 / (1 + np.exp(-FAKE))).mean()),
    "hinge": (np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(), -FAKE.mean()),
    "wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "relativistic": (-log_sigmoid(REAL - FAKE).mean(), -log_sigmoid(FAKE - REAL).mean()),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_losses_equal_their_formula(name):
    objective = adversarial_objective(name)
    real, fake = torch.as_tensor(REAL), torch.as_tensor(FAKE)
    discriminator_loss, generator_loss = EXPECTED[name]
    assert objective.discriminator_loss(real, fake).item() == pytest.approx(discriminator_loss)
    assert objective.generator_loss(fake, real).item() == pytest.approx(generator_loss)


@pytest.mark.parametrize("name", NAMES)
def test_discriminator_learns_to_rate_real_higher_and_generator_to_raise_its_rating(name):
    objective = adversarial_objective(name)
    real = torch.zeros(2, 1, 3, 3, requires_grad=True)
    fake = torch.zeros(2, 1, 3, 3, requires_grad=True)
    d_real, d_fake = torch.autograd.grad(objective.discriminator_loss(real, fake), (real, fake))
    # Least squares pulls to 1 and 0, so at 0 it has nothing to ask of the fakes.
    assert (d_real < 0).all() and (d_fake >= 0).all()
    (g_fake,) = torch.autograd.grad(objective.generator_loss(fake, real), fake)
    assert (g_fake < 0).all()


def test_f_gan_and_goodfellow_are_one_objective():
    real, fake = torch.as_tensor(REAL), torch.as_tensor(FAKE)
    goodfellow, f_gan = adversarial_objective("goodfellow"), adversarial_objective("f_gan")
    torch.testing.assert_close(f_gan.discriminator_loss(real, fake), goodfellow.discriminator_loss(real, fake))
    torch.testing.assert_close(f_gan.generator_loss(fake), goodfellow.generator_loss(fake))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_large_logits_give_finite_losses(name):
    objective = adversarial_objective(name)
    real, fake = torch.full((1, 1), -1e4), torch.full((1, 1), 1e4)
    assert torch.isfinite(objective.discriminator_loss(real, fake))
    assert torch.isfinite(objective.generator_loss(fake, real))


def test_only_the_relativistic_generator_needs_real_logits():
    assert [name for name in NAMES if adversarial_objective(name).needs_real] == ["relativistic"]
    with pytest.raises(ValueError, match="needs the real logits"):
        adversarial_objective("relativistic").generator_loss(torch.zeros(1, 1))


def test_relativistic_refuses_logits_that_cannot_be_paired():
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(1, 1\)"):
        adversarial_objective("relativistic").discriminator_loss(torch.zeros(2, 1), torch.zeros(1, 1))


@pytest.mark.parametrize(("typed", "meant"), [("lsgan", "f_gan"), ("least_square", "least_squares"), ("wgan", "f_gan")])
def test_unknown_name_is_told_the_nearest(typed, meant):
    with pytest.raises(SettingError, match=f"did you mean '{meant}"):
        adversarial_objective(typed)
