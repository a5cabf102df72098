"""Volumes as the tensors that MONAI's programs hand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medical_gans.io import Volume


def on_grid(array: np.ndarray, volume: Volume, **further: Any) -> MetaTensor:
    """A tensor of an array, with what MONAI's and MONAI Label's writers ask of the grid that results belong on.

    Args:
        array: any shape; unsigned integers that torch lacks become int32.
        volume: on whose grid results belong.
        further: entries of its metadata.
    """
    unsigned = array.dtype.kind == "u" and array.itemsize > 1
    native = array.dtype.newbyteorder("=")
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32 if unsigned else native))
    affine = np.array(volume.affine, dtype=np.float64)
    meta = {
        "affine": torch.from_numpy(affine),
        "original_affine": affine.copy(),
        "spatial_shape": np.array(volume.array.shape),
        "original_channel_dim": "no_channel",
        "filename_or_obj": str(volume.source),
    }
    return MetaTensor(tensor, meta={**meta, **further})
