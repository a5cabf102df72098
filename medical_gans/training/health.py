"""Alarms that stop an adversarial training which has gone wrong, with a sentence that says why.

Four things are watched: a loss that is not a number, a generator that collapsed to one image,
a translator that only copies its input, and a discriminator that has won. All but the first must
hold without a break for many checks before they raise, since adversarial losses swing by nature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from ignite.engine import Events
from torch import Tensor
from torch.nn import functional

from medical_gans.errors import SettingError, TrainingAlarm

if TYPE_CHECKING:
    from medical_gans.training.trainer import MethodTrainer

_THUMBNAIL = 16
_REMEMBERED_IMAGES = 16
_EMPTY_IMAGE = 0.02
"""An image whose standard deviation is below this share of the intensity range shows only air."""
_SPREAD = ("detail", "variety", "real_detail", "real_variety")
_LIKENESS = ("correlation", "difference", "counted")


class Generated(NamedTuple):
    """What one generator makes, by its names in the `images` given to `Alarms.check`."""

    fake: str
    real: str
    source: str | None = None
    """Input of a translator (``mr`` for ``synthetic_ct``); None for a generator fed with noise."""


class _Streak(NamedTuple):
    since: int
    checks: int


class Alarms:
    """Watches losses and images of a training and raises `TrainingAlarm` when it has gone wrong.

    Args:
        generated: what each generator makes; empty switches collapse and identity off.
        discriminators: names in `losses` of the discriminators' own losses. Where `losses` also has
            ``<name>_accuracy`` (share of real and fake judged right, 0 to 1) that is taken into account.
            Leave empty for critics, whose loss has no floor.
        non_finite: switches the alarm for losses that are no numbers.
        collapse: switches that for generators whose images are all alike.
        identity: switches that for translators that copy their input.
        discriminator_won: switches that for discriminators that are never wrong.
        every: iterations between two checks of images and discriminators; losses are looked at always.
        patience: consecutive bad checks before an alarm. The default waits 1000 iterations.
        collapse_ratio: a generator collapsed when its spread is below this share of that of real images.
        identity_correlation: a translator copies its input when the correlation is above this, and
        identity_difference: the mean absolute difference, as a share of the range [-1, 1], is below this.
        won_accuracy: a discriminator won when its accuracy is above this, and
        won_loss: its mean loss is below this.
    """

    def __init__(
        self,
        generated: Iterable[Generated] = (),
        discriminators: Iterable[str] = (),
        *,
        non_finite: bool = True,
        collapse: bool = True,
        identity: bool = True,
        discriminator_won: bool = True,
        every: int = 50,
        patience: int = 20,
        collapse_ratio: float = 0.05,
        identity_correlation: float = 0.999,
        identity_difference: float = 0.01,
        won_accuracy: float = 0.99,
        won_loss: float = 0.01,
    ) -> None:
        self.generated = tuple(generated)
        self.discriminators = tuple(discriminators)
        self.non_finite = non_finite
        self.collapse = collapse
        self.identity = identity
        self.discriminator_won = discriminator_won
        self.every = every
        self.patience = patience
        self.collapse_ratio = collapse_ratio
        self.identity_correlation = identity_correlation
        self.identity_difference = identity_difference
        self.won_accuracy = won_accuracy
        self.won_loss = won_loss
        self._streaks: dict[str, _Streak] = {}
        self._thumbnails: dict[str, Tensor] = {}
        self._sums: dict[str, list[float]] = {}
        self._losses_due = every
        self._images_due = every

    def attach(self, engine: MethodTrainer) -> None:
        """Watch every step of a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._watch)

    def _watch(self, engine: MethodTrainer) -> None:
        self.check(engine.losses, engine.method.images, engine.state.iteration)

    def check(self, losses: Mapping[str, float], images: Mapping[str, Tensor] | None, iteration: int) -> None:
        """Look at one iteration; cheap enough to be called on every one.

        Args:
            losses: plain numbers of this iteration.
            images: ``(batch, channel, *spatial)`` tensors in [-1, 1] on any device, or None.
            iteration: counted from 1 and never reset, so that messages can say since when.

        Raises:
            TrainingAlarm: with what was seen, since when, and what to try.
            SettingError: a watched loss or image is not among those given.
        """
        if self.non_finite:
            _raise_on_non_finite(losses, iteration)
        if self.discriminator_won:
            self._check_discriminators(losses, iteration)
        if images and self.generated and iteration >= self._images_due:
            self._images_due = iteration + self.every
            self._check_generators(images, iteration)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides later alarms; loads with ``weights_only=True``."""
        return {
            "streaks": {name: list(streak) for name, streak in self._streaks.items()},
            "thumbnails": dict(self._thumbnails),
            "sums": {name: list(sums) for name, sums in self._sums.items()},
            "due": [self._losses_due, self._images_due],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue as if the training had not been interrupted."""
        self._streaks = {name: _Streak(*streak) for name, streak in state["streaks"].items()}
        self._thumbnails = dict(state["thumbnails"])
        self._sums = {name: list(sums) for name, sums in state["sums"].items()}
        self._losses_due, self._images_due = state["due"]

    def _lasted(self, name: str, bad: bool, iteration: int) -> int | None:
        """Count a check; the iteration at which an unbroken bad streak began once patience is over."""
        if not bad:
            self._streaks.pop(name, None)
            return None
        since, checks = self._streaks.get(name, _Streak(iteration, 0))
        self._streaks[name] = _Streak(since, checks + 1)
        return since if checks + 1 >= self.patience else None

    def _check_discriminators(self, losses: Mapping[str, float], iteration: int) -> None:
        _expect(self.discriminators, losses)
        for name in self.discriminators:
            sums = self._sums.setdefault(name, [0.0, 0.0, 0.0])
            sums[0] += 1
            sums[1] += losses[name]
            sums[2] += losses.get(f"{name}_accuracy", 1.0)
        if iteration < self._losses_due:
            return
        self._losses_due = iteration + self.every
        for name in self.discriminators:
            count, loss, accuracy = self._sums.pop(name)
            loss, accuracy = loss / count, accuracy / count
            won = loss < self.won_loss and accuracy > self.won_accuracy
            since = self._lasted(f"won {name}", won, iteration)
            if since is not None:
                judged = f", accuracy {accuracy:.0%}" if f"{name}_accuracy" in losses else ""
                raise TrainingAlarm(
                    f"The discriminator '{name}' has won: since iteration {since} its loss is nearly zero "
                    f"({loss:.2g} on average{judged}, now at {iteration}), so that the generator gets no "
                    "useful gradient any more. Lower the discriminator's learning rate, turn on spectral "
                    "norm or a gradient penalty, or augment what it sees."
                )

    def _check_generators(self, images: Mapping[str, Tensor], iteration: int) -> None:
        _expect([name for generated in self.generated for name in generated if name], images)
        rows = torch.stack([self._measure(generated, images) for generated in self.generated]).tolist()
        for generated, row in zip(self.generated, rows, strict=True):
            figures = dict(zip((*_SPREAD, *_LIKENESS), row, strict=True))
            if self.collapse:
                self._judge_collapse(generated, figures, iteration)
            if self.identity and generated.source is not None:
                self._judge_identity(generated, figures, iteration)

    def _measure(self, generated: Generated, images: Mapping[str, Tensor]) -> Tensor:
        """All figures of one generator as one tensor, so that a GPU is waited for only once."""
        with torch.no_grad():
            fake, real = images[generated.fake], images[generated.real]
            figures = [*self._spread(generated.fake, fake), *self._spread(generated.real, real)]
            if generated.source is None:
                figures += [fake.new_zeros((), dtype=torch.float32)] * len(_LIKENESS)
            else:
                figures += _likeness(fake, images[generated.source])
            return torch.stack(figures)

    def _spread(self, name: str, images: Tensor) -> tuple[Tensor, Tensor]:
        """Standard deviation inside an image, and between the last images where they show the same place.

        The latter is taken over thumbnails of earlier checks too, so that it exists for batches of one.
        """
        images = images.float()
        detail = images.flatten(1).std(dim=1).mean()
        pool = functional.adaptive_avg_pool2d if images.ndim == 4 else functional.adaptive_avg_pool3d
        small = pool(images, _THUMBNAIL)
        earlier = self._thumbnails.get(name)
        if earlier is not None:
            small = torch.cat((earlier.to(small.device), small))
        self._thumbnails[name] = small[-_REMEMBERED_IMAGES:]
        return detail, self._thumbnails[name].std(dim=0, correction=0).mean()

    def _judge_collapse(self, generated: Generated, figures: Mapping[str, float], iteration: int) -> None:
        seen = len(self._thumbnails[generated.fake])
        flat = not figures["detail"] >= self.collapse_ratio * figures["real_detail"]
        same = seen > 1 and not figures["variety"] >= self.collapse_ratio * figures["real_variety"]
        since = self._lasted(f"collapse {generated.fake}", flat or same, iteration)
        if since is None:
            return
        measure = "detail" if flat else "variety"
        where = "over pixels" if flat else "between images"
        raise TrainingAlarm(
            f"The generator of '{generated.fake}' has collapsed to {'a constant' if flat else 'one image'}: "
            f"since iteration {since} its standard deviation {where} is far below that of '{generated.real}' "
            f"({figures[measure]:.2g} against {figures['real_' + measure]:.2g}, now at {iteration}). Go back "
            "to an earlier checkpoint with a lower learning rate, another adversarial loss or more "
            "augmentation, and check the intensity scaling."
        )

    def _judge_identity(self, generated: Generated, figures: Mapping[str, float], iteration: int) -> None:
        if figures["counted"] == 0:  # only air in view, which a good translator copies as well
            return
        correlation, difference = figures["correlation"], figures["difference"]
        copied = correlation > self.identity_correlation and difference < self.identity_difference
        since = self._lasted(f"identity {generated.fake}", copied, iteration)
        if since is not None:
            raise TrainingAlarm(
                f"The generator of '{generated.fake}' only copies its input: since iteration {since} it "
                f"equals '{generated.source}' (correlation {correlation:.4f}, mean difference "
                f"{difference:.2g} of the range, now at {iteration}). Lower or remove the identity loss, "
                f"lower the cycle weight, and make sure that '{generated.real}' holds images of the other "
                "kind."
            )


