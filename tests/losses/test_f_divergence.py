"""f-GAN objectives against numerical suprema and against divergences that numpy computes."""

import numpy as np
import pytest
import torch

from medical_gans.losses import F_DIVERGENCES

NAMES = sorted(F_DIVERGENCES)
# The ratio u is positive, except for Pearson, whose f the paper takes on the real line.
RATIO = np.concatenate([np.geomspace(1e-12, 1e-3, 2000), np.geomspace(1e-3, 1e4, 200_000)])
RATIO_OF = {name: RATIO for name in NAMES} | {"pearson": np.linspace(-50, 50, 400_001)}
P, Q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.25, 0.25, 0.1])


def divergence_by_numpy(name: str) -> float:
    half = (P + Q) / 2
    to_half = (P * np.log(P / half)).sum() + (Q * np.log(Q / half)).sum()
    return {
        "kl": (P * np.log(P / Q)).sum(),
        "reverse_kl": (Q * np.log(Q / P)).sum(),
        "pearson": ((P - Q) ** 2 / Q).sum(),
        "neyman": ((P - Q) ** 2 / P).sum(),
        "hellinger": ((np.sqrt(P) - np.sqrt(Q)) ** 2).sum(),
        "jensen_shannon": to_half,
        "gan": to_half - np.log(4),
    }[name]


def apply(function, values) -> np.ndarray:
    return function(torch.as_tensor(np.asarray(values, dtype=np.float64))).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_conjugate_is_the_supremum_of_ut_minus_f(name):
    divergence = F_DIVERGENCES[name]
    u = RATIO_OF[name]
    f = apply(divergence.f, u)
    for t in apply(divergence.activation, np.linspace(-3, 3, 13)):
        assert apply(divergence.conjugate, t) == pytest.approx((u * t - f).max(), abs=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_conjugate_of_activation_equals_the_two_in_turn(name):
    divergence = F_DIVERGENCES[name]
    v = np.linspace(-6, 6, 101)
    in_turn = apply(divergence.conjugate, apply(divergence.activation, v))
    np.testing.assert_allclose(apply(divergence.conjugate_of_activation, v), in_turn, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_logit_means_more_real(name):
    assert (np.diff(apply(F_DIVERGENCES[name].activation, np.linspace(-8, 8, 201))) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_best_discriminator_attains_the_divergence(name):
    """Maximises the bound over one free logit per outcome, without knowing where the optimum is."""
    divergence = F_DIVERGENCES[name]
    p, q = torch.as_tensor(P), torch.as_tensor(Q)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def negative_bound() -> torch.Tensor:
        optimiser.zero_grad()
        bound = (p * divergence.activation(logits)).sum()
        loss = (q * divergence.conjugate_of_activation(logits)).sum() - bound
        loss.backward()
        return loss

    optimiser.step(negative_bound)
    assert -negative_bound().item() == pytest.approx(divergence_by_numpy(name), abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_terms_of_equation_six(name):
    divergence = F_DIVERGENCES[name]
    generator = np.random.default_rng(0)
    real, fake = generator.normal(size=(2, 1, 3, 4)), generator.normal(size=(5, 1, 3, 4))
    g_real, g_fake = apply(divergence.activation, real), apply(divergence.activation, fake)
    conjugate_fake = apply(divergence.conjugate, g_fake)
    real_logits, fake_logits = torch.as_tensor(real), torch.as_tensor(fake)
    discriminator_loss = divergence.discriminator_loss(real_logits, fake_logits)
    assert discriminator_loss.item() == pytest.approx(-(g_real.mean() - conjugate_fake.mean()))
    assert divergence.generator_loss(fake_logits).item() == pytest.approx(-g_fake.mean())
    assert divergence.generator_loss(fake_logits, minimax=True).item() == pytest.approx(-conjugate_fake.mean())


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_stay_finite_for_extreme_logits(name):
    """60 is far beyond what sigmoid and log in turn survive in single precision."""
    logits = torch.tensor([-60.0, -30.0, 0.0, 30.0, 60.0], requires_grad=True)
    divergence = F_DIVERGENCES[name]
    loss = divergence.discriminator_loss(logits, logits) + divergence.generator_loss(logits)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
