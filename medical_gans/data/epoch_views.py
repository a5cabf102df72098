"""What all data sets of random training views share: a view is a function of (seed, epoch, index) alone.

Nothing has to be remembered to continue a run exactly, and the number of workers changes nothing.
"""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset


class EpochViews(Dataset):
    """Views drawn at random, other ones in each epoch; a subclass adds ``__getitem__``.

    Args:
        views_per_epoch: length of the data set.
        seed: of every random choice.
    """

    def __init__(self, views_per_epoch: int, seed: int = 0) -> None:
        self.views_per_epoch, self.seed = views_per_epoch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the views of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.views_per_epoch

    def random(self, index: int, *more: int) -> np.random.Generator:
        """Generator for the choices of one view; `more` numbers several generators of the same view."""
        return np.random.default_rng((self.seed, self.epoch, index, *more))
