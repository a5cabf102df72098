"""The f-divergences of f-GAN (Nowozin, Cseke and Tomioka 2016) as adversarial objectives.

With v = V(x) the raw output of the discriminator, g the output activation and f* the Fenchel
conjugate of f, the bound on D_f(real || fake) is (their equation 6)

    F = E_real[g(v)] - E_fake[f*(g(v))].

The discriminator maximises F. Every g is increasing, so a larger v means "more real".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FDivergence:
    """One divergence D_f(P || Q) = E_Q[f(p / q)].

    Attributes:
        f: convex generator with f(1) = 0 (f(1) = -log 4 for `gan`), of the ratio u > 0.
        activation: g, from a raw logit into the domain of `conjugate`.
        conjugate: f*(t) = sup_u (u t - f(u)).
        conjugate_of_activation: v -> f*(g(v)) in closed form, which neither cancels nor leaves the
            domain of f* where the two functions in turn would.
    """

    f: Elementwise
    activation: Elementwise
    conjugate: Elementwise
    conjugate_of_activation: Elementwise

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-F, equation 6 with its sign turned so that it is minimised."""
        return self.conjugate_of_activation(fake_logits).mean() - self.activation(real_logits).mean()

    def generator_loss(self, fake_logits: Tensor, *, minimax: bool = False) -> Tensor:
        """What the generator minimises.

        By default -E_fake[g(v)], the alternative of their section 3.2: it has a useful gradient while the
        discriminator wins, as the non-saturating loss of Goodfellow has. `minimax=True` gives
        -E_fake[f*(g(v))], the generator's part of F itself.
        """
        score = self.conjugate_of_activation if minimax else self.activation
        return -score(fake_logits).mean()


def _jensen_shannon(u: Tensor) -> Tensor:
    return torch.xlogy(u, u) - (u + 1) * torch.log((1 + u) / 2)


F_DIVERGENCES: dict[str, FDivergence] = {
    "kl": FDivergence(
        f=lambda u: torch.xlogy(u, u),
        activation=lambda v: v,
        conjugate=lambda t: torch.exp(t - 1),
        conjugate_of_activation=lambda v: torch.exp(v - 1),
    ),
    "reverse_kl": FDivergence(
        f=lambda u: -torch.log(u),
        activation=lambda v: -torch.exp(-v),
        conjugate=lambda t: -1 - torch.log(-t),
        conjugate_of_activation=lambda v: v - 1,
    ),
    # As in the paper f is taken on the whole real line here, so f* has no kink at t = -2.
    "pearson": FDivergence(
        f=lambda u: (u - 1) ** 2,
        activation=lambda v: v,
        conjugate=lambda t: t**2 / 4 + t,
        conjugate_of_activation=lambda v: v**2 / 4 + v,
    ),
    "neyman": FDivergence(
        f=lambda u: (1 - u) ** 2 / u,
        activation=lambda v: -torch.expm1(-v),
        conjugate=lambda t: 2 - 2 * torch.sqrt(1 - t),
        conjugate_of_activation=lambda v: -2 * torch.expm1(-v / 2),
    ),
    "hellinger": FDivergence(
        f=lambda u: (torch.sqrt(u) - 1) ** 2,
        activation=lambda v: -torch.expm1(-v),
        conjugate=lambda t: t / (1 - t),
        conjugate_of_activation=torch.expm1,
    ),
    "jensen_shannon": FDivergence(
        f=_jensen_shannon,
        activation=lambda v: math.log(2) - softplus(-v),
        conjugate=lambda t: -torch.log(2 - torch.exp(t)),
        conjugate_of_activation=lambda v: softplus(v) - math.log(2),
    ),
    "gan": FDivergence(
        f=lambda u: _jensen_shannon(u) - (u + 1) * math.log(2),
        activation=lambda v: -softplus(-v),
        conjugate=lambda t: -torch.log(-torch.expm1(t)),
        conjugate_of_activation=softplus,
    ),
}
