"""Conditional GAN on registered pairs, Wolterink's comparison (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medical_gans.errors import SettingError
from medical_gans.losses import fooling_loss, judging_loss
from medical_gans.training.player import Method, Player


class ConditionalGan(Method):
    """A generator from MR to CT against a discriminator that sees MR and CT together.

    The generator minimises L_adv(x, G(x)) + paired |G(x) - y| (Isola et al. 2017, equation 4), the discriminator its
    adversarial loss between (x, y) and (x, G(x)).

    Args:
        generators: with the network ``mr_to_ct``, which ships.
        discriminators: with the network ``ct``, of twice the channels of the CT.
        losses: ``adversarial`` (see `losses.AdversarialObjective`) and ``paired``, of two images. A batch has ``mr``
            and ``ct``, ``(batch, channel, *spatial)`` in [-1, 1], voxel by voxel the same place. It may have
            ``trusted``, -1 where the CT is not to be believed: there the synthetic CT stands for it in all losses.
        weights: of the losses; 100 for ``paired`` in the paper.
        gradient_penalty_weight: of R1 + R2 on the discriminator's inputs; 0 leaves them out.

    Raises:
        SettingError: a loss or a weight is missing.
    """

    def __init__(
        self,
        generators: Player,
        discriminators: Player,
        losses: Mapping[str, Any],
        weights: Mapping[str, float],
        *,
        gradient_penalty_weight: float = 0.0,
    ) -> None:
        for name in ("adversarial", "paired"):
            if losses.get(name) is None or name not in weights:
                raise SettingError(f"The conditional GAN needs the loss '{name}' and its weight.")
        super().__init__({"generators": generators, "discriminators": discriminators}, ("generators", "mr_to_ct"))
        self.generators, self.discriminators = generators, discriminators
        self.losses, self.weights = dict(losses), dict(weights)
        self.gradient_penalty_weight = gradient_penalty_weight
        self._trust: Tensor | None = None

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update generator, then discriminator, once."""
        mr, ct = (batch[side].to(self.generators.device, non_blocking=True) for side in ("mr", "ct"))
        trusted = batch.get("trusted")
        self._trust = None if trusted is None else (trusted.to(self.generators.device, non_blocking=True) + 1) / 2
        self.generators.begin()
        self.discriminators.begin()
        with self.generators.autocast(), self.discriminators.frozen():
            terms = self.generator_terms(mr, ct)
        self.generators.descend(torch.stack(list(terms.values())).sum())
        with self.discriminators.autocast():
            judged = self.discriminator_terms(mr, ct)
        self.discriminators.descend(torch.stack(list(judged.values())).sum())
        return {name: float(value.detach()) for name, value in {**terms, **judged}.items()}

    def generator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the generator's loss, by name; `images` holds what was made."""
        synthetic_ct = self.generators["mr_to_ct"](mr)
        self.images = {"mr": mr, "synthetic_ct": synthetic_ct.detach().float(), "ct": ct}
        believed = self._believed(ct, synthetic_ct)
        fake, real = torch.cat([mr, synthetic_ct], 1), torch.cat([mr, believed], 1)
        fooling = fooling_loss(self.losses["adversarial"], self.discriminators["ct"], fake, real)
        return {
            "adversarial_ct": self.weights["adversarial"] * fooling,
            "paired": self.weights["paired"] * self.losses["paired"](synthetic_ct, believed),
        }

    def discriminator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        """Loss of the discriminator, by name."""
        synthetic_ct = self.images["synthetic_ct"]
        fake, real = torch.cat([mr, synthetic_ct], 1), torch.cat([mr, self._believed(ct, synthetic_ct)], 1)
        judged = judging_loss(
            self.losses["adversarial"], self.discriminators["ct"], real, fake, self.gradient_penalty_weight
        )
        return {"discriminator_ct": judged}

    def _believed(self, ct: Tensor, synthetic_ct: Tensor) -> Tensor:
        """The true CT, and the synthetic one, without a gradient, where the true one is not trusted."""
        return ct if self._trust is None else torch.lerp(synthetic_ct.detach().to(ct.dtype), ct, self._trust)
