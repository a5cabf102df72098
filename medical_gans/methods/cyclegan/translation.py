"""The two ways to learn MR to CT: CycleGAN on unpaired data, and a conditional GAN on registered pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from medical_gans.errors import SettingError
from medical_gans.losses import gradient_correlation_loss, mind_loss
from medical_gans.methods.cyclegan.image_pool import ImagePool
from medical_gans.methods.cyclegan.step import TranslationStep

STRUCTURE_LOSSES = {"mind": mind_loss, "gradient_correlation": gradient_correlation_loss}


class CycleGan(TranslationStep):
    """Unpaired training of two generators against two discriminators.

    Loss of the generators (Zhu et al. 2017, equation 3): adversarial terms in both directions, cycle_weight times the
    L1 difference of each image to itself after there and back, identity_weight times the L1 change of a CT given
    to MR-to-CT (and of an MR the other way), structure_weight times a contrast-free difference in structure
    between each image and its translation, without which anatomy may shift.

    Args:
        mr_to_ct: the generator that ships.
        ct_to_mr: the generator back.
        ct_discriminator: tells real CT from synthetic CT.
        mr_discriminator: tells real MR from synthetic MR.
        cycle_weight: 10 in the paper.
        identity_weight: 0 by default: MR to CT is not asked to let CT pass.
        structure_weight: 0 leaves structure to the cycle, as the paper did.
        structure: ``"mind"`` or ``"gradient_correlation"``.
        pool_size: images of history per discriminator, 50 in the paper.
        seed: of the pools.
        options: see `TranslationStep`.
    """

    def __init__(
        self,
        mr_to_ct: nn.Module,
        ct_to_mr: nn.Module,
        ct_discriminator: nn.Module,
        mr_discriminator: nn.Module,
        *,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        structure_weight: float = 0.0,
        structure: str = "mind",
        pool_size: int = 50,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if structure not in STRUCTURE_LOSSES:
            raise SettingError(f"structure is '{structure}'; choose {' or '.join(STRUCTURE_LOSSES)}.")
        super().__init__(
            {"mr_to_ct": mr_to_ct, "ct_to_mr": ct_to_mr},
            {"ct": ct_discriminator, "mr": mr_discriminator},
            **options,
        )
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.structure_weight = structure_weight
        self.structure_loss = STRUCTURE_LOSSES[structure]
        self.pools = {"ct": ImagePool(pool_size, seed), "mr": ImagePool(pool_size, seed + 1)}

    def generator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        to_ct, to_mr = self.generators["mr_to_ct"], self.generators["ct_to_mr"]
        synthetic_ct, synthetic_mr = to_ct(mr), to_mr(ct)
        cycle_mr, cycle_ct = to_mr(synthetic_ct), to_ct(synthetic_mr)
        terms = {
            "adversarial_ct": self._fooling("ct", synthetic_ct, ct),
            "adversarial_mr": self._fooling("mr", synthetic_mr, mr),
            "cycle_mr": self.cycle_weight * l1_loss(cycle_mr, mr),
            "cycle_ct": self.cycle_weight * l1_loss(cycle_ct, ct),
        }
        if self.identity_weight:
            kept = l1_loss(to_ct(ct), ct) + l1_loss(to_mr(mr), mr)
            terms["identity"] = self.identity_weight * kept
        if self.structure_weight:
            middle = slice(mr.shape[1] // 2, mr.shape[1] // 2 + 1)
            moved = self.structure_loss(mr[:, middle], synthetic_ct[:, middle])
            moved = moved + self.structure_loss(ct[:, middle], synthetic_mr[:, middle])
            terms["structure"] = self.structure_weight * moved
        made = {"synthetic_ct": synthetic_ct, "cycle_mr": cycle_mr, "synthetic_mr": synthetic_mr, "cycle_ct": cycle_ct}
        self.images = {"mr": mr, "ct": ct, **{name: image.detach().float() for name, image in made.items()}}
        return terms

    def discriminator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        return {
            "discriminator_ct": self._judging("ct", ct, self.pools["ct"](self.images["synthetic_ct"])),
            "discriminator_mr": self._judging("mr", mr, self.pools["mr"](self.images["synthetic_mr"])),
        }

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pools": {n: p.state_dict() for n, p in self.pools.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name, pool in self.pools.items():
            pool.load_state_dict(state["pools"][name])


class PairedTranslation(TranslationStep):
    """Conditional GAN with L1 on registered pairs: Wolterink's comparison, Isola et al. 2017, equation 4.

    Where a batch says that a CT is not to be trusted (``"trusted"``, -1), neither the difference nor the discriminator
    sees it.

    Args:
        mr_to_ct: the generator that ships.
        ct_discriminator: judges MR and CT together: twice the channels of the CT.
        paired_weight: weight of the L1 difference to the true CT, 100 in the paper.
        options: see `TranslationStep`.
    """

    def __init__(
        self, mr_to_ct: nn.Module, ct_discriminator: nn.Module, *, paired_weight: float = 100.0, **options: Any
    ) -> None:
        super().__init__({"mr_to_ct": mr_to_ct}, {"ct": ct_discriminator}, **options)
        self.paired_weight = paired_weight
        self._trust: Tensor | None = None

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        trusted = batch.get("trusted")
        self._trust = None if trusted is None else (trusted.to(self.device, non_blocking=True) + 1) / 2
        return super().__call__(batch)

    def generator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        synthetic_ct = self.generators["mr_to_ct"](mr)
        self.images = {"mr": mr, "synthetic_ct": synthetic_ct.detach().float(), "ct": ct}
        return {
            "adversarial_ct": self._fooling("ct", self._judged(mr, synthetic_ct), self._judged(mr, ct)),
            "paired": self.paired_weight * self._difference(synthetic_ct, ct),
        }

    def discriminator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        fake = self._judged(mr, self.images["synthetic_ct"])
        return {"discriminator_ct": self._judging("ct", self._judged(mr, ct), fake)}

    def _difference(self, synthetic_ct: Tensor, ct: Tensor) -> Tensor:
        """L1, the mean over what is trusted."""
        if self._trust is None:
            return l1_loss(synthetic_ct, ct)
        return (self._trust * (synthetic_ct - ct).abs()).sum() / self._trust.sum().clamp(min=1)

    def _judged(self, mr: Tensor, ct: Tensor) -> Tensor:
        """MR beside a CT, which is air where the true one is not trusted."""
        shown = ct if self._trust is None else self._trust * (ct + 1) - 1
        return torch.cat([mr, shown], 1)


def translation_step(
    *,
    paired: bool,
    mr_to_ct: nn.Module,
    ct_to_mr: nn.Module,
    ct_discriminator: nn.Module,
    mr_discriminator: nn.Module,
    paired_weight: float = 100.0,
    cycle_weight: float = 10.0,
    identity_weight: float = 0.0,
    structure_weight: float = 0.0,
    structure: str = "mind",
    pool_size: int = 50,
    seed: int = 0,
    **options: Any,
) -> TranslationStep:
    """`PairedTranslation` or `CycleGan` by one setting; what the other one needs is left unused."""
    if paired:
        return PairedTranslation(mr_to_ct, ct_discriminator, paired_weight=paired_weight, **options)
    return CycleGan(
        mr_to_ct,
        ct_to_mr,
        ct_discriminator,
        mr_discriminator,
        cycle_weight=cycle_weight,
        identity_weight=identity_weight,
        structure_weight=structure_weight,
        structure=structure,
        pool_size=pool_size,
        seed=seed,
        **options,
    )
