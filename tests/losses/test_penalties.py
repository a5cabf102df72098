"""Gradient penalties against closed forms for simple critics, consensus on the game f(x, y) = x y."""

import pytest
import torch

from medical_gans.losses import consensus_regulariser, gradient_penalty, r1_penalty, r2_penalty


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
def test_linear_critic_has_the_squared_norm_of_its_weights(penalty):
    weights = torch.randn(2, 4, 5)
    images = torch.randn(3, 2, 4, 5, requires_grad=True)
    logits = (images * weights).flatten(1).sum(1, keepdim=True)
    torch.testing.assert_close(penalty(logits, images), weights.square().sum())


def test_quadratic_critic_has_the_mean_squared_norm_of_the_images():
    images = torch.randn(3, 1, 6, requires_grad=True)
    logits = images.square().flatten(1).sum(1, keepdim=True) / 2
    torch.testing.assert_close(r1_penalty(logits, images), images.square().flatten(1).sum(1).mean())


def test_patch_critic_counts_as_the_mean_of_its_patches():
    images = torch.randn(2, 1, 8, 8, requires_grad=True)
    convolution = torch.nn.Conv2d(1, 1, 3)
    patches = convolution(images)
    image_values = patches.flatten(1).mean(1, keepdim=True)
    torch.testing.assert_close(r1_penalty(patches, images), r1_penalty(image_values, images))


def test_penalty_trains_the_critic():
    """d/dw of |w|^2 is 2 w."""
    weight = torch.randn(5, requires_grad=True)
    images = torch.randn(4, 1, 5, requires_grad=True)
    r1_penalty((images * weight).sum(2), images).backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_images_outside_the_graph_are_refused():
    with pytest.raises(ValueError, match="requires_grad"):
        r1_penalty(torch.zeros(1, 1), torch.zeros(1, 1, 4))


def test_gradient_penalty_of_a_linear_critic_is_its_distance_from_slope_one():
    weights = torch.randn(1, 3, 3)
    real, fake = torch.randn(2, 4, 1, 3, 3)
    penalty = gradient_penalty(lambda images: (images * weights).flatten(1).sum(1, keepdim=True), real, fake)
    torch.testing.assert_close(penalty, (weights.norm() - 1).square())


def test_gradient_penalty_looks_between_real_and_fake_one_share_per_image():
    real, fake = torch.zeros(64, 1, 4, 4), torch.ones(64, 1, 4, 4)
    seen = []

    def critic(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.detach())
        return images.flatten(1).sum(1, keepdim=True)

    gradient_penalty(critic, real, fake)
    shares = seen[0].flatten(1)
    assert (shares.std(1) == 0).all()
    assert 0 <= shares.min() < 0.1 and 0.9 < shares.max() <= 1
    assert shares[:, 0].unique().numel() > 60


def test_gradient_penalty_of_a_dead_critic_is_one_with_finite_gradient():
    slope = torch.zeros((), requires_grad=True)
    real, fake = torch.randn(2, 2, 1, 4)
    penalty = gradient_penalty(lambda images: slope * images.sum(2), real, fake)
    penalty.backward()
    assert penalty.item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(slope.grad)


def test_gradient_penalty_reaches_the_critic_but_not_the_generator():
    fake = torch.randn(2, 1, 4, requires_grad=True)
    weight = torch.randn(4, requires_grad=True)
    gradient_penalty(lambda images: (images**2 * weight).sum(2), torch.randn(2, 1, 4), fake).backward()
    assert fake.grad is None and weight.grad is not None


def test_gradient_penalty_refuses_images_of_two_shapes():
    with pytest.raises(ValueError, match="one shape"):
        gradient_penalty(lambda images: images, torch.zeros(2, 1, 4), torch.zeros(1, 1, 4))


def play(steps: int, step_size: float, gamma: float) -> float:
    """Distance from the equilibrium of f(x, y) = x y: x minimises it, y maximises it, both step at once."""
    x, y = torch.tensor(1.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    for _ in range(steps):
        losses = (x * y, -x * y)
        energy = gamma * consensus_regulariser(losses, ([x], [y]))
        (x_gradient,) = torch.autograd.grad(losses[0] + energy, x, retain_graph=True)
        (y_gradient,) = torch.autograd.grad(losses[1] + energy, y)
        with torch.no_grad():
            x -= step_size * x_gradient
            y -= step_size * y_gradient
    return torch.hypot(x, y).item()


def test_consensus_converges_where_simultaneous_gradient_steps_diverge():
    start = torch.hypot(torch.tensor(1.0), torch.tensor(0.5)).item()
    # One step of size h multiplies the distance by sqrt(1 + h^2), or by sqrt((1 - h)^2 + h^2) with consensus.
    assert play(200, 0.1, gamma=0.0) == pytest.approx(start * 1.01**100, rel=1e-3)
    assert play(200, 0.1, gamma=1.0) == pytest.approx(start * ((1 - 0.1) ** 2 + 0.1**2) ** 100, rel=1e-3)


def test_consensus_regulariser_is_half_the_squared_norm_of_all_gradients():
    first, second = torch.randn(3, requires_grad=True), torch.randn(2, requires_grad=True)
    losses = (first.square().sum() * second.sum(), first.sum() * second.pow(3).sum())
    by_first = 2 * first * second.sum()
    by_second = first.sum() * 3 * second.square()
    expected = (by_first.square().sum() + by_second.square().sum()) / 2
    torch.testing.assert_close(consensus_regulariser(losses, ([first], [second])), expected)
