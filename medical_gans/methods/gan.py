"""One update of a generator from noise and its discriminator, with or without classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medical_gans.errors import SettingError
from medical_gans.losses import adversarial_objective, consensus_regulariser, gradient_penalty, r1_penalty, r2_penalty
from medical_gans.networks import fast_layout
from medical_gans.training.parallel import average_gradients, own_noise, share_weights
from medical_gans.training.schedules import continue_descent, descent_state, flat_then_linear_schedules

_CALIBRATION_BATCHES = 16
PENALTIES = ("none", "r1", "r1_r2", "wgan_gp")


class AdversarialStep:
    """Updates the discriminator, and every `critic_steps` calls the generator; keeps a running average of the latter.

    A batch has ``image`` ``(batch, 1, *spatial)`` in [-1, 1] and, for networks with classes, ``label`` ``(batch,)``.
    Generated images get the labels of the real ones, so both sides see each class equally often.

    Args:
        generator: of ``(latent, label)``, with attributes ``latent_size`` and ``num_classes``.
        discriminator: of ``(image, label)`` to logits ``(batch, 1)``.
        objective: name of an adversarial objective (`losses.adversarial_objective`).
        penalty: ``"none"``, ``"r1"`` (Mescheder et al. 2018), ``"r1_r2"`` (R3GAN) or ``"wgan_gp"``.
        penalty_weight: gamma of R1 and R2 (halved as published), lambda of WGAN-GP.
        penalty_every: steps between two penalties, each then weighted by as much (Karras et al. 2020, appendix B).
        consensus_weight: gamma of consensus optimisation (Mescheder et al. 2017); 0 for plain alternating steps.
        critic_steps: updates of the discriminator per update of the generator; 5 for WGAN-GP.
        augmentation: changes everything that the discriminator sees; None changes nothing.
        learning_rate: of Adam, generator.
        discriminator_learning_rate: of Adam, discriminator; None takes the same.
        betas: of Adam.
        flat_epochs: epochs at the full learning rate.
        decay_epochs: epochs of linear decay that follow.
        ema_decay: per update of the generator, of the running average that ships; 0 ships the last weights.
        amp: automatic mixed precision; acts on a GPU only, and not with consensus.
        device: where the networks are.

    Raises:
        SettingError: unknown penalty, or a choice that cannot go with consensus optimisation.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        objective: str = "hinge",
        penalty: str = "none",
        penalty_weight: float = 1.0,
        penalty_every: int = 1,
        consensus_weight: float = 0.0,
        critic_steps: int = 1,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        learning_rate: float = 2e-4,
        discriminator_learning_rate: float | None = None,
        betas: tuple[float, float] = (0.0, 0.9),
        flat_epochs: int = 100,
        decay_epochs: int = 0,
        ema_decay: float = 0.999,
        amp: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if penalty not in PENALTIES:
            raise SettingError(f"penalty is '{penalty}'; choose {', '.join(PENALTIES)}.")
        if consensus_weight > 0 and critic_steps != 1:
            raise SettingError("Consensus optimisation moves both players together: set critic_steps to 1.")
        self.device = torch.device(device)
        self.generator = fast_layout(nn.ModuleDict({"generator": generator}).to(self.device))["generator"]
        self.discriminator = fast_layout(nn.ModuleDict({"d": discriminator}).to(self.device))["d"]
        self.objective = adversarial_objective(objective)
        self.penalty, self.penalty_weight, self.penalty_every = penalty, penalty_weight, penalty_every
        self.consensus_weight, self.critic_steps = consensus_weight, critic_steps
        self.augmentation = augmentation or (lambda images: images)
        self.amp = amp and self.device.type == "cuda" and consensus_weight == 0
        average = get_ema_multi_avg_fn(ema_decay)
        self.averaged = AveragedModel(self.generator, multi_avg_fn=average, use_buffers=True)
        self._label: Tensor | None = None
        for module in (self.generator, self.discriminator):
            share_weights(module)
        judges_rate = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
        moments = (betas[0], betas[1])
        self.optimisers = {
            "generator": torch.optim.Adam(self.generator.parameters(), learning_rate, betas=moments),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), judges_rate, betas=moments),
        }
        self.schedules = flat_then_linear_schedules(self.optimisers, flat_epochs, decay_epochs)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        self.steps = 0
        self.images: dict[str, Tensor] = {}
        self._generator_loss = 0.0

    @property
    def shipped(self) -> nn.Module:
        """The running average of the generator."""
        return self.averaged.module

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update once.

        Returns:
            Losses of both players, and the share of images that the discriminator judges right.
        """
        real = batch["image"].to(self.device, non_blocking=True)
        label = batch["label"].to(self.device) if self.generator.num_classes else None
        self._label = label
        self.generator.train()
        self.discriminator.train()
        latent = own_noise(len(real), int(self.generator.latent_size), self.device)  # type: ignore[arg-type]
        update = self._consensus_update if self.consensus_weight else self._alternating_update
        losses = update(real, label, latent)
        self.scaler.update()
        self.steps += 1
        return losses

    def _alternating_update(self, real: Tensor, label: Tensor | None, latent: Tensor) -> dict[str, float]:
        moves_generator = (self.steps + 1) % self.critic_steps == 0
        with torch.autocast(self.device.type, enabled=self.amp), torch.set_grad_enabled(moves_generator):
            fake = self.generator(latent, label)
        with torch.autocast(self.device.type, enabled=self.amp):
            loss, accuracy = self._discriminator_loss(real, fake.detach(), label)
            if self.penalty != "none" and self.steps % self.penalty_every == 0:
                loss = loss + self._penalty(real, fake.detach(), label)
        self._descend("discriminator", loss)
        if moves_generator:
            self.discriminator.requires_grad_(False)
            with torch.autocast(self.device.type, enabled=self.amp):
                fooling = self._fooling_loss(real, fake, label)
            self._descend("generator", fooling)
            self.discriminator.requires_grad_(True)
            self.averaged.update_parameters(self.generator)
            self._generator_loss = float(fooling.detach())
        self.images = {"real": real, "generated": fake.detach().float()}
        judged = float(loss.detach())
        return {"generator": self._generator_loss, "discriminator": judged, "discriminator_accuracy": accuracy}

    def _consensus_update(self, real: Tensor, label: Tensor | None, latent: Tensor) -> dict[str, float]:
        """Both players at once, each with the gradient of the common regulariser added."""
        fake = self.generator(latent, label)
        judging, accuracy = self._discriminator_loss(real, fake, label)
        if self.penalty != "none" and self.steps % self.penalty_every == 0:
            judging = judging + self._penalty(real, fake.detach(), label)
        fooling = self._fooling_loss(real, fake, label)
        players = {"generator": list(self.generator.parameters()), "discriminator": self._judging_parameters()}
        regulariser = self.consensus_weight * consensus_regulariser([fooling, judging], list(players.values()))
        gradients = {
            name: torch.autograd.grad(loss + regulariser, players[name], retain_graph=True)
            for name, loss in (("generator", fooling), ("discriminator", judging))
        }
        for name, found in gradients.items():
            for parameter, gradient in zip(players[name], found, strict=True):
                parameter.grad = gradient
            average_gradients(players[name])
            self.optimisers[name].step()
        self.averaged.update_parameters(self.generator)
        self.images = {"real": real, "generated": fake.detach().float()}
        losses = {"generator": fooling, "discriminator": judging, "consensus": regulariser}
        return {**{n: float(v.detach()) for n, v in losses.items()}, "discriminator_accuracy": accuracy}

    def _judging_parameters(self) -> list[nn.Parameter]:
        return list(self.discriminator.parameters())

    def _discriminator_loss(self, real: Tensor, fake: Tensor, label: Tensor | None) -> tuple[Tensor, float]:
        real_logits = self.discriminator(self.augmentation(real), label)
        fake_logits = self.discriminator(self.augmentation(fake), label)
        middle = (real_logits.mean() + fake_logits.mean()).detach() / 2 if self.objective.needs_real else 0.0
        right = ((real_logits > middle).float().mean() + (fake_logits < middle).float().mean()) / 2
        return self.objective.discriminator_loss(real_logits, fake_logits), float(right)

    def _fooling_loss(self, real: Tensor, fake: Tensor, label: Tensor | None) -> Tensor:
        fake_logits = self.discriminator(self.augmentation(fake), label)
        real_logits = self.discriminator(self.augmentation(real), label) if self.objective.needs_real else None
        return self.objective.generator_loss(fake_logits, real_logits)

    def _penalty(self, real: Tensor, fake: Tensor, label: Tensor | None) -> Tensor:
        weight = self.penalty_weight * self.penalty_every
        if self.penalty == "wgan_gp":
            seen, made = self.augmentation(real), self.augmentation(fake)
            return weight * gradient_penalty(lambda images: self.discriminator(images, label), seen, made)
        real = real.detach().clone().requires_grad_()
        penalty = r1_penalty(self.discriminator(self.augmentation(real), label), real)
        if self.penalty == "r1_r2":
            fake = fake.detach().clone().requires_grad_()
            penalty = penalty + r2_penalty(self.discriminator(self.augmentation(fake), label), fake)
        return 0.5 * weight * penalty

    def _descend(self, who: str, loss: Tensor) -> None:
        optimiser = self.optimisers[who]
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        network: Iterable[nn.Parameter] = (self.generator if who == "generator" else self.discriminator).parameters()
        average_gradients(network)
        self.scaler.step(optimiser)

    def end_epoch(self) -> None:
        """Advance the learning-rate schedules, and give the running average the batch statistics of its own images."""
        for schedule in self.schedules.values():
            schedule.step()
        self._calibrate()

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Averaged weights make other activations than those whose statistics were averaged with them."""
        norms = [m for m in self.shipped.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not norms or not self.images:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
        self.shipped.train()
        draw = torch.Generator().manual_seed(self.steps)  # its own, so that the training's numbers stay as they are
        for _ in range(_CALIBRATION_BATCHES):
            latent = torch.randn(len(self.images["real"]), int(self.generator.latent_size), generator=draw)  # type: ignore[arg-type]
            self.shipped(latent.to(self.device), self._label)
        self.shipped.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "averaged": self.averaged.state_dict(),
            **descent_state(self.optimisers, self.schedules, self.scaler),
            "steps": self.steps,
            "generator_loss": self._generator_loss,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.averaged.load_state_dict(state["averaged"])
        continue_descent(state, self.optimisers, self.schedules, self.scaler)
        self.steps = state["steps"]
        self._generator_loss = state["generator_loss"]
