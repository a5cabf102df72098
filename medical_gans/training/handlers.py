"""What a training does beside training: watch, judge, keep, draw, continue; each a handler that stands in the config.

They are handlers as MONAI and ignite have them: ``attach(engine)``, with a `trainer.MethodTrainer` as engine. At the
end of an epoch they do their work in the order of the config.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events
from torch import Tensor, nn
from tqdm import tqdm

from medical_gans.errors import OutputError, SettingError
from medical_gans.io.ownership import RECORD, Origin, OutputFolder
from medical_gans.io.writing import check_writable, clear_leftovers, prepare_output, whole_file
from medical_gans.report import loss_curves, training_sheet
from medical_gans.training.checkpoints import Stateful, load_checkpoint, save_checkpoint
from medical_gans.training.parallel import is_first_process
from medical_gans.weights import WeightsCard, save_weights

if TYPE_CHECKING:
    from medical_gans.training.trainer import MethodTrainer

logger = logging.getLogger(__name__)

LOSSES = "losses.csv"
_ORIGIN = Origin("training")
_WRITTEN = ("checkpoint.pt", "model.pt", "model.json", LOSSES, "losses.png", "pictures", "tensorboard")


class Progress:
    """A bar for each epoch, and a line with its figures in the log."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        if is_first_process():
            engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.close)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._say)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self, engine: MethodTrainer) -> None:
        state = engine.state
        self._bar = tqdm(total=state.epoch_length, desc=f"epoch {state.epoch}/{state.max_epochs}", leave=False)

    def _advance(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def _say(self, engine: MethodTrainer) -> None:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures(engine).items())
        logger.info("epoch %d: %s", engine.state.epoch, shown)


class Validation:
    """Judges the network that would ship, and adds its figures to those of the epoch.

    Args:
        validate: from a network to figures by name; None where there is no truth to compare with.
        every: epochs between two validations; the last one is always validated.
    """

    def __init__(self, validate: Callable[[nn.Module], dict[str, float]] | None, every: int = 1) -> None:
        self.validate, self.every = validate, every

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        if self.validate is not None and is_first_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def is_due(self, engine: MethodTrainer) -> bool:
        """Whether this epoch is validated."""
        return engine.state.epoch % self.every == 0 or _is_last(engine)

    def _judge(self, engine: MethodTrainer) -> None:
        if self.validate is not None and self.is_due(engine):
            engine.state.metrics.update(self.validate(engine.method.shipped))


class BestWeights:
    """Keeps the weights of the best epoch as ``model.pt``, with their card beside them.

    Args:
        output_dir: folder of the run.
        key_metric: name of the figure, smaller is better: a loss or one of a `Validation` before this handler; several
            joined by ``+``. None keeps the last weights.
        card: what the weights are.

    Raises:
        SettingError: at the end of the first epoch, if `key_metric` is no figure of this run.
    """

    def __init__(self, output_dir: str | Path, key_metric: str | None = None, card: WeightsCard | None = None) -> None:
        self.path = Path(output_dir) / "model.pt"
        self.key_metric, self.card = key_metric, card
        self.best = math.inf

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        if is_first_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._keep)

    def state_dict(self) -> dict[str, Any]:
        """The smallest figure so far."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.best = float(state["best"])

    def _keep(self, engine: MethodTrainer) -> None:
        if self.key_metric is None:
            self._write(engine)
            return
        known = figures(engine)
        unknown = [name for name in self.key_metric.split("+") if name not in known]
        if unknown:
            validations = [handler for handler in engine.handlers if isinstance(handler, Validation)]
            if all(validation.is_due(engine) for validation in validations):
                raise SettingError(f"key_metric names '{unknown[0]}'; this run has {', '.join(sorted(known))}.")
            return
        score = sum(known[name] for name in self.key_metric.split("+"))
        engine.state.metrics[self.key_metric] = score
        if score < self.best:
            self.best = engine.state.best_metric = score
            engine.state.best_metric_epoch = engine.state.epoch
            self._write(engine)

    def _write(self, engine: MethodTrainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(self.path, engine.method.shipped)
        if self.card is not None:
            self.card.save(self.path)


class LossTable:
    """Writes every figure of every epoch to ``losses.csv``: epoch, name, value.

    Args:
        output_dir: folder of the run.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / LOSSES
        self._begun = False

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        if is_first_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _write(self, engine: MethodTrainer) -> None:
        if not self._begun:
            self._begin(engine.state.epoch)
        with open(self.path, "a", newline="") as file:
            rows = ([engine.state.epoch, name, f"{value:.6g}"] for name, value in figures(engine).items())
            csv.writer(file).writerows(rows)

    def _begin(self, epoch: int) -> None:
        """Drop what an interrupted epoch left behind the checkpoint."""
        self._begun = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = list(csv.reader(self.path.read_text().splitlines())) if self.path.exists() else []
        kept = [row for row in rows[1:] if int(row[0]) < epoch]
        with open(self.path, "w", newline="") as file:
            csv.writer(file).writerows([["epoch", "name", "value"], *kept])


