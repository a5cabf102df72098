"""One side of an adversarial game, and what every method makes of its sides.

A `Player` is what a side needs to take part: networks, optimiser, schedule, clipping, running average, mixed precision,
processes, state. A `Method` holds players and writes only its losses, so that it can be read beside its paper.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medical_gans.errors import SettingError
from medical_gans.networks import fast_layout
from medical_gans.networks.freed_memory import keep_freed_memory
from medical_gans.networks.layout import computes_in_bfloat16
from medical_gans.training.checkpoints import Stateful
from medical_gans.training.parallel import average_gradients, share_weights

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Player:
    """Networks that are updated together, and all that an update needs.

    Args:
        networks: by name; those that are None are left out.
        optimizer: makes the optimiser from groups of parameters, one group a network: in a config an entry with
            ``_mode_: callable``, such as ``{_target_: torch.optim.Adam, _mode_: callable, lr: 2.0e-4}``.
        schedule: makes the schedule of learning rates from the optimiser, stepped once an epoch; None keeps the rates.
        rates: learning rate of a network relative to that of the optimiser; 1 where it is not named.
        clip_norm: largest norm of the gradient; 0 does not clip.
        clip_each: that of each network by itself instead of all together.
        average: names of the networks that have a running average, which is what ships.
        ema_decay: decay of the running averages per update; 0 makes them the latest weights.
        hold: names of the networks that stay as they are during the first `hold_steps` updates, while the others
            catch up; for networks that start from good weights.
        hold_steps: see `hold`.
        amp: automatic mixed precision.
        amp_type: ``float16``, with scaled losses, on a GPU only, or ``bfloat16``, also on a CPU that has
            instructions for it; others compute in float32, which is many times faster there.
        accumulate: losses whose mean gradient makes an update; several stand for a larger batch where the memory does
            not hold it. What is left at the end of an epoch makes a smaller update.
        compile: compile the networks with ``torch.compile``, by its default backend or the one named; takes minutes,
            and a C++ compiler on a CPU. The running averages, which ship, are not compiled.
        device: where the networks are.

    Raises:
        SettingError: a name that is no network of this player, or an optimiser or schedule that cannot be used.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module | None],
        optimizer: Callable[..., Optimizer],
        *,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        rates: Mapping[str, float] | None = None,
        clip_norm: float = 0.0,
        clip_each: bool = False,
        average: Sequence[str] = (),
        ema_decay: float = 0.999,
        hold: Sequence[str] = (),
        hold_steps: int = 0,
        amp: bool = False,
        amp_type: str = "float16",
        accumulate: int = 1,
        compile: bool | str = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.rates, self.hold, self.hold_steps = dict(rates or {}), tuple(hold), hold_steps
        given = {name: network for name, network in networks.items() if network is not None}
        for name in (*self.rates, *average, *self.hold):
            if name not in given:
                raise SettingError(f"This player has no network '{name}'; there are {', '.join(given)}.")
        if amp_type not in _PRECISIONS:
            raise SettingError(f"amp_type is '{amp_type}'; choose {' or '.join(_PRECISIONS)}.")
        if accumulate < 1:
            raise SettingError(f"accumulate is {accumulate}; give the number of batches per update, 1 or more.")
        if self.device.type == "cpu":
            keep_freed_memory()
        self.networks = fast_layout(nn.ModuleDict(given).to(self.device))
        share_weights(self.networks)
        averaging = get_ema_multi_avg_fn(ema_decay)
        self.averages = nn.ModuleDict(
            {name: AveragedModel(self.networks[name], multi_avg_fn=averaging, use_buffers=True) for name in average}
        )
        if compile:
            for network in self.networks.values():
                network.compile(backend=compile if isinstance(compile, str) else "inductor")
        self.clip_norm, self.clip_each = clip_norm, clip_each
        self.accumulate, self._gathered = accumulate, 0
        self.precision = _PRECISIONS[amp_type]
        on_gpu = self.device.type == "cuda"
        on_cpu = self.device.type == "cpu" and computes_in_bfloat16()
        self.amp = amp and (on_gpu or (amp_type == "bfloat16" and on_cpu))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp and amp_type == "float16")
        self.optimizer = _optimizer(optimizer, self.networks, self.rates)
        self._make_schedule = schedule
        self._plan = [_without_parameters(group) for group in self.optimizer.param_groups]
        self.schedule = _schedule(schedule, self.optimizer)
        self.steps = 0
        self.epochs = 0

    def __getitem__(self, name: str) -> nn.Module:
        """The network of that name, as it is trained."""
        return self.networks[name]

    def averaged(self, name: str) -> nn.Module:
        """The running average of a network, or the network itself where it has none."""
        if name not in self.averages:
            return self.networks[name]
        return self.averages[name].module  # type: ignore[return-value]

    def parameters(self) -> list[nn.Parameter]:
        """Of all networks."""
        return list(self.networks.parameters())

    def begin(self) -> None:
        """Get ready for a step: training mode, and gradients for all networks but those on hold."""
        self.networks.train()
        self._take_gradients()

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision inside, where it is on."""
        return torch.autocast(self.device.type, self.precision) if self.amp else nullcontext()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, losses have no gradient with respect to this player: it is the turn of the other one."""
        self.networks.requires_grad_(False)
        try:
            yield
        finally:
            self._take_gradients()

    def descend(self, loss: Tensor) -> None:
        """Update the networks by the gradient of a loss, or of `accumulate` of them, and their running averages."""
        if not self._gathered:
            self.optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:  # not where all that it depends on is on hold
            self.scaler.scale(loss if self.accumulate == 1 else loss / self.accumulate).backward()
        self._gathered += 1
        if self._gathered == self.accumulate:
            self._update()

    def _update(self) -> None:
        self._gathered = 0
        average_gradients(self.networks.parameters())
        if any(p.grad is not None for p in self.networks.parameters()):
            self.scaler.unscale_(self.optimizer)
            self._clip()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()  # of nothing, for schedules count from the first
        self._count()

    def move(self, gradients: Iterable[Tensor]) -> None:
        """As `descend`, by given gradients: one for each of `parameters`."""
        for parameter, gradient in zip(self.networks.parameters(), gradients, strict=True):
            parameter.grad = gradient
        average_gradients(self.networks.parameters())
        self._clip()
        self.optimizer.step()
        self._count()

    @torch.no_grad()
    def measure_statistics(self, name: str, run: Callable[[nn.Module], None]) -> None:
        """Give a running average the batch statistics of its own activations.

        Averaged weights make other activations than those whose statistics were averaged along with them.

        Args:
            name: of the network.
            run: passes images through the network it is given, as often as makes a good mean.
        """
        network = self.averaged(name)
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return
        training, momenta = network.training, [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
        run(network.train())
        network.train(training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def end_epoch(self) -> None:
        """Use what has been accumulated, so that nothing is lost between epochs, and advance the schedule."""
        if self._gathered:
            self._update()
        self.epochs += 1
        if self.schedule is not None:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, but for what the config says."""
        return {
            "networks": self.networks.state_dict(),
            "averages": self.averages.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "steps": self.steps,
            "epochs": self.epochs,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state, by the plan of this player: learning rates, betas and schedule are the config's.

        The schedule is run again up to the epoch reached, so that a run continued with a longer plan equals one that
        had that plan from the beginning.
        """
        self.networks.load_state_dict(state["networks"])
        self.averages.load_state_dict(state["averages"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps, self.epochs = state["steps"], state["epochs"]
        for group, planned in zip(self.optimizer.param_groups, self._plan, strict=True):
            group.pop("initial_lr", None)
            group.update(planned)
        self.schedule = _schedule(self._make_schedule, self.optimizer)
        if self.schedule is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch wants an update before each step of a schedule
                for _ in range(self.epochs):
                    self.schedule.step()

    def _take_gradients(self) -> None:
        for name, network in self.networks.items():
            network.requires_grad_(name not in self.hold or self.steps >= self.hold_steps)

    def _clip(self) -> None:
        if self.clip_norm <= 0:
            return
        for network in self.networks.values() if self.clip_each else [self.networks]:
            nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)

    def _count(self) -> None:
        for name, average in self.averages.items():
            average.update_parameters(self.networks[name])  # type: ignore[operator]
        self.steps += 1


class Method(ABC):
    """A way to train: players, and how one batch updates them.

    A subclass writes ``__call__``; it may add to `end_epoch`.

    Args:
        players: by name.
        shipped: names of the player and of its network that validation judges and inference uses.
        others: further parts with state, by name, such as a history of images.

    Attributes:
        images: what was seen and made last, ``(batch, channel, *spatial)`` in [-1, 1]; for pictures and alarms.
    """

    def __init__(
        self, players: Mapping[str, Player], shipped: tuple[str, str], others: Mapping[str, Stateful] | None = None
    ) -> None:
        self.players = dict(players)
        self.others = dict(others or {})
        self._shipped = shipped
        self.images: dict[str, Tensor] = {}

    @abstractmethod
    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update the players once; the losses by name."""

    @property
    def shipped(self) -> nn.Module:
        """The network that is kept, as a running average where it has one."""
        player, network = self._shipped
        return self.players[player].averaged(network)

    def end_epoch(self) -> None:
        """Advance the schedules."""
        for player in self.players.values():
            player.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "players": {name: player.state_dict() for name, player in self.players.items()},
            "others": {name: other.state_dict() for name, other in self.others.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        for name, player in self.players.items():
            player.load_state_dict(state["players"][name])
        for name, other in self.others.items():
            other.load_state_dict(state["others"][name])


def _optimizer(make: Callable[..., Optimizer], networks: nn.ModuleDict, rates: Mapping[str, float]) -> Optimizer:
    if isinstance(make, Optimizer) or not callable(make):
        raise SettingError(
            f"optimizer is {make!r}; write an entry with `_mode_: callable`, such as "
            "{_target_: torch.optim.Adam, _mode_: callable, lr: 2.0e-4}."
        )
    made = make([{"params": list(network.parameters())} for network in networks.values()])
    for group, name in zip(made.param_groups, networks, strict=True):
        group["lr"] = group["lr"] * rates.get(name, 1.0)
    return made


def _schedule(make: Callable[[Optimizer], LRScheduler] | None, optimizer: Optimizer) -> LRScheduler | None:
    if make is None:
        return None
    schedule = make(optimizer)
    if isinstance(schedule, ReduceLROnPlateau):
        raise SettingError("ReduceLROnPlateau follows a figure, not the epochs; choose a schedule that follows epochs.")
    return schedule


def _without_parameters(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
