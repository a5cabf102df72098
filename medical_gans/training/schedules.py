"""Learning rates over epochs."""

from __future__ import annotations

from functools import partial

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
