"""CycleGAN: two kinds of images, no pairs (Zhu et al. 2017; for MR to CT Wolterink et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medical_gans.errors import SettingError
from medical_gans.losses import fooling_loss, judging_loss
from medical_gans.training.player import Method, Player

_LOSSES = {"adversarial", "cycle", "identity", "structure"}


class ImagePool:
    """History of generated images shown to the discriminator (Shrivastava et al. 2017, section 2.3).

    Once full, each image is replaced by an older one with probability one half. Choices come from a generator of
    its own, so that a resumed run draws the same ones.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Tensor) -> Tensor:
        """Swap images ``(batch, channel, *spatial)`` for a mixture of new and old ones."""
        if self.size == 0:
            return batch
        shown = []
        for image in batch.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                shown.append(image)
            elif torch.rand((), generator=self.generator) < 0.5:
                index = int(torch.randint(self.size, (), generator=self.generator))
                shown.append(self.images[index])
                self.images[index] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, Any]:
        """The images and the state of the choices."""
        return {"images": list(self.images), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.images = list(state["images"])
        self.generator.set_state(state["generator"])


class CycleGan(Method):
    """Two generators against two discriminators.

    With sides x and y, G: x to y and F: y to x, the generators minimise (Zhu et al. 2017, equation 3)

        L_adv(G, D_y) + L_adv(F, D_x) + cycle (|F(G(x)) - x| + |G(F(y)) - y|)
        + identity (|G(y) - y| + |F(x) - x|) + structure (S(x, G(x)) + S(y, F(y)))

    and each discriminator its adversarial loss. The structure term S compares images whatever their contrast; without
    it anatomy may shift.

    Args:
        generators: with networks ``x_to_y``, which ships, and ``y_to_x``: by default ``mr_to_ct`` and ``ct_to_mr``.
        discriminators: with networks of the names of the sides.
        losses: ``adversarial`` (see `losses.AdversarialObjective`), ``cycle``, ``identity``, ``structure``, each of two
            images. A batch has both sides, ``(batch, channel, *spatial)`` in [-1, 1].
        weights: of the losses; a loss without a weight, or with 0, is left out.
        sides: names of x and y.
        gradient_penalty_weight: of R1 + R2 on the discriminators' inputs; 0 leaves them out.
        pool_size: images of history per discriminator, 50 in the paper.
        seed: of the pools.

    Raises:
        SettingError: a loss is missing, or not known.
    """

    def __init__(
        self,
        generators: Player,
        discriminators: Player,
        losses: Mapping[str, Any],
        weights: Mapping[str, float],
        *,
        sides: tuple[str, str] = ("mr", "ct"),
        gradient_penalty_weight: float = 0.0,
        pool_size: int = 50,
        seed: int = 0,
    ) -> None:
        x, y = sides
        for name in {*losses, *weights} - _LOSSES:
            raise SettingError(f"CycleGAN has no loss '{name}'; it has {', '.join(sorted(_LOSSES))}.")
        for name in (name for name, weight in weights.items() if weight and losses.get(name) is None):
            raise SettingError(f"The loss '{name}' has a weight, but is not given.")
        self.pools = {y: ImagePool(pool_size, seed), x: ImagePool(pool_size, seed + 1)}
        players = {"generators": generators, "discriminators": discriminators}
        super().__init__(players, ("generators", f"{x}_to_{y}"), {f"{side}_pool": p for side, p in self.pools.items()})
        self.generators, self.discriminators = generators, discriminators
        self.losses, self.weights, self.sides = dict(losses), dict(weights), (x, y)
        self.gradient_penalty_weight = gradient_penalty_weight

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update generators, then discriminators, once."""
        real = {side: batch[side].to(self.generators.device, non_blocking=True) for side in self.sides}
        self.generators.begin()
        self.discriminators.begin()
        with self.generators.autocast(), self.discriminators.frozen():
            terms = self.generator_terms(real)
        self.generators.descend(torch.stack(list(terms.values())).sum())
        with self.discriminators.autocast():
            judged = self.discriminator_terms(real)
        self.discriminators.descend(torch.stack(list(judged.values())).sum())
        return {name: float(value.detach()) for name, value in {**terms, **judged}.items()}

    def generator_terms(self, real: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms of the generators' loss, by name; `images` holds what was made."""
        x, y = self.sides
        to_y, to_x = self.generators[f"{x}_to_{y}"], self.generators[f"{y}_to_{x}"]
        made = {x: to_x(real[y])}
        made[y], back_y = self._translate(to_y, real[x], made[x])
        back = {x: to_x(made[y]), y: back_y}
        terms = {}
        for side in (y, x):
            fooling = fooling_loss(self.losses["adversarial"], self.discriminators[side], made[side], real[side])
            terms[f"adversarial_{side}"] = self.weights["adversarial"] * fooling
        if self.weights.get("cycle"):
            terms |= {f"cycle_{s}": self.weights["cycle"] * self.losses["cycle"](back[s], real[s]) for s in (x, y)}
        if self.weights.get("identity"):
            kept = self.losses["identity"](to_y(real[y]), real[y]) + self.losses["identity"](to_x(real[x]), real[x])
            terms["identity"] = self.weights["identity"] * kept
        if self.weights.get("structure"):
            middle = slice(real[x].shape[1] // 2, real[x].shape[1] // 2 + 1)
            moved = self.losses["structure"](real[x][:, middle], made[y][:, middle])
            moved = moved + self.losses["structure"](real[y][:, middle], made[x][:, middle])
            terms["structure"] = self.weights["structure"] * moved
        shown = {f"synthetic_{y}": made[y], f"cycle_{x}": back[x], f"synthetic_{x}": made[x], f"cycle_{y}": back[y]}
        self.images = {**real, **{name: image.detach().float() for name, image in shown.items()}}
        return terms

    def _translate(self, generator: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
        """Translate batches in one pass, which is faster, or one by one where a norm would tell the difference."""
        if any(isinstance(module, nn.modules.batchnorm._NormBase) for module in generator.modules()):
            return tuple(generator(batch) for batch in batches)
        return generator(torch.cat(batches)).split([len(batch) for batch in batches])  # type: ignore[no-any-return]

    def discriminator_terms(self, real: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of each discriminator, by name, on real images and on a history of generated ones."""
        terms = {}
        for side in reversed(self.sides):
            fake = self.pools[side](self.images[f"synthetic_{side}"])
            terms[f"discriminator_{side}"] = judging_loss(
                self.losses["adversarial"], self.discriminators[side], real[side], fake, self.gradient_penalty_weight
            )
        return terms
