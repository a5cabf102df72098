"""Precision and recall where the manifold is known: grey images of triangles (after Lucic et al. 2018, section 5).

An image follows from six coordinates and a grey value through a differentiable drawing, so its distance to the
manifold can be searched for. Precision: share of generated images near the manifold. Recall: share of held-out
triangles that some latent vector of the generator makes, nearly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from medical_gans.losses import adversarial_objective, discriminator_penalty
from medical_gans.methods.gan import Gan
from medical_gans.networks import nodule_generator
from medical_gans.networks.anomaly_detector import PatchCritic
from medical_gans.training.player import Player

SIZE = 32
SHARPNESS = 1.5  # per pixel, of the drawn edge
NEAR = 0.1  # root mean square difference, of a range from -1 to 1, from which two images count as the same


@dataclass(frozen=True)
class PolygonSetting:
    """How a generator of triangles is trained."""

    name: str
    objective: str
    penalty: str = "none"
    penalty_weight: float = 1.0
    critic_steps: int = 1


@dataclass(frozen=True)
class PolygonResult:
    """Figures of one generator; `precision_distances` and `recall_distances` are root mean squares per image."""

    setting: PolygonSetting
    precision: float
    recall: float
    precision_distances: Tensor
    recall_distances: Tensor
    samples: Tensor


def random_triangles(count: int, generator: torch.Generator) -> Tensor:
    """Parameters ``(count, 7)``: corners in pixels, anticlockwise and of at least a twelfth of the area; grey value."""
    kept = []
    while sum(len(one) for one in kept) < count:
        corners = 2 + (SIZE - 4) * torch.rand(4 * count, 3, 2, generator=generator)
        area = _area(corners)
        corners = torch.where((area < 0)[:, None, None], corners.flip(1), corners)
        kept.append(corners[area.abs() > SIZE**2 / 12])
    grey = 0.2 + 0.8 * torch.rand(count, 1, generator=generator)
    return torch.cat([torch.cat(kept)[:count].flatten(1), grey], 1)


def drawn(triangles: Tensor) -> Tensor:
    """Images ``(count, 1, SIZE, SIZE)``, -1 outside and up to 1 inside; differentiable in the parameters."""
    corners, grey = triangles[:, :6].reshape(-1, 3, 2), triangles[:, 6]
    place = torch.arange(SIZE) + 0.5
    inside: Tensor | float = 1.0
    for number in range(3):
        start, end = corners[:, number], corners[:, (number + 1) % 3]
        along = end - start
        length = along.norm(dim=1).clamp_min(1e-3)
        across = (
            along[:, 0, None, None] * (place[None, :, None] - start[:, 1, None, None])
            - along[:, 1, None, None] * (place[None, None, :] - start[:, 0, None, None])
        ) / length[:, None, None]
        inside = inside * torch.sigmoid(SHARPNESS * across)
    return (2 * grey[:, None, None] * inside - 1)[:, None]


def train_on_triangles(setting: PolygonSetting, steps: int, judged: int = 256, seed: int = 0) -> PolygonResult:
    """Train a small DCGAN and judge it.

    Args:
        setting: objective and penalty.
        steps: updates of the generator.
        judged: generated images, and held-out triangles.
        seed: of everything.
    """
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    training = drawn(random_triangles(10000, draw))
    network = nodule_generator("dcgan", size=SIZE, latent_size=16, num_classes=0, width=16)
    optimizer = partial(torch.optim.Adam, lr=5e-4, betas=(0.5, 0.9))
    step = Gan(
        Player({"generator": network}, optimizer, average=["generator"], ema_decay=0.99),
        Player({"discriminator": PatchCritic(SIZE, 16)}, optimizer),
        {
            "adversarial": adversarial_objective(setting.objective),
            "penalty": discriminator_penalty(setting.penalty),
        },
        weights={"penalty": setting.penalty_weight},
        latent_size=16,
        critic_steps=setting.critic_steps,
    )
    for _ in range(steps * setting.critic_steps):
        step({"image": training[torch.randint(len(training), (64,), generator=draw)]})
    shipped = step.shipped.eval().requires_grad_(False)

    def generate(latent: Tensor) -> Tensor:
        return shipped(latent)

    with torch.no_grad():
        samples = generate(torch.randn(judged, 16, generator=draw))
    precise = distance_to_manifold(samples, draw)
    recalled = distance_to_generator(generate, drawn(random_triangles(judged, draw)), 16, draw)
    near = [float((one < NEAR).float().mean()) for one in (precise, recalled)]
    return PolygonResult(setting, near[0], near[1], precise, recalled, samples[:16])


def distance_to_manifold(images: Tensor, draw: torch.Generator, steps: int = 60, rendered: int = 8000) -> Tensor:
    """Root mean square difference to the nearest triangle, ``(n,)``: nearest of many drawn ones, then descent."""
    pool = random_triangles(rendered, draw)
    nearest = torch.cdist(images.flatten(1), drawn(pool).flatten(1)).argmin(1)
    return _descend(drawn, pool[nearest], images, steps, scale=torch.tensor([1.0] * 6 + [0.05]))


def distance_to_generator(
    generate: Callable[[Tensor], Tensor], images: Tensor, latent_size: int, draw: torch.Generator, steps: int = 100
) -> Tensor:
    """Root mean square difference to the nearest image that a generator makes, ``(n,)``: as `distance_to_manifold`."""
    pool = torch.randn(2000, latent_size, generator=draw)
    with torch.no_grad():
        made = torch.cat([generate(part) for part in pool.split(500)])
    nearest = torch.cdist(images.flatten(1), made.flatten(1)).argmin(1)
    return _descend(generate, pool[nearest], images, steps, scale=torch.full((latent_size,), 0.1))


def _descend(make: Callable[[Tensor], Tensor], start: Tensor, images: Tensor, steps: int, scale: Tensor) -> Tensor:
    """Smallest root mean square difference met on the way down from `start`; `scale` is the step of each number."""
    change = nn.Parameter(torch.zeros_like(start))
    optimiser = torch.optim.Adam([change], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=0.05)
    best = torch.full((len(start),), float("inf"))
    for _ in range(steps):
        squared = (make(start + scale * change) - images).square().flatten(1).mean(1)
        best = torch.minimum(best, squared.detach())
        optimiser.zero_grad(set_to_none=True)
        squared.sum().backward()
        optimiser.step()
        schedule.step()
    return best.sqrt()


def _area(corners: Tensor) -> Tensor:
    """Twice the signed area would be the cross product of two edges; half of it is the area."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
