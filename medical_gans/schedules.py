"""Learning rates over epochs."""

from __future__ import annotations

from torch.optim.lr_scheduler import LambdaLR


def flat_then_linear(epoch: int, flat_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for `flat_epochs`, then linearly to 0 (Zhu et al. 2017, section 4)."""
    return 1.0 - max(0, epoch - flat_epochs + 1) / (decay_epochs + 1)


def continue_schedule(schedule: LambdaLR, last_epoch: int) -> None:
    """Go on after `last_epoch` with the rates of this schedule, be it longer than the one that was stored."""
    schedule.last_epoch = last_epoch
    for group, base, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = base * factor(last_epoch)
