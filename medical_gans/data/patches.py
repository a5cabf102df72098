"""From nodule patches in HU to the views that networks train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medical_gans.data.epoch_views import EpochViews, plain
from medical_gans.errors import InputError, SettingError
from medical_gans.io.nodules import CLASSES, NodulePatches

CHOICES = ("both", "all", *CLASSES)
Transform = Callable[[Any], Any]
"""Of dictionaries with ``image`` ``(1, *spatial)``, as MONAI's are."""


class NoduleViews(EpochViews):
    """Patches of chosen classes, drawn at random, each class equally often where `balanced`.

    Args:
        patches: of the training patients.
        labels: classes to draw from, indices into `CLASSES`.
        preprocessing: from HU to what networks see.
        augmentation: random transforms of each view; None for none.
        views_per_epoch: views drawn in one epoch.
        balanced: draw each class equally often rather than as the data has them.
        seed: of every random choice.

    Raises:
        InputError: a class has no patch.
    """

    def __init__(
        self,
        patches: NodulePatches,
        labels: Sequence[int],
        *,
        preprocessing: Transform,
        augmentation: Transform | None = None,
        views_per_epoch: int,
        balanced: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.labels = patches.label
        self.members = {label: np.flatnonzero(self.labels == label) for label in labels}
        empty = [CLASSES[label] for label, members in self.members.items() if not len(members)]
        if empty:
            counts = ", ".join(f"{int((self.labels == n).sum())} {name}" for n, name in enumerate(CLASSES))
            raise InputError(
                f"No {empty[0]} nodule among the training patients ({counts}). Give data with ratings "
                f"of that class, or choose other classes by malignancy."
            )
        self.images = images_of(patches.hounsfield, preprocessing)
        self.balanced, self.augmentation = balanced, augmentation

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``(1, *spatial)`` in [-1, 1] and ``label``."""
        rng = self.random(index)
        if self.balanced:
            drawn = rng.choice(self.members[list(self.members)[rng.integers(len(self.members))]])
        else:
            drawn = rng.choice(np.concatenate(list(self.members.values())))
        view = {"image": self.images[drawn], "label": torch.tensor(int(self.labels[drawn]))}
        return self.augmented(self.augmentation, view, index)


class MeasuredViews(EpochViews):
    """Every patch once before any comes again, with its malignancy and radiomic measures.

    Args:
        images: ``(n, 1, *spatial)`` in [-1, 1].
        malignant: ``(n,)`` 1, 0, or NaN where nobody knows.
        measures: ``(n, measures)``, standardised.
        augmentation: random transforms of each view; None for none.
        views_per_epoch: views drawn in one epoch.
        seed: of every random choice.
    """

    def __init__(
        self,
        images: Tensor,
        malignant: np.ndarray,
        measures: np.ndarray,
        *,
        augmentation: Transform | None = None,
        views_per_epoch: int,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.images, self.augmentation = images, augmentation
        self.malignant, self.measures = (torch.from_numpy(np.float32(one)) for one in (malignant, measures))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``(1, *spatial)`` in [-1, 1], ``malignant`` and ``measures``."""
        turn, place = divmod(self.epoch * self.views_per_epoch + index, len(self.images))
        drawn = int(np.random.default_rng((self.seed, turn)).permutation(len(self.images))[place])
        view = {"image": self.images[drawn], "malignant": self.malignant[drawn], "measures": self.measures[drawn]}
        return self.augmented(self.augmentation, view, index)


def images_of(hounsfield: np.ndarray, preprocessing: Transform) -> Tensor:
    """Patches ``(n, *spatial)`` in HU as images ``(n, 1, *spatial)`` for a network."""
    made = [plain(preprocessing({"image": torch.from_numpy(np.float32(patch))[None]})["image"]) for patch in hounsfield]
    return torch.stack(made) if made else torch.empty(0, 1, *hounsfield.shape[1:])


def labels_of(malignancy: str, num_classes: int) -> list[int]:
    """Labels that a training draws from.

    Args:
        malignancy: ``"all"`` (benign, malignant and indeterminate), ``"both"`` (without indeterminate), or one class.
        num_classes: of the networks; 3, 2 (without indeterminate) or 0.

    Raises:
        SettingError: unknown choice, or more classes to learn than the networks have.
    """
    if malignancy not in CHOICES:
        raise SettingError(f"malignancy is '{malignancy}'; choose {', '.join(CHOICES)}.")
    labels = {"all": [0, 1, 2], "both": [0, 1]}.get(malignancy) or [CLASSES.index(malignancy)]
    if num_classes and max(labels) >= num_classes:
        raise SettingError(
            f"num_classes is {num_classes}, but malignancy={malignancy} needs {max(labels) + 1}. "
            "Set num_classes to 3, or to 2 with malignancy=both."
        )
    return labels
