"""Unsupervised domain adaptation by an adversary on several layers (Kamnitsas et al. 2017, arXiv 1612.08894)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from medical_gans.errors import SettingError
from medical_gans.networks import FeatureTaps
from medical_gans.training.player import Method, Player

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ramp:
    """Weight alpha of the domain loss: 0 before epoch `start`, then linearly to `highest` at epoch `end`."""

    start: float
    end: float
    highest: float

    def __call__(self, epoch: float) -> float:
        if epoch < self.start:
            return 0.0
        return self.highest if epoch >= self.end else self.highest * (epoch - self.start) / (self.end - self.start)


@dataclass(frozen=True)
class ConfidentLabels:
    """Cross-entropy to the classes that a teacher is sure of, as a mean over all voxels (mean teacher, Tarvainen and
    Valpola 2017, with hard labels).

    Attributes:
        confidence: probability from which a prediction of the teacher is trusted.
    """

    confidence: float = 0.95

    def __call__(self, logits: Tensor, taught: Tensor) -> Tensor:
        """Of logits ``(batch, class, *spatial)`` and those of the teacher."""
        probability, predicted = taught.softmax(1).max(1)
        return (cross_entropy(logits, predicted, reduction="none") * (probability >= self.confidence)).mean()


class Adaptation(Method):
    """Minimises L_seg - alpha L_adv over the segmenter, and L_adv over the domain discriminator (equation 2).

    L_seg is the segmentation loss on the labelled source, L_adv the cross-entropy of the discriminator that tells
    source from target by features of several layers. What ships is the segmenter's running average, if it has one: the
    two players circle about their balance, and the average lies nearer to it. With `self_training_weight` the segmenter
    also learns from the average's confident predictions on the target, once alpha has reached its highest.

    A batch has ``source`` and ``target`` ``(batch, channel, *spatial)`` and ``label`` ``(batch, 1, *spatial)``, and may
    have ``anywhere`` ``(batch,)``: whether a source patch was drawn without regard to lesions, as those of the target
    are. The discriminator sees such patches only, and as many of the target: it would else tell the domains by the
    share of lesions, and the segmenter would learn to hide them. With ``pupil``, the target's patches after a stronger
    augmentation, the segmenter learns from those what the average says of ``target`` (as FixMatch, Sohn et al. 2020).

    Args:
        segmenter: player with the network ``segmenter``, images to logits ``(batch, class, *spatial)``.
        discriminator: player with the network ``discriminator``, a list of features to logits of the source domain
            (`networks.DomainDiscriminator`); None: source only.
        losses: ``segmentation`` of logits and labels, ``domain`` of logits and truth (1: source), ``self_training`` of
            logits and the teacher's.
        layers: names of the segmenter's layers that the discriminator sees.
        alpha: weight of the domain loss at an epoch.
        steps_per_epoch: by which alpha moves within an epoch.
        discriminator_steps: updates of the discriminator, on the same features, for one of the segmenter.
        self_training_weight: of the loss to the average's confident predictions on the target; 0 leaves it out.
        inferer: of patches and a network, how a patch goes through it (`monai.inferers`).
    """

    def __init__(
        self,
        segmenter: Player,
        discriminator: Player | None,
        losses: Mapping[str, Loss],
        *,
        layers: Sequence[str],
        alpha: Ramp,
        steps_per_epoch: int = 1,
        discriminator_steps: int = 1,
        self_training_weight: float = 0.0,
        inferer: Callable[[Tensor, nn.Module], Tensor] | None = None,
    ) -> None:
        both = {"segmenter": segmenter, "discriminator": discriminator}
        players = {name: player for name, player in both.items() if player is not None}
        super().__init__(players, shipped=("segmenter", "segmenter"))
        self.segmenter, self.discriminator, self.losses = segmenter, discriminator, losses
        self.taps = FeatureTaps(segmenter["segmenter"], layers) if discriminator is not None else None
        self.ramp, self.steps_per_epoch, self.discriminator_steps = alpha, steps_per_epoch, discriminator_steps
        self.self_training_weight = self_training_weight
        self.inferer = inferer or (lambda images, network: network(images))

    @property
    def alpha(self) -> float:
        """Present weight of the domain loss."""
        return self.ramp(self.segmenter.steps / self.steps_per_epoch) if self.discriminator is not None else 0.0

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update discriminator and segmenter once."""
        network, device, alpha = self.segmenter["segmenter"], self.segmenter.device, self.alpha
        source, label = batch["source"].to(device), batch["label"].to(device)
        self.segmenter.begin()
        terms: dict[str, Tensor] = {}
        with self.segmenter.autocast():
            logits = self.inferer(source, network)
            total = terms["segmentation"] = self.losses["segmentation"](logits, label)
        self.images = {"source": source, "prediction": _shown(logits)}
        if self.discriminator is not None and self.taps is not None:
            alike = _alike(batch, len(source))
            target = batch["target"][: len(alike)].to(device)
            of_source = [feature[alike] for feature in self.taps()]
            with self.segmenter.autocast():
                target_logits = self.inferer(target, network)
            features = list(zip(of_source, self.taps(), strict=True))
            terms |= self._learn_domains(features)
            with self.segmenter.autocast(), self.discriminator.frozen():
                if alpha > 0:
                    total = total - alpha * self._domain_loss(features)[0]
                if self.self_training_weight and alpha >= self.ramp.highest:
                    with torch.no_grad():
                        taught = self.inferer(target, self.shipped)
                    pupil = batch["pupil"][: len(target)].to(device) if "pupil" in batch else None
                    learnt = target_logits if pupil is None else self.inferer(pupil, network)
                    terms["self_training"] = self.losses["self_training"](learnt, taught)
                    total = total + self.self_training_weight * terms["self_training"]
            self.images |= {"target": target, "target_prediction": _shown(target_logits)}
        self.segmenter.descend(total)
        return {**{name: float(value.detach()) for name, value in terms.items()}, "alpha": alpha}

    def _learn_domains(self, features: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        assert self.discriminator is not None
        self.discriminator.begin()
        detached = [(of_source.detach(), of_target.detach()) for of_source, of_target in features]
        for _ in range(self.discriminator_steps):
            with self.discriminator.autocast():
                loss, accuracy = self._domain_loss(detached)
            self.discriminator.descend(loss)
        return {"domain": loss, "domain_accuracy": accuracy}

    def _domain_loss(self, features: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """L_adv and accuracy; both domains in one pass, so that batch norm does not hide their difference."""
        assert self.discriminator is not None
        logits = self.discriminator["discriminator"]([torch.cat(both) for both in features])
        truth = torch.zeros_like(logits)
        truth[: len(features[0][0])] = 1.0
        return self.losses["domain"](logits, truth), ((logits > 0) == (truth > 0.5)).float().mean()


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
