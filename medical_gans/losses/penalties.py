"""Penalties on gradients that keep adversarial training stable. Each keeps its graph, to be differentiated.

The value of a patch discriminator for one image is taken as the mean of its logits, because that mean
is what its losses see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from medical_gans.errors import SettingError


def _input_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """d D(image) / d image of every image, flattened to `(batch, elements)`."""
    if not images.requires_grad:
        raise ValueError("Set requires_grad on the images before the discriminator sees them.")
    values = logits.flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(values, images, create_graph=True)
    return gradient.flatten(1)


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """E[|grad_x D(x)|^2] on real images (Mescheder et al. 2018, equation 9); weigh it by gamma / 2.

    Args:
        real_logits: `(batch, 1, *spatial)`, what D made of `real`.
        real: `(batch, channel, *spatial)`, with `requires_grad` set before D saw it.

    Raises:
        ValueError: `real` does not require a gradient.
    """
    return _input_gradient(real_logits, real).square().sum(1).mean()


def r2_penalty(fake_logits: Tensor, fake: Tensor) -> Tensor:
    """The same on generated images (Mescheder et al. 2018, equation 10)."""
    return r1_penalty(fake_logits, fake)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|grad D(z)| - 1)^2], z between real and fake (WGAN-GP, Gulrajani et al. 2017, equation 3).

    Its usual weight is 10.

    Args:
        critic: from images to logits `(batch, 1, *spatial)`, without batch norm.
        real: `(batch, channel, *spatial)`.
        fake: of the same shape; the generator gets no gradient from here.

    Raises:
        ValueError: the shapes differ.
    """
    if real.shape != fake.shape:
        raise ValueError(f"Real and fake images must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}.")
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_()
    gradient = _input_gradient(critic(between), between)
    # The norm has no derivative at 0, where a critic can begin: a tiny offset keeps it finite.
    norm = (gradient.square().sum(1) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def consensus_regulariser(player_losses: Sequence[Tensor], player_parameters: Sequence[Iterable[Tensor]]) -> Tensor:
    """Half the squared norm of all players' gradients (Mescheder et al. 2017, section 4).

    Every player adds gamma times its own gradient of this to the gradient of its loss. Where simultaneous
    steps only orbit an equilibrium, because the gradients of the players form a curl, this draws them in.

    Args:
        player_losses: what each player minimises, with graph.
        player_parameters: what each player moves, in the same order.
    """
    energy = player_losses[0].new_zeros(())
    for loss, parameters in zip(player_losses, player_parameters, strict=True):
        gradients = torch.autograd.grad(loss, list(parameters), create_graph=True)
        energy = energy + sum(gradient.square().sum() for gradient in gradients) / 2
    return energy


class Penalty(Protocol):
    """What a discriminator pays for its gradient."""

    def __call__(
        self,
        critic: Callable[[Tensor], Tensor],
        real: Tensor,
        fake: Tensor,
        augmentation: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """One number, with graph.

        Args:
            critic: from images to logits ``(batch, 1, *spatial)``.
            real: ``(batch, channel, *spatial)``.
            fake: of the same shape.
            augmentation: what the critic sees of an image.
        """


class R1:
    """Half the squared gradient on real images, see `r1_penalty`; weigh it by gamma."""

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, augmentation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        return 0.5 * _on(critic, real, augmentation)


class R1R2:
    """Half the squared gradients on real and on generated images (R3GAN, Huang et al. 2024); weigh it by gamma."""

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, augmentation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        return 0.5 * (_on(critic, real, augmentation) + _on(critic, fake, augmentation))


class GradientPenalty:
    """WGAN-GP's, see `gradient_penalty`; weigh it by lambda."""

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, augmentation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        return gradient_penalty(critic, augmentation(real), augmentation(fake))


_PENALTIES: dict[str, Callable[[], Penalty | None]] = {
    "none": lambda: None,
    "r1": R1,
    "r1_r2": R1R2,
    "wgan_gp": GradientPenalty,
}


def discriminator_penalty(name: str) -> Penalty | None:
    """The penalty of that name; None for ``none``.

    Raises:
        SettingError: no penalty has this name.
    """
    if name not in _PENALTIES:
        raise SettingError(f"penalty is '{name}'; choose {', '.join(_PENALTIES)}.")
    return _PENALTIES[name]()


def _on(critic: Callable[[Tensor], Tensor], images: Tensor, augmentation: Callable[[Tensor], Tensor]) -> Tensor:
    images = images.detach().clone().requires_grad_()
    return r1_penalty(critic(augmentation(images)), images)
