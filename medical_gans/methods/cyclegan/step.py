"""What unpaired and paired training share: optimisers, schedule, running average, clipping, processes, state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medical_gans.losses import adversarial_objective, r1_penalty, r2_penalty
from medical_gans.networks import fast_layout
from medical_gans.training.parallel import average_gradients, share_weights
from medical_gans.training.schedules import continue_descent, descent_state, flat_then_linear_schedules


class TranslationStep:
    """One update of generators, then discriminators; subclasses say which losses.

    Args:
        generators: networks that generate, by name; ``"mr_to_ct"`` is the one that ships.
        discriminators: networks that judge, by name.
        objective: name of an adversarial objective (`losses.adversarial_objective`).
        adversarial_weight: weight of the adversarial term of the generators.
        gradient_penalty_weight: weight of R1 + R2 on the discriminators' inputs; 0 leaves them out.
        learning_rate: of Adam.
        fine_tuning_rate: learning rate of the shipped generator relative to the others'; small where it starts from
            good weights and they do not.
        discriminator_learning_rate: of the discriminators, if another (Heusel et al. 2017); None takes the same.
        betas: of Adam.
        flat_epochs: epochs at the full learning rate.
        decay_epochs: epochs of linear decay that follow.
        ema_decay: decay of the running average of the shipped generator per step; 0 ships the last weights.
        clip_norm: largest norm of the gradient of all generators, or of one discriminator; 0 does not clip.
        hold_steps: steps at the start in which the shipped generator stays as it is while the others catch up;
            for generators that start from given weights.
        amp: automatic mixed precision; acts on a GPU only.
        device: where the networks are.
    """

    def __init__(
        self,
        generators: Mapping[str, nn.Module],
        discriminators: Mapping[str, nn.Module],
        *,
        objective: str = "least_squares",
        adversarial_weight: float = 1.0,
        gradient_penalty_weight: float = 0.0,
        learning_rate: float = 2e-4,
        fine_tuning_rate: float = 1.0,
        discriminator_learning_rate: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        flat_epochs: int = 100,
        decay_epochs: int = 100,
        ema_decay: float = 0.999,
        clip_norm: float = 0.0,
        hold_steps: int = 0,
        amp: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.generators = fast_layout(nn.ModuleDict(generators).to(self.device))
        self.discriminators = fast_layout(nn.ModuleDict(discriminators).to(self.device))
        self.objective = adversarial_objective(objective)
        self.adversarial_weight = adversarial_weight
        self.gradient_penalty_weight = gradient_penalty_weight
        self.clip_norm = clip_norm
        self.hold_steps = hold_steps
        self.steps = 0
        self.amp = amp and self.device.type == "cuda"
        average = get_ema_multi_avg_fn(ema_decay)
        self.averaged = AveragedModel(self.generators["mr_to_ct"], multi_avg_fn=average, use_buffers=True)
        for module in (self.generators, self.discriminators):
            share_weights(module)
        moments = (betas[0], betas[1])
        groups = [
            {"params": list(g.parameters()), "lr": learning_rate * (fine_tuning_rate if n == "mr_to_ct" else 1.0)}
            for n, g in self.generators.items()
        ]
        judges_rate = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
        self.optimisers = {
            "generators": torch.optim.Adam(groups, learning_rate, betas=moments),
            "discriminators": torch.optim.Adam(self.discriminators.parameters(), judges_rate, betas=moments),
        }
        self.schedules = flat_then_linear_schedules(self.optimisers, flat_epochs, decay_epochs)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        self.images: dict[str, Tensor] = {}

    @property
    def shipped(self) -> nn.Module:
        """The MR-to-CT generator that validation judges and inference uses: the running average."""
        return self.averaged.module

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update generators, then discriminators, once.

        Returns:
            Losses by name; `images` holds what was seen and made.
        """
        mr = batch["mr"].to(self.device, non_blocking=True)
        ct = batch["ct"].to(self.device, non_blocking=True)
        self.generators.train()
        self.discriminators.train()
        with torch.autocast(self.device.type, enabled=self.amp):
            self.discriminators.requires_grad_(False)
            self.generators["mr_to_ct"].requires_grad_(self.steps >= self.hold_steps)
            terms = self.generator_terms(mr, ct)
        self._descend("generators", sum(terms.values(), start=torch.zeros((), device=self.device)))
        self.discriminators.requires_grad_(True)
        with torch.autocast(self.device.type, enabled=self.amp):
            judged = self.discriminator_terms(mr, ct)
        self._descend("discriminators", sum(judged.values(), start=torch.zeros((), device=self.device)))
        self.scaler.update()
        self.averaged.update_parameters(self.generators["mr_to_ct"])
        self.steps += 1
        return {name: float(value.detach()) for name, value in {**terms, **judged}.items()}

    def generator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the generators' loss."""
        raise NotImplementedError

    def discriminator_terms(self, mr: Tensor, ct: Tensor) -> dict[str, Tensor]:
        """Loss of each discriminator."""
        raise NotImplementedError

    def end_epoch(self) -> None:
        """Advance the learning-rate schedules."""
        for schedule in self.schedules.values():
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "generators": self.generators.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "averaged": self.averaged.state_dict(),
            **descent_state(self.optimisers, self.schedules, self.scaler),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.generators.load_state_dict(state["generators"])
        self.discriminators.load_state_dict(state["discriminators"])
        self.averaged.load_state_dict(state["averaged"])
        continue_descent(state, self.optimisers, self.schedules, self.scaler)
        self.steps = state["steps"]

    def _fooling(self, name: str, fake: Tensor, real: Tensor) -> Tensor:
        """Weighted adversarial term of a generator against discriminator `name`."""
        judge = self.discriminators[name]
        real_logits = judge(real)[-1] if self.objective.needs_real else None
        return self.adversarial_weight * self.objective.generator_loss(judge(fake)[-1], real_logits)

    def _judging(self, name: str, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of discriminator `name`, with R1 + R2 (Huang et al. 2024) if asked."""
        judge = self.discriminators[name]
        penalised = self.gradient_penalty_weight > 0
        real, fake = real.detach().requires_grad_(penalised), fake.detach().requires_grad_(penalised)
        real_logits, fake_logits = judge(real)[-1], judge(fake)[-1]
        loss = self.objective.discriminator_loss(real_logits, fake_logits)
        if penalised:
            penalty = r1_penalty(real_logits, real) + r2_penalty(fake_logits, fake)
            loss = loss + 0.5 * self.gradient_penalty_weight * penalty
        return loss

    def _descend(self, who: str, loss: Tensor) -> None:
        optimiser = self.optimisers[who]
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        networks = [self.generators] if who == "generators" else list(self.discriminators.values())
        average_gradients(p for n in networks for p in n.parameters())
        self.scaler.unscale_(optimiser)
        if self.clip_norm > 0:
            for network in networks:
                nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)
        self.scaler.step(optimiser)
