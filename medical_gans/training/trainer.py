"""One trainer for every method: it runs a method over epochs; all else is done by handlers that stand in the config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as distributed
from ignite.engine import Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from medical_gans.errors import SettingError, UserError
from medical_gans.training.handlers import Checkpoints
from medical_gans.training.parallel import join_processes
from medical_gans.weights import first_line

__all__ = ["MethodTrainer", "epoch_loader", "join_processes", "seed_everything"]


_MISFIT = re.compile(r"channels, but got|[Ss]izes? of tensors?|must match|Expected (3|4|5)D|expand")


class Trainable(Protocol):
    """What a `player.Method` offers to the trainer and its handlers."""

    images: dict[str, Tensor]

    @property
    def shipped(self) -> nn.Module: ...

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]: ...

    def end_epoch(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, and ask torch for reproducible algorithms where it has them."""
    from monai.utils import set_determinism

    set_determinism(seed)


def epoch_loader(dataset: Dataset, batch_size: int, workers: int = 0) -> DataLoader:
    """Loader in fixed order (the data set draws at random itself), shared among the processes of a group.

    Raises:
        SettingError: the views of an epoch do not fill one batch of each process.
    """
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    sampler: DistributedSampler | None = DistributedSampler(dataset, shuffle=False) if processes > 1 else None
    loader = DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=workers, drop_last=True)
    if not len(loader):
        views = len(dataset)  # type: ignore[arg-type]
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise SettingError(
            f"views_per_epoch is {views}, but a step takes {batch_size} views (batch_size){each}: nothing would be "
            f"trained. Set views_per_epoch to {batch_size * processes} or more, or a smaller batch_size."
        )
    return loader


class MethodTrainer(Trainer):
    """A MONAI trainer that gives each batch to a method.

    Handlers of MONAI and ignite find here what they ask for: ``state.output`` is decollated and has ``loss``, the sum
    of the losses, for each image; ``state.metrics`` has the mean of every loss when an epoch is completed, and what
    handlers before them added to it. Handlers are attached in their order, `handlers.Checkpoints` after all others,
    so that it keeps what they did.

    Args:
        device: where the method's networks are.
        max_epochs: epochs to train in all, those before a resume included.
        train_data_loader: yields batches; its data set may have ``set_epoch``.
        method: see `player.Method`.
        handlers: with ``attach``; those with ``state_dict`` and ``load_state_dict`` are part of a checkpoint, those
            with ``close`` are closed at the end, whatever ends it.

    Attributes:
        losses: of the latest step, by name.
        handlers: in the order of their work.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        method: Trainable,
        handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(device, max_epochs, train_data_loader, iteration_update=self._update)  # type: ignore[arg-type]
        self.method = method
        self.losses: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self.handlers = sorted(handlers or (), key=lambda handler: isinstance(handler, Checkpoints))
        self.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)
        self._register_handlers(self.handlers)
        self.add_event_handler(Events.EPOCH_COMPLETED, _wait_for_all)

    def run(self) -> None:  # type: ignore[override]  # as MONAI's own trainers
        """Train until `max_epochs`."""
        try:
            super().run()
        finally:
            for handler in self.handlers:
                close = getattr(handler, "close", None)
                if callable(close):
                    close()

    def _begin_epoch(self, engine: Trainer) -> None:
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):
            dataset.set_epoch(self.state.epoch - 1)
        self._sums = {}
        self.state.metrics = {}

    def _update(self, engine: Trainer, batch: Mapping[str, Tensor]) -> Any:
        try:
            self.losses = self.method(batch)
        except RuntimeError as error:
            if _MISFIT.search(str(error)) is None or isinstance(error, UserError):
                raise
            raise SettingError(
                f"The networks do not fit each other or the images: {first_line(error)}. Check channels, spatial_dims "
                "and strides of network_def and of the networks that it plays with, and the size of views."
            ) from error
        for name, value in self.losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        images = next(iter(batch.values()))
        loss = torch.full((len(images),), sum(self.losses.values()))
        self.state.output = {"image": images, "loss": loss}
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _finish_epoch(self, engine: Trainer) -> None:
        self.method.end_epoch()
        self.state.metrics.update({name: total / self.state.epoch_length for name, total in self._sums.items()})


def _wait_for_all(engine: Trainer) -> None:
    if distributed.is_initialized():
        distributed.barrier()
