"""One trainer for every adversarial workflow: epochs, resume, alarms, logs, pictures, best weights.

A workflow hands it a *step* (see `cyclegan`): called with a batch it updates its networks and returns losses; it has
``shipped`` (the network to keep), ``images`` (what to look at), ``end_epoch()``, ``state_dict()`` and
``load_state_dict()``.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as distributed
from ignite.engine import Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from medical_gans.errors import OutputError, SettingError
from medical_gans.report import loss_curves, training_sheet
from medical_gans.training.checkpoints import Stateful, WeightsCard, load_checkpoint, save_checkpoint, save_weights
from medical_gans.training.health import Alarms
from medical_gans.training.parallel import is_first_process, join_processes

logger = logging.getLogger(__name__)

__all__ = ["Step", "StepTrainer", "epoch_loader", "join_processes", "seed_everything"]


class Step(Protocol):
    """One update of a workflow's networks."""

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


class StepTrainer(Trainer):
    """Runs a step over epochs and leaves a folder that a person can read and a run can continue from.

    Written to `output_dir`: ``checkpoint.pt`` (everything, after each epoch), ``model.pt`` (best shipped weights),
    ``losses.csv``, ``losses.png``, ``pictures/`` and ``tensorboard/``.

    Args:
        device: where the step's networks are.
        max_epochs: epochs to train in all, those before a resume included.
        train_data_loader: yields batches; its data set may have ``set_epoch``.
        step: the workflow's update.
        output_dir: folder for everything written.
        resume: go on from ``checkpoint.pt`` in `output_dir`; a run is never overwritten silently.
        key_metric: name of the figure, smaller is better, by which ``model.pt`` is chosen: one that `validate`
            returns, or losses of the step joined by ``+``; None keeps the last.
        validate: takes the shipped network and returns figures; None where there is no truth to compare with.
        validate_every: epochs between validations.
        picture_every: epochs between pictures.
        alarms: stop the run with a plain sentence when training has gone wrong.
        handlers: further ignite handlers (``--tracking mlflow`` adds its own).
        card: what the weights are for, written beside ``model.pt``.

    Raises:
        OutputError: `output_dir` holds another run and `resume` is false.
        SettingError: `key_metric` is not a figure of this run.
        TrainingAlarm: see `health.Alarms`; checkpoint and best weights of the last good epoch are kept.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        step: Step,
        output_dir: str | Path,
        *,
        resume: bool = False,
        key_metric: str | None = "mae",
        validate: Callable[[nn.Module], dict[str, float]] | None = None,
        validate_every: int = 1,
        picture_every: int = 1,
        alarms: Alarms | None = None,
        handlers: Sequence[Any] | None = None,
        card: WeightsCard | None = None,
    ) -> None:
        super().__init__(device, max_epochs, train_data_loader, iteration_update=self._update, handlers=handlers)  # type: ignore[arg-type]
        self.step = step
        self.output_dir = Path(output_dir)
        self.resume = resume
        self.key_metric_name = key_metric
        self.validate = validate
        self.validate_every = validate_every
        self.picture_every = picture_every
        self.alarms = alarms or Alarms()
        self.card = card
        self.best = math.inf
        self._sums: dict[str, float] = {}
        self._bar: tqdm | None = None
        self._board: Any = None
        self.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)

    @property
    def checkpoint_path(self) -> Path:
        """Where the run continues from."""
        return self.output_dir / "checkpoint.pt"

    def run(self) -> None:  # type: ignore[override]  # as MONAI's own trainers
        """Train until `max_epochs`."""
        self._open()
        try:
            super().run()
        finally:
            if self._bar is not None:
                self._bar.close()
            if self._board is not None:
                self._board.close()

    def _open(self) -> None:
        parts: dict[str, Stateful] = {"step": self.step, "alarms": self.alarms}
        if self.resume and self.checkpoint_path.is_file():
            counters = load_checkpoint(self.checkpoint_path, parts)
            self.state.epoch = int(counters["epoch"])
            self.state.iteration = int(counters["iteration"])
            self.best = float(counters["best"])
            self._trim_log()
            logger.info("Going on after epoch %d.", self.state.epoch)
        elif self.checkpoint_path.exists():
            raise OutputError(
                f"{self.output_dir} already holds a run. Pass --resume true to continue it, or choose a new output_dir."
            )
        if is_first_process():
            from torch.utils.tensorboard import SummaryWriter

            self.output_dir.mkdir(parents=True, exist_ok=True)
            self._board = SummaryWriter(str(self.output_dir / "tensorboard"), purge_step=self.state.iteration + 1)

    def _begin_epoch(self, engine: Trainer) -> None:
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):
            dataset.set_epoch(self.state.epoch - 1)
        self._sums = {}
        if is_first_process():
            self._bar = tqdm(
                total=self.state.epoch_length, desc=f"epoch {self.state.epoch}/{self.state.max_epochs}", leave=False
            )

    def _update(self, engine: Trainer, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        losses = self.step(batch)
        self.alarms.check(losses, self.step.images, self.state.iteration)
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if self._bar is not None:
            self._bar.update()
        # `loss`, one per image, is what experiment trackers ask for; pictures and figures go by the epoch
        images = next(iter(batch.values()))
        self.state.output = {"image": images, "loss": torch.full((len(images),), sum(losses.values()))}
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _finish_epoch(self, engine: Trainer) -> None:
        self.step.end_epoch()
        figures = {name: total / self.state.epoch_length for name, total in self._sums.items()}
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if is_first_process():
            last = self.state.epoch == self.state.max_epochs
            if self.validate is not None and (last or self.state.epoch % self.validate_every == 0):
                figures.update(self.validate(self.step.shipped))
            self._keep_best(figures)
            self._log(figures)
            save_checkpoint(
                self.checkpoint_path,
                {"step": self.step, "alarms": self.alarms},
                {"epoch": self.state.epoch, "iteration": self.state.iteration, "best": self.best},
            )
        if distributed.is_initialized():
            distributed.barrier()

    def _keep_best(self, figures: Mapping[str, float]) -> None:
        if self.key_metric_name is None:
            self._ship()
            return
        names = self.key_metric_name.split("+")
        validated = self.validate is not None and self.state.epoch % self.validate_every
        if validated and self.state.epoch != self.state.max_epochs:
            return
        unknown = [name for name in names if name not in figures]
        if unknown:
            raise SettingError(f"key_metric names '{unknown[0]}'; this run has {', '.join(sorted(figures))}.")
        score = sum(figures[name] for name in names)
        self.state.metrics[self.key_metric_name] = score
        if score < self.best:
            self.best = score
            self._ship()

    def _ship(self) -> None:
        save_weights(self.output_dir / "model.pt", self.step.shipped)
        if self.card is not None:
            self.card.save(self.output_dir / "model.pt")

    def _log(self, figures: Mapping[str, float]) -> None:
        log = self.output_dir / "losses.csv"
        new = not log.exists()
        with open(log, "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["epoch", "name", "value"])
            writer.writerows([self.state.epoch, name, f"{value:.6g}"] for name, value in figures.items())
        for name, value in figures.items():
            self._board.add_scalar(name, value, self.state.epoch)
        if self.state.epoch % self.picture_every == 0 or self.state.epoch == self.state.max_epochs:
            sheet = self.output_dir / "pictures" / f"epoch_{self.state.epoch:04d}.png"
            training_sheet(self.step.images, sheet)
            loss_curves(log, self.output_dir / "losses.png")
            for name, image in self.step.images.items():
                self._board.add_image(name, _middle(image).clamp(-1, 1) / 2 + 0.5, self.state.epoch)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("epoch %d: %s", self.state.epoch, shown)

    def _trim_log(self) -> None:
        """Drop what an interrupted epoch left behind the checkpoint."""
        log = self.output_dir / "losses.csv"
        if is_first_process() and log.exists():
            rows = list(csv.reader(log.read_text().splitlines()))
            kept = [rows[0], *(row for row in rows[1:] if int(row[0]) <= self.state.epoch)]
            with open(log, "w", newline="") as file:
                csv.writer(file).writerows(kept)


def _middle(image: Tensor) -> Tensor:
    """Middle channel and slice of the first image, as ``(1, rows, columns)``."""
    first = image[0].detach().float().cpu()
    while first.ndim > 3:
        first = first[..., first.shape[-1] // 2]
    return first[first.shape[0] // 2][None]
