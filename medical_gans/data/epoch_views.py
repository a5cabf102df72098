"""What all data sets of random training views share: a view is a function of (seed, epoch, index) alone.

Nothing has to be remembered to continue a run exactly, and the number of workers changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Randomizable
from torch import Tensor
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

    def augmented(self, augmentation: Callable[[Any], Any] | None, view: dict[str, Any], index: int) -> dict[str, Any]:
        """A view through random transforms of MONAI, whose state follows from (seed, epoch, index) too.

        Args:
            augmentation: of dictionaries; None leaves the view as it is.
            view: tensors by name.
            index: of the view.
        """
        if augmentation is None:
            return view
        if isinstance(augmentation, Randomizable):
            augmentation.set_random_state(seed=int(self.random(index, 1).integers(2**32 - 1)))
        return {name: plain(value) for name, value in augmentation(view).items()}


def plain(value: Any) -> Any:
    """A tensor without what MONAI keeps beside it, which would slow down every layer of a network."""
    if isinstance(value, MetaTensor):
        value = value.as_tensor()
    return value.contiguous() if isinstance(value, Tensor) else value
