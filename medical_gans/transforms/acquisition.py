"""What another scanner does to a patch of normalised MR: an uneven sensitivity, and thick slices along any axis."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor
from torch.nn.functional import interpolate

from medical_gans.errors import SettingError
from medical_gans.transforms.sequence_grid import resized


class RandSensitivityd(RandomizableTransform, MapTransform):
    """Multiplies the signal by a smooth random field, as receive coils do.

    A patch is normalised to mean 0 and deviation 1, so that its signal is `level` deviations above what it says. What
    is 0 stays 0, and the mean of each channel as well.

    Args:
        keys: ``(channel, *spatial)``, three spatial axes.
        strength: largest relative change of the signal.
        knots: random values along each axis that the field runs through.
        level: mean of the signal in its deviations; 3 in a brain with its liquid.
        prob: of a change.

    Raises:
        SettingError: `strength` is not from 0 to below 1.
    """

    def __init__(
        self, keys: KeysCollection, strength: float = 0.3, knots: int = 3, level: float = 3.0, prob: float = 1.0
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= strength < 1:
            raise SettingError(f"strength is {strength}; give 0 or more, and less than 1.")
        self.strength, self.knots, self.level = strength, knots, level

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(made):
                image = torch.as_tensor(made[key]).as_subclass(Tensor).float()
                made[key] = torch.stack([self._uneven(one) for one in image])
        return made

    def _uneven(self, image: Tensor) -> Tensor:
        strength = self.R.uniform(0, self.strength)
        knots = self.R.uniform(-strength, strength, size=(1, 1, *[self.knots] * 3)).astype(np.float32)
        field = interpolate(torch.from_numpy(knots), size=image.shape, mode="trilinear", align_corners=True)[0, 0]
        inside = image != 0
        if not inside.any():
            return image
        changed = (image + self.level) * (1 + field) - self.level
        return torch.where(inside, changed - changed[inside].mean() + image[inside].mean(), 0.0)


class RandThickSlicesd(RandomizableTransform, MapTransform):
    """Shows a patch as slices of a random thickness along a random axis would, interpolated to the same voxels.

    Args:
        keys: ``(channel, *spatial)``, three spatial axes.
        thickness: of slices in mm, [thinnest, thickest].
        spacing: mm of a voxel along each axis; None, also for an axis, is taken for 1.
        prob: of a change.

    Raises:
        SettingError: `thickness` is no two rising numbers above 0.
    """

    def __init__(
        self,
        keys: KeysCollection,
        thickness: Sequence[float] = (2.0, 6.0),
        spacing: Sequence[float | None] | None = None,
        prob: float = 1.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if len(thickness) != 2 or not 0 < thickness[0] <= thickness[1]:
            raise SettingError(f"thickness is {list(thickness)}; give the thinnest and the thickest slices in mm.")
        self.thickness = float(thickness[0]), float(thickness[1])
        self.spacing = tuple(float(edge or 1.0) for edge in (spacing or (None,) * 3))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        self.randomize(None)
        if self._do_transform:
            axis, thickness = int(self.R.randint(3)), self.R.uniform(*self.thickness)
            for key in self.key_iterator(made):
                image = np.asarray(made[key], dtype=np.float32)
                shape = list(image.shape[1:])
                slices = round(shape[axis] * self.spacing[axis] / thickness)
                if slices >= shape[axis]:
                    continue
                coarse = [max(1, slices) if number == axis else n for number, n in enumerate(shape)]
                thick = np.stack([resized(resized(one, coarse), shape) for one in image])
                made[key] = torch.from_numpy(np.where(image != 0, thick, 0.0).astype(np.float32))
        return made
