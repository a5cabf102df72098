"""Learning rates over epochs."""


def flat_then_linear(epoch: int, flat_epochs: int, decay_epochs: int) -> float:
    """Factor of the learning rate: 1 for `flat_epochs`, then linearly to 0 (Zhu et al. 2017, section 4)."""
    return 1.0 - max(0, epoch - flat_epochs + 1) / (decay_epochs + 1)
