"""A generator of images from noise and its discriminator, with or without classes (Goodfellow et al. 2014).

The game is min_G max_D E[log D(x)] + E[log(1 - D(G(z)))] or whatever its objective makes of it: DCGAN, hinge, WGAN-GP,
R3GAN. With classes (Mirza and Osindero 2014) both players see the class of the real image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medical_gans.errors import SettingError
from medical_gans.losses import AdversarialObjective, Penalty, consensus_regulariser
from medical_gans.networks.nodule import check_classes
from medical_gans.training.parallel import own_noise
from medical_gans.training.player import Method, Player

_STATISTICS_BATCHES = 16


class Gan(Method):
    """Updates the discriminator, and every `critic_steps` batches the generator.

    A batch has ``image`` ``(batch, 1, *spatial)`` in [-1, 1] and, with classes, ``label`` ``(batch,)``. Generated
    images get the labels of the real ones, so that both players see each class equally often.

    Args:
        generator: player with the network ``generator``, of ``latent (batch, latent_size)`` or ``(latent, label)``.
        discriminator: player with the network ``discriminator``, of ``image`` or ``(image, label)`` to logits.
        losses: ``adversarial``, the objective of both; ``penalty`` on the discriminator's gradient, or None.
        weights: of ``penalty``, and of ``consensus`` (Mescheder et al. 2017, gamma; above 0 both players move at once).
        latent_size: numbers that an image is made from.
        num_classes: 0 for networks that are not told a class.
        critic_steps: updates of the discriminator per update of the generator; 5 for WGAN-GP.
        penalty_every: steps between two penalties, each weighted by as much (Karras et al. 2020, appendix B).
        augmentation: of everything that the discriminator sees; None for none.

    Raises:
        SettingError: the networks do not take `num_classes` classes, or `critic_steps` does not go with consensus.
    """

    def __init__(
        self,
        generator: Player,
        discriminator: Player,
        losses: Mapping[str, Any],
        *,
        latent_size: int,
        num_classes: int = 0,
        weights: Mapping[str, float] | None = None,
        critic_steps: int = 1,
        penalty_every: int = 1,
        augmentation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, shipped=("generator", "generator"))
        for player, name in ((generator, "generator"), (discriminator, "discriminator")):
            check_classes(player[name], name, num_classes)
        self.objective: AdversarialObjective = losses["adversarial"]
        self.penalty: Penalty | None = losses.get("penalty")
        self.weights = {"penalty": 1.0, "consensus": 0.0, **(weights or {})}
        if self.weights["consensus"] > 0 and critic_steps != 1:
            raise SettingError("Consensus optimisation moves both players together: set critic_steps to 1.")
        self.latent_size, self.num_classes = latent_size, num_classes
        self.critic_steps, self.penalty_every = critic_steps, penalty_every
        self.augmentation = augmentation or (lambda images: images)
        self.device = generator.device
        self._label: Tensor | None = None
        self._fooling = 0.0

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update once.

        Returns:
            Losses of both players, and the share of images that the discriminator judges right.
        """
        real = batch["image"].to(self.device, non_blocking=True)
        self._label = batch["label"].to(self.device) if self.num_classes else None
        latent = own_noise(len(real), self.latent_size, self.device)
        for player in self.players.values():
            player.begin()
        return self._both(real, latent) if self.weights["consensus"] else self._in_turn(real, latent)

    def _in_turn(self, real: Tensor, latent: Tensor) -> dict[str, float]:
        generator, discriminator = self.players["generator"], self.players["discriminator"]
        moves_generator = (discriminator.steps + 1) % self.critic_steps == 0
        with generator.autocast(), torch.set_grad_enabled(moves_generator):
            fake = self._generate(generator["generator"], latent)
        with discriminator.autocast():
            judging, accuracy = self._judging(real, fake.detach())
        discriminator.descend(judging)
        if moves_generator:
            with generator.autocast(), discriminator.frozen():
                fooling = self._fooling_loss(real, fake)
            generator.descend(fooling)
            self._fooling = float(fooling.detach())
        self.images = {"real": real, "generated": fake.detach().float()}
        return {
            "generator": self._fooling,
            "discriminator": float(judging.detach()),
            "discriminator_accuracy": accuracy,
        }

    def _both(self, real: Tensor, latent: Tensor) -> dict[str, float]:
        """Both players at once, each by its gradient and that of gamma times the common regulariser."""
        generator, discriminator = self.players["generator"], self.players["discriminator"]
        fake = self._generate(generator["generator"], latent)
        judging, accuracy = self._judging(real, fake)
        fooling = self._fooling_loss(real, fake)
        sides = ((generator, fooling), (discriminator, judging))
        energy = consensus_regulariser([loss for _, loss in sides], [player.parameters() for player, _ in sides])
        regulariser = self.weights["consensus"] * energy
        gradients = [
            torch.autograd.grad(loss + regulariser, player.parameters(), retain_graph=True) for player, loss in sides
        ]
        for (player, _), gradient in zip(sides, gradients, strict=True):
            player.move(gradient)
        self.images = {"real": real, "generated": fake.detach().float()}
        losses = {"generator": fooling, "discriminator": judging, "consensus": regulariser}
        return {name: float(loss.detach()) for name, loss in losses.items()} | {"discriminator_accuracy": accuracy}

    def _judging(self, real: Tensor, fake: Tensor) -> tuple[Tensor, float]:
        """The discriminator's loss, penalty included, and the share of images that it judges right."""
        on_real, on_fake = self._logits(self.augmentation(real)), self._logits(self.augmentation(fake))
        middle = (on_real.mean() + on_fake.mean()).detach() / 2 if self.objective.needs_real else 0.0
        accuracy = ((on_real > middle).float().mean() + (on_fake < middle).float().mean()) / 2
        loss = self.objective.discriminator_loss(on_real, on_fake)
        if self.penalty is not None and self.players["discriminator"].steps % self.penalty_every == 0:
            weight = self.weights["penalty"] * self.penalty_every
            loss = loss + weight * self.penalty(self._logits, real, fake.detach(), self.augmentation)
        return loss, float(accuracy)

    def _fooling_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        on_fake = self._logits(self.augmentation(fake))
        on_real = self._logits(self.augmentation(real)) if self.objective.needs_real else None
        return self.objective.generator_loss(on_fake, on_real)

    def _generate(self, network: nn.Module, latent: Tensor) -> Tensor:
        return network(latent) if self._label is None else network(latent, self._label)

    def _logits(self, images: Tensor) -> Tensor:
        network = self.players["discriminator"]["discriminator"]
        return network(images) if self._label is None else network(images, self._label)

    def end_epoch(self) -> None:
        """Advance the schedules, and give the running average the batch statistics of its own images."""
        super().end_epoch()
        generator = self.players["generator"]
        if "generator" in generator.averages and self.images:
            generator.measure_statistics("generator", self._pass_noise)
        self.shipped.eval()

    def _pass_noise(self, network: nn.Module) -> None:
        # its own random state, so that the training's numbers stay as they are
        draw = torch.Generator().manual_seed(self.players["discriminator"].steps)
        for _ in range(_STATISTICS_BATCHES):
            latent = torch.randn(len(self.images["real"]), self.latent_size, generator=draw)
            self._generate(network, latent.to(self.device))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {**super().state_dict(), "fooling": self._fooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        super().load_state_dict(state)
        self._fooling = state["fooling"]
