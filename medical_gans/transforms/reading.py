"""From files to tensors that know where they lie; what is no MR, or no CT, is told apart on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medical_gans.errors import InputError, UserError
from medical_gans.io import Volume, mapped, read_volume
from medical_gans.transforms.intensity import AIR_HU

HOUNSFIELD_BELOW = -300.0
"""The darkest hundredth of a CT in HU lies below, that of an MR above."""

_MOST_VOXELS = 2_000_000
_SHIFTED_WATER = (874, 1274)
_SHIFTED_GAP = (150, 800)
_TISSUE_ABOVE = -200.0  # HU
_BRIGHTEST = 3100.0  # HU, that 12 bits reach
_OVERSHOOT = 100.0  # HU below air that noise and kernels reach
_MUCH = 0.2  # of the voxels
_SHELL = 2  # voxels
_BRIGHT_EDGE = 400.0  # HU, that the outermost voxels of no CT have in the middle
_MOST = 0.6  # of the outermost voxels, from which on they are all background
_DARKEST = 0.15  # of the range of values, in which a background lies
_SHIFTED = 0.1  # of the brightest tissue, from which on a background is not at 0
_NEGATIVE = -0.05  # of the brightest tissue: noise around a background of 0 stays above


def checked_ct(volume: Volume) -> Volume:
    """A CT in HU, its padding set to air.

    Raises:
        InputError: the volume is no CT in HU, by its header or its values.
    """
    if volume.modality not in (None, "CT"):
        raise InputError(f"{volume.source} is given as the CT, but its header says {volume.modality}. {_SWAPPED}")
    values = _sample(volume.array)
    above = values[values >= AIR_HU] if np.any(values >= AIR_HU) else values
    lowest, highest = float(np.percentile(np.maximum(values, AIR_HU), 1)), float(np.percentile(above, 99.5))
    twice = highest < _TISSUE_ABOVE and np.mean(values < AIR_HU - _OVERSHOOT) > _MUCH
    if lowest > HOUNSFIELD_BELOW or twice:
        raise InputError(
            f"{volume.source} is given as the CT, but its values are no Hounsfield units: most lie between "
            f"{lowest:.4g} and {highest:.4g}, where a CT shows air at -1000 and tissue around 0. Apply the rescale "
            f"intercept (often -1024), give HU that were not normalised, or check that MR and CT were not swapped."
        )
    edge = float(np.median(_shell(volume.array)))
    if edge > _BRIGHT_EDGE:
        raise InputError(
            f"{volume.source} is given as the CT, but its outermost voxels ({edge:.0f} HU) are as dense as bone, where "
            "a CT shows air or soft tissue: its values may have been turned round. Export it again."
        )
    padding = volume.array < AIR_HU
    if not padding.any():
        return volume
    said = (
        f"{np.mean(padding):.2%} of the CT lies below {AIR_HU:.0f} HU (down to {volume.array.min():.0f}): padding, "
        "taken as air."
    )
    array = np.where(padding, volume.array.dtype.type(AIR_HU), volume.array)
    return replace(volume, array=array, repairs=(*volume.repairs, said))


def checked_mr(volume: Volume) -> Volume:
    """An MR, its background shifted to 0 where it was normalised before.

    Raises:
        InputError: the volume is a CT by its header or its values, or its background cannot be found.
    """
    if volume.modality not in (None, "MR"):
        raise InputError(f"{volume.source} is given as the MR, but its header says {volume.modality}. {_SWAPPED}")
    shifted = with_background_at_zero(volume)
    if is_ct_without_intercept(shifted.array):
        raise InputError(
            f"{volume.source} is given as the MR, but its values look like a CT without its rescale intercept (nearly "
            f"all tissue is close to 1024). {_SWAPPED}"
        )
    return shifted


def with_background_at_zero(volume: Volume) -> Volume:
    """An MR whose background was shifted to 0 where it lies elsewhere, as z-scores, [-1, 1] and offsets leave it.

    Raises:
        InputError: the values may be the Hounsfield units of a CT and no header says that they are none; they were
            turned round; or there are values far below the background, so that none can be the right one.
    """
    values = _sample(volume.array).astype(np.float32)
    low, high = (float(value) for value in np.percentile(values, (0.1, 99.5)))
    if high <= low:
        return volume
    check_no_hounsfield(volume)
    background = _background(volume.array, low, high)
    normalised = low < _NEGATIVE * max(high, 0.0) or high <= 0
    if np.mean(_shell(volume.array) >= high - _DARKEST * (high - low)) > _MOST:
        raise InputError(
            f"{volume.source} is a negative: what surrounds the body is as bright as its brightest tissue "
            f"({high:.4g}), where an MR is dark. Turn its values round (the highest minus each), or export it again."
        )
    if background is None or background > low + _DARKEST * (high - low):
        if not normalised:
            return volume
        raise InputError(
            f"{volume.source} was normalised before: its values reach from {low:.3g} to {high:.3g}, and its background "
            f"{'is not uniform' if background is None else f'({background:.3g})'} lies among those of tissue, so that "
            "it cannot be told what is dark (phase and real images are such, too). Give the scanner's own magnitude "
            "values, or ones whose background is the lowest."
        )
    if not normalised and background < _SHIFTED * high:
        return volume
    said = (
        f"The MR was normalised or shifted before (its background lies at {background:.4g}, its values reach from "
        f"{low:.4g} to {high:.4g}); it was shifted so that the background is 0."
    )
    array = mapped.converted(volume.array, np.float32, background)
    return replace(volume, array=array, repairs=(*volume.repairs, said))


def check_no_hounsfield(volume: Volume) -> None:
    """Refuse an MR whose header does not say so, and whose values are as dark as air, the brightest as tissue or bone.

    Raises:
        InputError: so it is.
    """
    darkest, brightest = np.percentile(_sample(volume.array), (1, 99.5))
    if volume.modality is None and darkest < HOUNSFIELD_BELOW and _TISSUE_ABOVE < brightest < _BRIGHTEST:
        raise InputError(
            f"{volume.source} is given as the MR, but its values look like the Hounsfield units of a CT "
            f"({like_hounsfield(volume.array)}). {_SWAPPED}"
        )


def like_hounsfield(array: np.ndarray) -> str:
    """What makes values look like a CT, and what makes an MR look so; for the middle of a sentence."""
    lowest = lowest_percentile(array)
    return (
        f"1 % lie below {lowest:.0f}, like air; an MR looks so where about {-lowest:.0f} was subtracted from it: add "
        "that again, so that its background is 0"
    )


def lowest_percentile(array: np.ndarray) -> float:
    """1st percentile of the stored values, from a sample."""
    return float(np.percentile(_sample(array), 1))


def is_ct_without_intercept(array: np.ndarray) -> bool:
    """Whether the values look like HU + 1024: most tissue near water, little between that and air.

    Of the tissue of 32 CT shifted so, 58 to 97 % lay around water and 1 to 25 % in the gap; of that of 39 MR
    in scanner units at most 47 % around water, and 47 % or more in the gap where there was any.
    """
    values = _sample(array)
    tissue = values[values > _SHIFTED_GAP[0]]
    if tissue.size == 0:
        return False
    around_water = np.mean((tissue > _SHIFTED_WATER[0]) & (tissue < _SHIFTED_WATER[1]))
    return bool(around_water > 0.5 and np.mean(tissue < _SHIFTED_GAP[1]) < 0.35)


_SWAPPED = "Give the right image, and check that MR and CT were not swapped."


def _background(array: np.ndarray, low: float, high: float) -> float | None:
    """The value that most of the outermost voxels have; None where they have no such value."""
    shell = _shell(array)
    counts, edges = np.histogram(np.clip(shell.astype(np.float32), low, high), bins=64, range=(low, high))
    place = int(counts.argmax())
    around = counts[max(place - 1, 0) : place + 2].sum()
    if around < 0.3 * counts.sum():
        return None
    inside = shell[(shell >= edges[place]) & (shell <= edges[place + 1])]
    return float(np.median(inside)) if inside.size else float(edges[place])


def _shell(array: np.ndarray) -> np.ndarray:
    """The outermost voxels. Slices are views, where `np.take` would first copy a volume that is not in C order."""
    sides = (slice(0, _SHELL), slice(-_SHELL, None))
    views = [array[(slice(None),) * axis + (side,)] for axis in range(3) for side in sides]
    return np.concatenate([mapped.looked_up(view).ravel() for view in views])


def _sample(array: np.ndarray) -> np.ndarray:
    step = max(1, math.ceil((array.size / _MOST_VOXELS) ** (1 / 3)))
    return mapped.looked_up(array[::step, ::step, ::step])


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
    native = np.dtype(np.int32) if unsigned else array.dtype.newbyteorder("=")
    backwards = any(stride < 0 for stride in array.strides)  # which torch has not
    if backwards or array.dtype != native or not array.flags.writeable:
        array = mapped.converted(array, native)
    tensor = torch.from_numpy(array)
    affine = np.array(volume.affine, dtype=np.float64)
    meta = {
        "affine": torch.from_numpy(affine),
        "original_affine": affine.copy(),
        "spatial_shape": np.array(volume.array.shape),
        "original_channel_dim": "no_channel",
        "filename_or_obj": str(volume.source),
    }
    return MetaTensor(tensor, meta={**meta, **further})
