"""One update of a segmenter that must segment the source and hide from which domain its features come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medical_gans.errors import SettingError
from medical_gans.networks import fast_layout
from medical_gans.networks.taps import FeatureTaps
from medical_gans.training.parallel import average_gradients, share_weights
from medical_gans.training.schedules import continue_descent, descent_state, flat_then_linear_schedules


def ramp(epoch: float, start: float, end: float, highest: float) -> float:
    """Weight alpha of the domain loss: 0 before `start`, then linearly to `highest` at `end`."""
    if epoch < start:
        return 0.0
    return highest if epoch >= end else highest * (epoch - start) / (end - start)


class AdaptationStep:
    """Minimises L_seg - alpha L_adv over the segmenter, and L_adv over the domain discriminator.

    L_seg is the segmentation loss on the labelled source, L_adv the cross-entropy of the discriminator that tells
    source from target by features of several layers (Kamnitsas et al. 2017, equation 2). What ships is a running
    average of the segmenter: the two players circle about their balance, and the average lies nearer to it. With
    `self_training_weight` the segmenter also learns from the average's confident predictions on the target, once alpha
    has reached its highest (a mean teacher, Tarvainen and Valpola 2017).

    A batch has ``source`` and ``target`` ``(batch, channel, *spatial)`` and ``label`` ``(batch, 1, *spatial)``, and may
    have ``anywhere`` ``(batch,)``: whether a source patch was drawn without regard to lesions, as those of the target
    are. The discriminator sees such patches only, and as many of the target: it would else tell the domains by the
    share of lesions, and the segmenter would learn to hide them.

    Args:
        segmenter: to logits ``(batch, class, *spatial)``.
        discriminator: of a list of features to logits (`networks.DomainDiscriminator`); None: source only.
        layers: names of the segmenter's layers that the discriminator sees.
        segmentation_loss: of logits and labels.
        highest_alpha: of the domain loss.
        ramp_epochs: epochs at which alpha leaves 0 and reaches `highest_alpha`.
        steps_per_epoch: by which alpha moves within an epoch.
        discriminator_steps: updates of the discriminator, on the same features, for one of the segmenter.
        self_training_weight: of the cross-entropy to the average's confident predictions on the target.
        confidence: probability from which a prediction on the target is trusted.
        ema_decay: decay of the running average of the segmenter per step; 0 ships the last weights.
        learning_rate: of Adam, segmenter.
        discriminator_learning_rate: of Adam, discriminator.
        flat_epochs: epochs at the full learning rate.
        decay_epochs: epochs of linear decay that follow.
        clip_norm: largest norm of the segmenter's gradient; 0 does not clip.
        amp: automatic mixed precision; acts on a GPU only.
        device: where the networks are.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        discriminator: nn.Module | None,
        layers: Sequence[str],
        segmentation_loss: Callable[[Tensor, Tensor], Tensor],
        *,
        highest_alpha: float = 0.05,
        ramp_epochs: tuple[float, float] = (10, 35),
        steps_per_epoch: int = 1,
        discriminator_steps: int = 1,
        self_training_weight: float = 0.0,
        confidence: float = 0.95,
        ema_decay: float = 0.0,
        learning_rate: float = 1e-3,
        discriminator_learning_rate: float = 1e-3,
        flat_epochs: int = 100,
        decay_epochs: int = 0,
        clip_norm: float = 5.0,
        amp: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.segmenter = fast_layout(nn.ModuleDict({"s": segmenter}).to(self.device))["s"]
        average = get_ema_multi_avg_fn(ema_decay)
        self.averaged = AveragedModel(self.segmenter, multi_avg_fn=average, use_buffers=True)
        self.discriminator = discriminator.to(self.device) if discriminator is not None else None
        self.taps = FeatureTaps(self.segmenter, layers) if discriminator is not None else None
        self.segmentation_loss = segmentation_loss
        self.highest_alpha, self.ramp_epochs, self.steps_per_epoch = highest_alpha, ramp_epochs, steps_per_epoch
        self.discriminator_steps = discriminator_steps
        self.self_training_weight, self.confidence = self_training_weight, confidence
        self.clip_norm = clip_norm
        self.amp = amp and self.device.type == "cuda"
        self.optimisers = {"segmenter": torch.optim.Adam(self.segmenter.parameters(), learning_rate)}
        if self.discriminator is not None:
            parameters = self.discriminator.parameters()
            self.optimisers["discriminator"] = torch.optim.Adam(parameters, discriminator_learning_rate)
        for network in self._networks().values():
            share_weights(network)
        self.schedules = flat_then_linear_schedules(self.optimisers, flat_epochs, decay_epochs)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        self.steps = 0
        self.images: dict[str, Tensor] = {}

    @property
    def shipped(self) -> nn.Module:
        """The running average of the segmenter."""
        return self.averaged.module

    @property
    def alpha(self) -> float:
        """Present weight of the domain loss."""
        if self.discriminator is None:
            return 0.0
        return ramp(self.steps / self.steps_per_epoch, *self.ramp_epochs, self.highest_alpha)

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update segmenter and discriminator once."""
        source, label = batch["source"].to(self.device), batch["label"].to(self.device)
        alpha = self.alpha
        self.segmenter.train()
        losses: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, enabled=self.amp):
            logits = self.segmenter(source)
            losses["segmentation"] = self.segmentation_loss(logits, label)
            total = losses["segmentation"]
        self.images = {"source": source, "prediction": _shown(logits)}
        if self.discriminator is not None and self.taps is not None:
            alike = _alike(batch, len(source))
            target = batch["target"][: len(alike)].to(self.device)
            of_source = [feature[alike] for feature in self.taps()]
            with torch.autocast(self.device.type, enabled=self.amp):
                target_logits = self.segmenter(target)
                of_target = self.taps()
                self._learn_domains(of_source, of_target, losses)
                if alpha > 0:
                    self.discriminator.requires_grad_(False)
                    total = total - alpha * self._domain_loss(of_source, of_target)[0]
                    self.discriminator.requires_grad_(True)
                if self.self_training_weight and alpha >= self.highest_alpha:
                    losses["self_training"] = self._self_training(target, target_logits)
                    total = total + self.self_training_weight * losses["self_training"]
            self.images |= {"target": target, "target_prediction": _shown(target_logits)}
        self._descend("segmenter", self.segmenter, total, self.clip_norm)
        self.scaler.update()
        self.averaged.update_parameters(self.segmenter)
        self.steps += 1
        return {**{name: float(value.detach()) for name, value in losses.items()}, "alpha": alpha}

    def _learn_domains(self, of_source: list[Tensor], of_target: list[Tensor], losses: dict[str, Tensor]) -> None:
        assert self.discriminator is not None
        self.discriminator.train()
        detached = [f.detach() for f in of_source], [f.detach() for f in of_target]
        for _ in range(self.discriminator_steps):
            losses["domain"], losses["domain_accuracy"] = self._domain_loss(*detached)
            self._descend("discriminator", self.discriminator, losses["domain"])

    def _domain_loss(self, of_source: list[Tensor], of_target: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Cross-entropy and accuracy; both domains in one pass, so that batch norm does not hide their difference."""
        assert self.discriminator is not None
        features = [torch.cat(both) for both in zip(of_source, of_target, strict=True)]
        logits = self.discriminator(features)
        truth = torch.zeros_like(logits)
        truth[: len(of_source[0])] = 1.0
        accuracy = ((logits > 0) == (truth > 0.5)).float().mean()
        return binary_cross_entropy_with_logits(logits, truth), accuracy

    def _self_training(self, target: Tensor, logits: Tensor) -> Tensor:
        """Cross-entropy to the class that the average predicts, where it is confident, as a mean over all voxels."""
        with torch.no_grad():
            probability, predicted = self.averaged.module(target).softmax(1).max(1)
        each = cross_entropy(logits, predicted, reduction="none")
        return (each * (probability >= self.confidence)).mean()

    def _descend(self, who: str, network: nn.Module, loss: Tensor, clip_norm: float = 0.0) -> None:
        optimiser = self.optimisers[who]
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        average_gradients(network.parameters())
        self.scaler.unscale_(optimiser)
        if clip_norm > 0:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        self.scaler.step(optimiser)

    def _networks(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"segmenter": self.segmenter}
        return networks | ({"discriminator": self.discriminator} if self.discriminator is not None else {})

    def end_epoch(self) -> None:
        """Advance the learning-rate schedules."""
        for schedule in self.schedules.values():
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "networks": {name: network.state_dict() for name, network in self._networks().items()},
            "averaged": self.averaged.state_dict(),
            **descent_state(self.optimisers, self.schedules, self.scaler),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        for name, network in self._networks().items():
            network.load_state_dict(state["networks"][name])
        self.averaged.load_state_dict(state["averaged"])
        continue_descent(state, self.optimisers, self.schedules, self.scaler)
        self.steps = state["steps"]


def _alike(batch: Mapping[str, Tensor], number: int) -> Tensor:
    """Indices of the source patches that were drawn as the target's are."""
    found = torch.nonzero(batch["anywhere"]).flatten() if "anywhere" in batch else torch.arange(number)
    if not len(found):
        raise SettingError(
            "A batch holds no source patch drawn anywhere in the brain, so the domains cannot be compared. "
            "Lower lesion_share, or raise batch_size."
        )
    return found


def _shown(logits: Tensor) -> Tensor:
    """Most likely class in [-1, 1], for pictures."""
    classes = logits.shape[1]
    return logits.detach().argmax(1, keepdim=True).float() * (2.0 / max(1, classes - 1)) - 1.0
