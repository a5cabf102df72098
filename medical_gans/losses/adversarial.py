"""Adversarial objectives: what a discriminator D and a generator G minimise, as functions of logits.

Logits are the raw outputs of D, of shape `(batch, 1, *spatial)`: one value for an image or one for
each patch. All losses are means over every logit. In the equations x is real and y = G(.) is fake.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.functional import relu, softplus

from medical_gans.errors import SettingError
from medical_gans.losses.f_divergence import F_DIVERGENCES, FDivergence
from medical_gans.losses.penalties import r1_penalty, r2_penalty


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[(D(x) - 1)^2] / 2 + E[D(y)^2] / 2 (Mao et al. 2017, equation 9)."""
    return ((real_logits - 1) ** 2).mean() / 2 + (fake_logits**2).mean() / 2


def least_squares_generator_loss(fake_logits: Tensor) -> Tensor:
    """E[(D(y) - 1)^2], without Mao's factor 1/2, as in CycleGAN (Zhu et al. 2017, section 4)."""
    return ((fake_logits - 1) ** 2).mean()


def goodfellow_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log s(D(x))] - E[log(1 - s(D(y)))] with s the sigmoid (Goodfellow et al. 2014, equation 1)."""
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def goodfellow_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[log s(D(y))], the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake_logits).mean()


def goodfellow_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """E[log(1 - s(D(y)))], the minimax game itself (Goodfellow et al. 2014, equation 1)."""
    return -softplus(fake_logits).mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(y))] (Miyato et al. 2018, equation 16)."""
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[D(y)] - E[D(x)] (Arjovsky et al. 2017, equation 2); D must be kept Lipschitz, see `penalties`."""
    return fake_logits.mean() - real_logits.mean()


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[D(y)] (Arjovsky et al. 2017); also the generator's part of the hinge objective."""
    return -fake_logits.mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(-(D(x) - D(y)))] over pairs in batch order (R3GAN, Huang et al. 2024, equation 2).

    Raises:
        ValueError: the logits cannot be paired because their shapes differ.
    """
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"The relativistic objective pairs real with fake logits and needs equal shapes, "
            f"got {tuple(real_logits.shape)} and {tuple(fake_logits.shape)}."
        )
    return softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """E[softplus(-(D(y) - D(x)))], the pairing seen from the other side."""
    return relativistic_discriminator_loss(real_logits=fake_logits, fake_logits=real_logits)


@dataclass(frozen=True)
class AdversarialObjective:
    """A pair of losses to minimise in turn.

    Attributes:
        name: the name by which `adversarial_objective` found it.
        discriminator_loss: of (real_logits, fake_logits).
        needs_real: the generator's loss takes the real logits too.
    """

    name: str
    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    _generator_loss: Callable[..., Tensor]
    needs_real: bool = False

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Loss of the generator; `real_logits` is read only where `needs_real`.

        Raises:
            ValueError: the objective needs the real logits and there are none.
        """
        if not self.needs_real:
            return self._generator_loss(fake_logits)
        if real_logits is None:
            raise ValueError(f"The generator's loss of '{self.name}' needs the real logits.")
        return self._generator_loss(fake_logits, real_logits)


def logits_of(judged: Tensor | Sequence[Tensor]) -> Tensor:
    """Logits of a discriminator, which come last where it gives its feature maps as well."""
    return judged if isinstance(judged, Tensor) else judged[-1]


def fooling_loss(objective: AdversarialObjective, judge: Callable[[Tensor], Any], fake: Tensor, real: Tensor) -> Tensor:
    """What a generator minimises against a judge."""
    real_logits = logits_of(judge(real)) if objective.needs_real else None
    return objective.generator_loss(logits_of(judge(fake)), real_logits)


def judging_loss(
    objective: AdversarialObjective,
    judge: Callable[[Tensor], Any],
    real: Tensor,
    fake: Tensor,
    gradient_penalty_weight: float = 0.0,
) -> Tensor:
    """What a judge minimises, with R1 + R2 (Huang et al. 2024, equation 3) of that weight, halved as published."""
    penalised = gradient_penalty_weight > 0
    real, fake = real.detach().requires_grad_(penalised), fake.detach().requires_grad_(penalised)
    real_logits, fake_logits = logits_of(judge(real)), logits_of(judge(fake))
    loss = objective.discriminator_loss(real_logits, fake_logits)
    if penalised:
        loss = loss + 0.5 * gradient_penalty_weight * (r1_penalty(real_logits, real) + r2_penalty(fake_logits, fake))
    return loss


def _of_divergence(name: str, divergence: FDivergence) -> AdversarialObjective:
    generator_loss = partial(divergence.generator_loss, minimax=False)
    return AdversarialObjective(name, divergence.discriminator_loss, generator_loss)


_OBJECTIVES = {
    objective.name: objective
    for objective in (
        AdversarialObjective("least_squares", least_squares_discriminator_loss, least_squares_generator_loss),
        AdversarialObjective("goodfellow", goodfellow_discriminator_loss, goodfellow_generator_loss),
        AdversarialObjective(
            "goodfellow_saturating", goodfellow_discriminator_loss, goodfellow_saturating_generator_loss
        ),
        AdversarialObjective("hinge", hinge_discriminator_loss, wasserstein_generator_loss),
        AdversarialObjective("wasserstein", wasserstein_discriminator_loss, wasserstein_generator_loss),
        AdversarialObjective(
            "relativistic", relativistic_discriminator_loss, relativistic_generator_loss, needs_real=True
        ),
        *(_of_divergence(f"f_{name}", divergence) for name, divergence in F_DIVERGENCES.items()),
    )
}


def adversarial_objective(name: str) -> AdversarialObjective:
    """The objective of that name.

    Raises:
        SettingError: no objective has this name; the message gives the nearest.
    """
    if name in _OBJECTIVES:
        return _OBJECTIVES[name]
    nearest = difflib.get_close_matches(name, _OBJECTIVES, n=1, cutoff=0.0)[0]
    raise SettingError(
        f"Unknown adversarial objective '{name}', did you mean '{nearest}'? Known are {', '.join(_OBJECTIVES)}."
    )
