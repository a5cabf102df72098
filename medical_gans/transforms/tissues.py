"""What the voxels of a CT or of a label map hold, as shares of tissues that can be painted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medical_gans.errors import SettingError
from medical_gans.transforms.random_fields import RandomFields, Range


class CtTissues:
    """How much fat, water, marrow and mineral each voxel of a CT holds, with thresholds drawn anew each time.

    Outside bone a voxel lies on the way from air over fat to water; inside bone (cortex and all that it encloses) on
    that from marrow to mineral, so that partial volume needs no rule of its own. Signal of marrow falls linearly with
    HU: measured on a leg whose MR and CT agree, 0.92 of fat at 0 HU, 0.62 at 500, 0.18 at 1100.

    Args:
        fat_hounsfield: HU below which soft tissue is all fat, [low, high].
        water_hounsfield: HU above which it is all water.
        marrow_hounsfield: HU below which bone is all marrow.
        mineral_hounsfield: HU above which bone is all mineral.
        red_marrow: share of red marrow, [low, high] in most draws.
        red_marrow_scale: mm over which that share changes.
        cortex_change: probability that cortex is made thicker or thinner, in the truth as well.
        cortex_voxels: largest change at each face, in voxels, [thinner, thicker].
    """

    def __init__(
        self,
        *,
        fat_hounsfield: Range = (-110.0, -85.0),
        water_hounsfield: Range = (10.0, 40.0),
        marrow_hounsfield: Range = (-50.0, 150.0),
        mineral_hounsfield: Range = (1150.0, 1550.0),
        red_marrow: Range = (0.0, 0.5),
        red_marrow_scale: Range = (15.0, 40.0),
        cortex_change: float = 0.4,
        cortex_voxels: Range = (0.7, 1.0),
    ) -> None:
        self.fat_hounsfield = fat_hounsfield
        self.water_hounsfield = water_hounsfield
        self.marrow_hounsfield = marrow_hounsfield
        self.mineral_hounsfield = mineral_hounsfield
        self.red_marrow = red_marrow
        self.red_marrow_scale = red_marrow_scale
        self.cortex_change = cortex_change
        self.cortex_voxels = cortex_voxels

    def changed_cortex(self, hounsfield: Tensor, bone: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """HU and bone with a cortex that is thicker or thinner by up to a voxel at each face, in some draws.

        Args:
            hounsfield: ``(slice, row, column)``.
            bone: share of bone with what it encloses, same shape.
            rng: draws whether and how much.
        """
        happens, thicker, amount = rng.random(), rng.random() < 0.6, rng.random()
        if happens >= self.cortex_change:
            return hounsfield, bone
        near = widened(bone)
        if thicker:
            moved = widened(hounsfield)
            amount *= self.cortex_voxels[1]
            bone = bone + amount * (near - bone)
        else:
            moved = -widened(-hounsfield)
            amount *= self.cortex_voxels[0]
        return hounsfield + amount * near * (moved - hounsfield), bone

    def __call__(
        self, hounsfield: Tensor, bone: Tensor, body: Tensor, fields: RandomFields, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Shares of ``fat``, ``water``, ``fatty_marrow``, ``red_marrow`` and ``cortex``; what is left is air.

        Args:
            hounsfield: ``(slice, row, column)``.
            bone: share of bone with what it encloses.
            body: share of body.
            fields: of the window that the images show.
            rng: draws thresholds.
        """
        low, high = rng.uniform(*self.fat_hounsfield), rng.uniform(*self.water_hounsfield)
        soft = body * (1 - bone)
        filled = ((hounsfield + 1000.0) / (low + 1000.0 - 30.0)).clamp(0, 1)
        fat = ((high - hounsfield) / (high - low)).clamp(0, 1)
        calcium = ((hounsfield - 150.0) / 400.0).clamp(0, 1)
        low, high = rng.uniform(*self.marrow_hounsfield), rng.uniform(*self.mineral_hounsfield)
        marrow = ((high - hounsfield) / (high - low)).clamp(0, 1)
        most = rng.uniform(*self.red_marrow)
        red = (fields.smooth(rng.uniform(*self.red_marrow_scale), None)[0] * (0.5 * most) + most).clamp_(0, 1)
        inside = bone * body
        soft = soft * filled
        return {
            "fat": soft * fat,
            "water": soft * (1 - fat) * (1 - calcium),
            "fatty_marrow": inside * marrow * (1 - red),
            "red_marrow": inside * marrow * red,
            "cortex": inside * (1 - marrow) + soft * (1 - fat) * calcium,
        }


def label_tissues(labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Shares of the classes of a label map, for a `Painter` with signals for ``label_0``, ``label_1`` and so on.

    Args:
        labels: whole numbers below `classes`, ``(slice, row, column)``.
        classes: number of classes.

    Raises:
        SettingError: a label is out of range.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise SettingError(f"The labels run from {low} to {high}; {classes} classes are painted (0 to {classes - 1}).")
    return {f"label_{number}": (labels == number).float() for number in range(classes)}


def widened(image: Tensor) -> Tensor:
    """Largest value among the 3 x 3 neighbours in plane; faster here than max pooling."""
    for axis in (1, 2):
        count = image.shape[axis]
        wider = image.clone()
        for side in (-1, 1):
            source = image.narrow(axis, max(side, 0), count - 1)
            target = wider.narrow(axis, max(-side, 0), count - 1)
            torch.maximum(target, source, out=target)
        image = wider
    return image
