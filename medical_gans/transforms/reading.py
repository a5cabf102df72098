"""From files to tensors that know where they lie."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medical_gans.errors import InputError, UserError
from medical_gans.io import Volume, read_volume
from medical_gans.transforms.modality import with_background_at_zero


class ReadImaged(MapTransform):
    """Reads image files and DICOM series by `io.read_volume`, which refuses what it cannot trust.

    The result is a `MetaTensor` ``(1, *spatial)`` in stored order and stored units, with the affine to RAS+ mm. What
    its metadata say of ``original_affine`` and ``spatial_shape`` is the grid that results belong on. A `Volume` is
    taken as read, a tensor is left alone.

    Args:
        keys: of paths.
        modalities: what an image of a key may be, such as ``{image: MR}``; other kinds of known modality are refused.
            The background of what is to be an MR is brought to 0 where it was normalised before.
        allow_missing_keys: leave out those of `keys` that are not there.
    """

    def __init__(
        self, keys: KeysCollection, modalities: Mapping[str, str] | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.modalities = dict(modalities or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read.

        Raises:
            InputError: as `io.read_volume`, or the image is of another modality.
        """
        read = dict(data)
        for key in self.key_iterator(read):
            given, wanted = read[key], self.modalities.get(str(key))
            if isinstance(given, str | PathLike):
                given = read_volume(given, modality=wanted)
            if isinstance(given, Volume):
                if wanted is not None and given.modality not in (None, wanted):
                    raise InputError(f"{given.source} is a {given.modality}; an {wanted} is needed.")
                given = with_background_at_zero(given) if wanted == "MR" else given
                read[key] = on_its_grid(given.array[None], given)
        return read


def preprocessed(
    preprocessing: Callable[[dict[str, Any]], Mapping[Any, Any]], data: dict[str, Any]
) -> Mapping[Any, Any]:
    """What a preprocessing makes of a case; what is wrong with the case is said as it is, not as MONAI wraps it.

    Raises:
        UserError: by a transform.
    """
    try:
        return preprocessing(data)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from error


def on_its_grid(array: np.ndarray, volume: Volume, **further: Any) -> MetaTensor:
    """A tensor of an array, with what MONAI's and MONAI Label's writers ask of the grid that results belong on.

    Args:
        array: any shape; unsigned integers that torch lacks become int32.
        volume: on whose grid the array is.
        further: entries of its metadata.
    """
    unsigned = array.dtype.kind == "u" and array.itemsize > 1
    native = np.int32 if unsigned else array.dtype.newbyteorder("=")
    array = np.require(array, dtype=native, requirements="W")
    backwards = any(stride < 0 for stride in array.strides)  # which torch has not
    tensor = torch.from_numpy(array.copy() if backwards else array)
    affine = np.array(volume.affine, dtype=np.float64)
    meta = {
        "affine": torch.from_numpy(affine),
        "original_affine": affine.copy(),
        "spatial_shape": np.array(volume.array.shape),
        "original_channel_dim": "no_channel",
        "filename_or_obj": str(volume.source),
    }
    return MetaTensor(tensor, meta={**meta, **further})
