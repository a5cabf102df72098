"""Learning rates over epochs, and what has to be kept of several optimisers to continue them exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def flat_then_linear(epoch: int, flat_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for `flat_epochs`, then linearly to 0 (Zhu et al. 2017, section 4)."""
    return 1.0 - max(0, epoch - flat_epochs + 1) / (decay_epochs + 1)


class FlatThenLinear(LambdaLR):
    """The schedule `flat_then_linear` of an optimiser.

    Args:
        optimizer: whose rates it sets.
        flat_epochs: epochs at the full learning rate.
        decay_epochs: epochs of linear decay that follow.
    """

    def __init__(self, optimizer: Optimizer, flat_epochs: int, decay_epochs: int) -> None:
        super().__init__(optimizer, partial(flat_then_linear, flat_epochs=flat_epochs, decay_epochs=decay_epochs))


def flat_then_linear_schedules(
    optimisers: Mapping[str, Optimizer], flat_epochs: int, decay_epochs: int
) -> dict[str, LambdaLR]:
    """The schedule `flat_then_linear` for each optimiser, by its name."""
    return {
        name: LambdaLR(optimiser, lambda epoch: flat_then_linear(epoch, flat_epochs, decay_epochs))
        for name, optimiser in optimisers.items()
    }


def continue_schedule(schedule: LambdaLR, last_epoch: int) -> None:
    """Go on after `last_epoch` with the rates of this schedule, be it longer than the one that was stored."""
    schedule.last_epoch = last_epoch
    for group, base, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = base * factor(last_epoch)


def descent_state(
    optimisers: Mapping[str, Optimizer], schedules: Mapping[str, LambdaLR], scaler: torch.amp.GradScaler
) -> dict[str, Any]:
    """What `continue_descent` takes: entries ``optimisers``, ``schedules`` and ``scaler`` of a step's state."""
    return {
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
        "schedules": {name: {"last_epoch": schedule.last_epoch} for name, schedule in schedules.items()},
        "scaler": scaler.state_dict(),
    }


def continue_descent(
    state: Mapping[str, Any],
    optimisers: Mapping[str, Optimizer],
    schedules: Mapping[str, LambdaLR],
    scaler: torch.amp.GradScaler,
) -> None:
    """Go on from a stored state; see `continue_schedule` for the rates."""
    for name, optimiser in optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
        continue_schedule(schedules[name], state["schedules"][name]["last_epoch"])
    scaler.load_state_dict(state["scaler"])
