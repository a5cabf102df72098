"""Two games whose right answer is known: f(x, y) = x y, and a ring of eight Gaussians.

All seeds of a setting are trained at once, as one network with a leading axis: none of them knows of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from medical_gans.losses import adversarial_objective, consensus_regulariser, gradient_penalty, r1_penalty, r2_penalty

MODES, RADIUS, SPREAD = 8, 2.0, 0.1
NEAR = 3 * SPREAD  # a sample this near to a mode counts as good
COVERED = 0.02  # share of the samples at a mode from which it counts as covered, a sixth of what it should get
SAMPLES = 2000
RATE = 5e-3  # of Adam, falling linearly to a twentieth
PENALTY = 0.1  # weight of gradient penalties: far below that for images, whose gradients have more elements


def bilinear_game(steps: int, rate: float, gamma: float) -> list[tuple[float, float]]:
    """Trajectory of simultaneous gradient steps on f(x, y) = x y, x minimising and y maximising, from (1, 1).

    With `gamma` > 0 each player adds gamma times its gradient of the consensus regulariser (Mescheder et al. 2017).
    """
    x, y = (torch.ones(1, requires_grad=True) for _ in range(2))
    path = [(1.0, 1.0)]
    for _ in range(steps):
        losses = [(x * y).sum(), -(x * y).sum()]
        regulariser = gamma * consensus_regulariser(losses, [[x], [y]])
        (step_x,) = torch.autograd.grad(losses[0] + regulariser, x, retain_graph=True)
        (step_y,) = torch.autograd.grad(losses[1] + regulariser, y)
        with torch.no_grad():
            x -= rate * step_x
            y -= rate * step_y
        path.append((float(x.detach()), float(y.detach())))
    return path


@dataclass(frozen=True)
class RingSetting:
    """How a generator of the ring is trained.

    Attributes:
        objective: by its name in the losses.
        penalty: none, r1_r2 or wgan_gp.
        simultaneous: both players step from the same point; otherwise the discriminator first.
        gamma: of consensus optimisation.
    """

    objective: str
    penalty: str = "none"
    simultaneous: bool = False
    gamma: float = 0.0
    critic_steps: int = 1

    @property
    def name(self) -> str:
        """As the table calls it."""
        words = [self.objective]
        words += {"r1_r2": ["+ R1 + R2"], "wgan_gp": ["+ gradient penalty"]}.get(self.penalty, [])
        words += ["simultaneous"] if self.simultaneous else []
        words += ["consensus"] if self.gamma else []
        return " ".join(words)


@dataclass(frozen=True)
class RingResult:
    """What became of each seed.

    Attributes:
        modes: covered at the end, of 8.
        worst_modes: fewest covered at any look during the last quarter of the training.
        good: share of samples near a mode, at the end.
        samples: of the first seed, ``(n, 2)``.
    """

    setting: RingSetting
    modes: list[int]
    worst_modes: list[int]
    good: list[float]
    samples: Tensor


class _Players(nn.Module):
    """One multilayer perceptron for each seed."""

    def __init__(self, seeds: int, sizes: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.seeds = seeds
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in pairwise(sizes):
            bound = math.sqrt(2.0 / into)
            self.weights.append(nn.Parameter(torch.randn(seeds, into, out, generator=generator) * bound))
            self.biases.append(nn.Parameter(torch.zeros(seeds, 1, out)))

    def forward(self, points: Tensor) -> Tensor:
        """``(seeds * batch, in)`` to ``(seeds * batch, out)``."""
        hidden = points.reshape(self.seeds, -1, points.shape[-1])
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if number < len(self.weights) - 1:
                hidden = nn.functional.leaky_relu(hidden, 0.2)
        return hidden.reshape(-1, hidden.shape[-1])


def ring(count: int, generator: torch.Generator) -> Tensor:
    """Samples of the ring, ``(count, 2)``."""
    angle = torch.randint(MODES, (count,), generator=generator) * (2 * math.pi / MODES)
    centre = RADIUS * torch.stack([angle.cos(), angle.sin()], 1)
    return centre + SPREAD * torch.randn(count, 2, generator=generator)


def train_on_ring(
    setting: RingSetting, seeds: int, steps: int, batch: int = 128, width: int = 64, latent: int = 8
) -> RingResult:
    """Train every seed of a setting and count modes."""
    draw = torch.Generator().manual_seed(0)
    generator = _Players(seeds, (latent, width, width, 2), draw)
    judge = _Players(seeds, (2, width, width, 1), draw)
    optimisers = [torch.optim.Adam(player.parameters(), RATE, betas=(0.5, 0.99)) for player in (generator, judge)]
    schedules = [torch.optim.lr_scheduler.LinearLR(one, 1.0, 0.05, steps) for one in optimisers]
    looks = []
    for step in range(steps):
        for _ in range(setting.critic_steps - 1):
            _update_judge(setting, generator, judge, optimisers, draw, seeds * batch, latent)
        if setting.simultaneous or setting.gamma:
            _update_both(setting, generator, judge, optimisers, draw, seeds * batch, latent)
        else:
            _update_judge(setting, generator, judge, optimisers, draw, seeds * batch, latent)
            _update_generator(setting, generator, judge, optimisers, draw, seeds * batch, latent)
        for schedule in schedules:
            schedule.step()
        if step >= 0.75 * steps and (step + 1) % 50 == 0:
            looks.append(_covered(generator, seeds, latent, draw)[0])
    modes, good, samples = _covered(generator, seeds, latent, draw)
    worst = torch.stack([*looks, modes]).amin(0)
    return RingResult(setting, modes.tolist(), worst.tolist(), good.tolist(), samples[0])


def _judging(setting: RingSetting, judge: _Players, real: Tensor, fake: Tensor) -> Tensor:
    """Sum over seeds of the discriminator's loss: a mean over all images, times their number of seeds."""
    loss = adversarial_objective(setting.objective).discriminator_loss(judge(real), judge(fake))
    if setting.penalty == "wgan_gp":
        loss = loss + PENALTY * gradient_penalty(judge, real, fake)
    if setting.penalty == "r1_r2":
        real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        loss = loss + PENALTY / 2 * (r1_penalty(judge(real), real) + r2_penalty(judge(fake), fake))
    return judge.seeds * loss