class Pictures:
    """Draws what the method last saw and made to ``pictures/``, and the table of losses as curves to ``losses.png``.

    Args:
        output_dir: folder of the run.
        every: epochs between two pictures; the last one is always drawn.
    """

    def __init__(self, output_dir: str | Path, every: int = 1) -> None:
        self.folder, self.every = Path(output_dir), every

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        if is_first_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: MethodTrainer) -> None:
        if engine.state.epoch % self.every == 0 or _is_last(engine):
            training_sheet(engine.method.images, self.folder / "pictures" / f"epoch_{engine.state.epoch:04d}.png")
            if (self.folder / LOSSES).exists():
                loss_curves(self.folder / LOSSES, self.folder / "losses.png")


class TensorBoard:
    """Writes figures and pictures of every epoch to ``tensorboard/``; a resumed run overwrites what came after it.

    Args:
        output_dir: folder of the run.
        every: epochs between two pictures; the last one is always written.
    """

    def __init__(self, output_dir: str | Path, every: int = 1) -> None:
        self.folder, self.every = Path(output_dir) / "tensorboard", every
        self._board: Any = None

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        if is_first_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def close(self) -> None:
        """Write what is still on its way."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _write(self, engine: MethodTrainer) -> None:
        from torch.utils.tensorboard import SummaryWriter

        epoch = engine.state.epoch
        if self._board is None:
            self._board = SummaryWriter(str(self.folder), purge_step=epoch)
        for name, value in figures(engine).items():
            self._board.add_scalar(name, value, epoch)
        if epoch % self.every == 0 or _is_last(engine):
            for name, image in engine.method.images.items():
                self._board.add_image(name, _middle(image).clamp(-1, 1) / 2 + 0.5, epoch)


class Checkpoints:
    """Keeps all that a run needs to continue bit for bit in ``checkpoint.pt``, after every epoch; and continues it.

    That is the method, every other handler with a state, the counters and the random generators.

    Args:
        output_dir: folder of the run.
        resume: go on from the checkpoint that is there.

    Raises:
        OutputError: when the run starts, if the folder holds another run and `resume` is false, or files of others.
        InputError: when the run starts, if the checkpoint does not fit the method.
    """

    def __init__(self, output_dir: str | Path, resume: bool = False) -> None:
        self.path = Path(output_dir) / "checkpoint.pt"
        self.resume = resume

    def attach(self, engine: MethodTrainer) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.STARTED, self._continue)
        if is_first_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _continue(self, engine: MethodTrainer) -> None:
        folder = self.path.parent
        if self.resume and self.path.is_file():
            self._claim(folder)
            counters = load_checkpoint(self.path, _parts(engine))
            engine.state.epoch, engine.state.iteration = int(counters["epoch"]), int(counters["iteration"])
            if engine.state.epoch >= engine.state.max_epochs:
                logger.info("All %d epochs are done.", engine.state.epoch)
            else:
                logger.info("Going on after epoch %d.", engine.state.epoch)
        elif self.path.exists():
            raise OutputError(
                f"{folder} already holds a run. Pass --resume true to continue it, or choose a new output_dir."
            )
        else:
            prepare_output(folder, _ORIGIN, _WRITTEN, writes=is_first_process())
            self._claim(folder)

    @staticmethod
    def _claim(folder: Path) -> None:
        """Write down what is ours; a run that is to be continued is, by its user's word."""
        if is_first_process():
            check_writable(folder)
            clear_leftovers(folder)
            with whole_file(folder / RECORD) as temporary:
                temporary.write_text(OutputFolder(folder, _ORIGIN).record(_WRITTEN), encoding="utf-8")

    def _save(self, engine: MethodTrainer) -> None:
        counters = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(self.path, _parts(engine), counters)


class _HandlerStates:
    """States of all handlers that have one, by their class; one that was not there before starts anew."""

    def __init__(self, handlers: list[Any]) -> None:
        self.handlers: dict[str, Any] = {}
        for handler in handlers:
            if hasattr(handler, "state_dict") and hasattr(handler, "load_state_dict"):
                name = type(handler).__name__
                number = sum(key.partition("_")[0] == name for key in self.handlers)
                self.handlers[f"{name}_{number + 1}" if number else name] = handler

    def state_dict(self) -> dict[str, Any]:
        return {name: handler.state_dict() for name, handler in self.handlers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, handler in self.handlers.items():
            if name in state:
                handler.load_state_dict(state[name])


def figures(engine: MethodTrainer) -> dict[str, float]:
    """What is a number among the figures of this epoch: mean losses, and what handlers added."""
    return {name: float(value) for name, value in engine.state.metrics.items() if _is_number(value)}


def _parts(engine: MethodTrainer) -> dict[str, Stateful]:
    return {"method": engine.method, "handlers": _HandlerStates(engine.handlers)}


def _is_last(engine: MethodTrainer) -> bool:
    return bool(engine.state.epoch == engine.state.max_epochs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)


def _middle(image: Tensor) -> Tensor:
    """Middle channel and slice of the first image, as ``(1, rows, columns)``."""
    first = image[0].detach().float().cpu()
    while first.ndim > 3:
        first = first[..., first.shape[-1] // 2]
    return first[first.shape[0] // 2][None]
