"""From nodule patches in HU to the views that a generator and its discriminator train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medical_gans.data.epoch_views import EpochViews
from medical_gans.errors import InputError, SettingError
from medical_gans.io.nodules import CLASSES, NodulePatches, split_by_patient
from medical_gans.transforms import window_to_unit

CHOICES = ("both", "all", *CLASSES)


class NoduleViews(EpochViews):
    """Patches of chosen classes, drawn at random, each class equally often where `balanced`.

    Args:
        patches: of the training patients.
        labels: classes to draw from, indices into `CLASSES`.
        window: HU that become [-1, 1].
        views_per_epoch: views drawn in one epoch.
        balanced: draw each class equally often rather than as the data has them.
        flip: mirror left-right with probability one half.
        seed: of every random choice.

    Raises:
        InputError: a class has no patch.
    """

    def __init__(
        self,
        patches: NodulePatches,
        labels: Sequence[int],
        *,
        window: Sequence[float],
        views_per_epoch: int,
        balanced: bool = True,
        flip: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.images = window_to_unit(patches.hounsfield, window)[:, None]
        self.labels = patches.label
        self.members = {label: np.flatnonzero(self.labels == label) for label in labels}
        empty = [CLASSES[label] for label, members in self.members.items() if not len(members)]
        if empty:
            counts = ", ".join(f"{int((self.labels == n).sum())} {name}" for n, name in enumerate(CLASSES))
            raise InputError(
                f"No {empty[0]} nodule among the training patients ({counts}). Give data with ratings "
                f"of that class, or choose other classes by malignancy."
            )
        self.balanced, self.flip = balanced, flip

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``(1, *spatial)`` in [-1, 1] and ``label``."""
        rng = self.random(index)
        if self.balanced:
            drawn = rng.choice(self.members[list(self.members)[rng.integers(len(self.members))]])
        else:
            drawn = rng.choice(np.concatenate(list(self.members.values())))
        image = self.images[drawn]
        if self.flip and rng.random() < 0.5:
            image = image[:, :, ::-1]  # columns are left-right, also in a volume (rows, columns, slices)
        return {"image": torch.from_numpy(image.copy()), "label": torch.tensor(int(self.labels[drawn]))}


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


def nodule_views(
    patches: NodulePatches,
    labels: Sequence[int],
    *,
    split_fractions: Sequence[float] = (0.6, 0.1, 0.3),
    split_seed: int = 0,
    **options: Any,
) -> NoduleViews:
    """Views of the training patients of a data set.

    Args:
        patches: of all patients.
        labels: classes to draw from.
        split_fractions: of the patients for training, validation and test.
        split_seed: draws another split.
        options: see `NoduleViews`.

    Raises:
        InputError: a class has no patch.
    """
    training = split_by_patient(patches, "train", fractions=split_fractions, seed=split_seed)
    return NoduleViews(training, labels, **options)