def _fooling(setting: RingSetting, judge: _Players, real: Tensor, fake: Tensor) -> Tensor:
    return judge.seeds * adversarial_objective(setting.objective).generator_loss(judge(fake), judge(real))


def _update_judge(
    setting: RingSetting, generator: _Players, judge: _Players, optimisers: list, draw: torch.Generator, n: int, k: int
) -> None:
    with torch.no_grad():
        fake = generator(torch.randn(n, k, generator=draw))
    loss = _judging(setting, judge, ring(n, draw), fake)
    _step(optimisers[1], judge, torch.autograd.grad(loss, list(judge.parameters())))


def _update_generator(
    setting: RingSetting, generator: _Players, judge: _Players, optimisers: list, draw: torch.Generator, n: int, k: int
) -> None:
    loss = _fooling(setting, judge, ring(n, draw), generator(torch.randn(n, k, generator=draw)))
    _step(optimisers[0], generator, torch.autograd.grad(loss, list(generator.parameters())))


def _update_both(
    setting: RingSetting, generator: _Players, judge: _Players, optimisers: list, draw: torch.Generator, n: int, k: int
) -> None:
    real, fake = ring(n, draw), generator(torch.randn(n, k, generator=draw))
    losses = [_fooling(setting, judge, real, fake), _judging(setting, judge, real, fake)]
    players = [list(generator.parameters()), list(judge.parameters())]
    regulariser = torch.zeros(())
    if setting.gamma:
        regulariser = setting.gamma * consensus_regulariser(losses, players)
    gradients = [
        torch.autograd.grad(loss + regulariser, own, retain_graph=True)
        for loss, own in zip(losses, players, strict=True)
    ]
    for optimiser, player, found in zip(optimisers, (generator, judge), gradients, strict=True):
        _step(optimiser, player, found)


def _step(optimiser: torch.optim.Optimizer, player: nn.Module, gradients: tuple[Tensor, ...]) -> None:
    for parameter, gradient in zip(player.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


@torch.no_grad()
def _covered(generator: _Players, seeds: int, latent: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Modes covered and share of good samples of each seed, and the samples."""
    samples = generator(torch.randn(seeds * SAMPLES, latent, generator=draw)).reshape(seeds, SAMPLES, 2)
    modes, good = count_modes(samples)
    return modes, good, samples


def count_modes(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Modes covered and share of samples near one, of ``(seeds, n, 2)`` samples."""
    angle = torch.arange(MODES) * (2 * math.pi / MODES)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], 1)
    near = torch.cdist(samples, centres.expand(len(samples), -1, -1)) < NEAR
    return (near.float().mean(1) >= COVERED).sum(1), near.any(2).float().mean(1)