def _expect(watched: Iterable[str], given: Mapping[str, Any]) -> None:
    missing = [name for name in watched if name not in given]
    if missing:
        raise SettingError(f"Alarms watch '{missing[0]}', but this training has {', '.join(sorted(given))}.")


def _raise_on_non_finite(losses: Mapping[str, float], iteration: int) -> None:
    bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if bad:
        found = ", ".join(f"{name} = {value}" for name, value in bad.items())
        raise TrainingAlarm(
            f"A loss is not a finite number at iteration {iteration}: {found}. Go back to an earlier "
            "checkpoint with a lower learning rate or stronger gradient clipping, turn amp off, and check "
            "the input for extreme values."
        )


def _likeness(fake: Tensor, source: Tensor) -> list[Tensor]:
    """Correlation and mean difference (share of the range) of fake and input, over images not empty."""
    source = _middle_channels(source, fake.shape[1]).to(fake.device)
    made, given = fake.float().flatten(1), source.float().flatten(1)
    shows = (given.std(dim=1) > 2.0 * _EMPTY_IMAGE).float()
    correlation = functional.cosine_similarity(
        made - made.mean(dim=1, keepdim=True), given - given.mean(dim=1, keepdim=True)
    )
    difference = (made - given).abs().mean(dim=1) / 2.0
    counted = shows.sum()
    share = shows / counted.clamp_min(1.0)
    return [(correlation * share).sum(), (difference * share).sum(), counted]


def _middle_channels(images: Tensor, count: int) -> Tensor:
    """The slice that a 2.5D input is about: its middle channels."""
    first = (images.shape[1] - count) // 2
    return images[:, first : first + count]
