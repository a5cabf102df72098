"""Random views of training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from monai.transforms import Compose


def translation_augmentation(
    keys: Sequence[str],
    crop_size: Sequence[int],
    *,
    rotation: float,
    scaling: float,
    flip: bool,
    mr_gain: float = 0.0,
    mr_gamma: float = 0.0,
    mr_bias: float = 0.0,
) -> Compose:
    """Random views of training images ``(channel, *spatial)`` in unit space; air (-1) fills what lies outside.

    Args:
        keys: images moved together: one when unpaired, ``("mr", "ct")`` when paired.
        crop_size: voxels of the view.
        rotation: largest rotation in degrees, about the slice normal in 2D, about every axis in 3D.
        scaling: largest relative change of size.
        flip: mirror left-right with probability one half.
        mr_gain: largest relative change of the MR scale.
        mr_gamma: largest relative change of the MR contrast exponent.
        mr_bias: largest coefficient of a smooth multiplicative field on the MR.
    """
    from monai.transforms import (
        Compose,
        Lambdad,
        RandAdjustContrastd,
        RandAffined,
        RandBiasFieldd,
        RandFlipd,
        RandScaleIntensityd,
    )

    dims = len(crop_size)
    steps: list = [
        Lambdad(keys=keys, func=_above_air),
        RandAffined(
            keys=keys,
            prob=1.0,
            rotate_range=[np.deg2rad(rotation)] * (1 if dims == 2 else 3),
            scale_range=[(-scaling, scaling)] * dims,
            spatial_size=tuple(crop_size),
            padding_mode="zeros",
            mode="bilinear",
        ),
    ]
    if flip:
        steps.append(RandFlipd(keys=keys, prob=0.5, spatial_axis=0))
    if "mr" in keys and mr_gamma:
        steps.append(RandAdjustContrastd(keys="mr", prob=0.8, gamma=(1 / (1 + mr_gamma), 1 + mr_gamma)))
    if "mr" in keys and mr_bias:
        steps.append(RandBiasFieldd(keys="mr", prob=0.8, degree=2, coeff_range=(-mr_bias, mr_bias)))
    if "mr" in keys and mr_gain:
        steps.append(RandScaleIntensityd(keys="mr", prob=0.8, factors=mr_gain))
    steps.append(Lambdad(keys=keys, func=_below_air))
    return Compose(steps)


def _above_air(image: torch.Tensor) -> torch.Tensor:
    return image + 1.0


def _below_air(image: torch.Tensor) -> torch.Tensor:
    return image.clamp(0.0, 2.0) - 1.0
