"""What happens to intensities between a file and a network, as functions of arrays and as transforms for a config.

The network side is unit-free, in [-1, 1]; the file side is HU for CT and scanner units for MR.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io import mapped
from medical_gans.io.orientation import ras_spacing, ras_view, stored_order
from medical_gans.transforms.grid_mask import GridMask
from medical_gans.transforms.morphology import closed, filled_by_slice, opened

if TYPE_CHECKING:
    import torch

AIR_HU = -1024.0
HOUNSFIELD_KNOTS = ((-1024.0, -1.0), (-200.0, -0.5), (200.0, 0.3), (2400.0, 1.0))
"""(HU, unit) corners of the encoding. Soft tissue, where fat and muscle lie only 150 HU apart,
gets five times the slope of air and bone, so that losses in unit space see it."""

MR_CEILING = 1.25
"""MR values up to this multiple of the reference intensity fit into [-1, 1]; brighter ones saturate."""

_BODY_THRESHOLD = {"MR": 0.12, "CT": -400.0}
_MASK_SPACING_MM = 2.0
_SECOND_LIMB = 0.1


def body_mask(array: np.ndarray, spacing: Sequence[float], modality: str = "MR") -> np.ndarray:
    """Body of a patient as a boolean array of the shape of the volume; see `body_on_grid`."""
    return body_on_grid(array, spacing, modality)[:, :, :]


def body_on_grid(array: np.ndarray, spacing: Sequence[float], modality: str = "MR") -> GridMask:
    """Body of a patient: largest connected object above air, closed, holes filled slice by slice.

    In an MR a second limb counts as well: every object of a tenth of the largest one's size. In a CT such an object
    may be the couch. The mask is found on a grid of about 2 mm, so that its cost does not grow with resolution.

    Args:
        array: volume ``(x, y, z)``, HU for CT, any scale for MR.
        spacing: voxel size in mm.
        modality: ``"MR"`` (threshold relative to the 99th percentile) or ``"CT"`` (threshold in HU).

    Returns:
        The mask of the volume on that grid; empty when nothing is above the threshold.
    """
    steps = tuple(max(1, round(_MASK_SPACING_MM / s)) for s in spacing)
    seen = mapped.looked_up(array[tuple(slice(None, None, s) for s in steps)])
    coarse = np.asarray(seen, dtype=np.float32)
    if modality == "CT":
        above = coarse > _BODY_THRESHOLD["CT"]
    else:
        above = coarse > max(_BODY_THRESHOLD["MR"] * float(np.percentile(coarse, 99.5)), 0.0)
    above = opened(above) if min(above.shape) > 4 else above
    labels, count = ndimage.label(above)
    if count == 0:
        return GridMask(np.zeros(coarse.shape, dtype=bool), steps, array.shape)
    sizes = np.bincount(labels.ravel())[1:]
    is_kept = np.concatenate([[False], sizes >= (_SECOND_LIMB if modality == "MR" else 1.0) * sizes.max()])
    body = filled_by_slice(closed(np.pad(is_kept[labels], 4), 3)[4:-4, 4:-4, 4:-4])
    return GridMask(body, steps, array.shape)


def mr_reference_intensity(array: np.ndarray, mask: np.ndarray | GridMask) -> float:
    """MR value of the brightest ordinary tissue (99th percentile in the body), the unit of `normalise_mr`."""
    step = tuple(slice(None, None, max(1, n // 160)) for n in array.shape)
    seen = mapped.looked_up(array[step])
    inside = seen[mask[step]]
    if inside.size == 0:
        inside = seen.ravel()
    return float(np.percentile(inside, 99.0))


def normalise_mr(array: np.ndarray, reference: float) -> np.ndarray:
    """Scale MR linearly so that 0 becomes -1 and `MR_CEILING` times the reference becomes 1."""
    unit = np.asarray(array, dtype=np.float32) * np.float32(2.0 / (MR_CEILING * reference)) - np.float32(1.0)
    return np.clip(unit, -1.0, 1.0)


def hounsfield_to_unit(hounsfield: np.ndarray) -> np.ndarray:
    """Encode HU in [-1, 1], piecewise linear by `HOUNSFIELD_KNOTS`; values beyond the knots saturate."""
    hu, unit = np.transpose(HOUNSFIELD_KNOTS)
    return np.interp(np.asarray(hounsfield, dtype=np.float32), hu, unit).astype(np.float32)


def unit_to_hounsfield(unit: torch.Tensor) -> torch.Tensor:
    """Decode network output to HU (float); the exact inverse of `hounsfield_to_unit` inside the knots."""
    (first_hu, first), *rest = HOUNSFIELD_KNOTS
    hounsfield = first_hu + (unit - first) * 0.0
    left_hu, left = first_hu, first
    for right_hu, right in rest:
        slope = (right_hu - left_hu) / (right - left)
        hounsfield += unit.clamp(left, right).sub_(left).mul_(slope)
        left_hu, left = right_hu, right
    return hounsfield


def window_to_unit(hounsfield: np.ndarray, window: Sequence[float]) -> np.ndarray:
    """Encode HU linearly, `window` (low, high) to [-1, 1]; values beyond it saturate."""
    low, high = window
    unit = (np.asarray(hounsfield, dtype=np.float32) - np.float32(low)) * np.float32(2.0 / (high - low)) - 1
    return np.clip(unit, -1.0, 1.0)


def unit_to_window(unit: np.ndarray, window: Sequence[float]) -> np.ndarray:
    """Decode to whole HU (int16), the inverse of `window_to_unit` inside the window."""
    low, high = window
    return np.rint((np.clip(unit, -1.0, 1.0) + 1.0) * (high - low) / 2.0 + low).astype(np.int16)


_AROUND_BODY = 3  # voxels about the body in which the CT is kept


class NormaliseMRd(MapTransform):
    """Scales an MR linearly: 0 becomes -1, and `MR_CEILING` times the brightest ordinary tissue of the body 1.

    `keys` name images ``(1, *spatial)`` in scanner units, with an affine.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale to float32 in [-1, 1].

        Raises:
            InputError: nothing stands out from air.
        """
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            image: MetaTensor = scaled[key]
            scaled[key] = MetaTensor(StoredMR.of(image)[:], meta=image.meta)
        return scaled


class StoredMR:
    """An MR in scanner units, of which only what is looked at is scaled to float32 in [-1, 1].

    Args:
        stored: any shape and type.
        factor: scanner units to a range of 2.
    """

    def __init__(self, stored: torch.Tensor, factor: float) -> None:
        self.stored, self.factor = stored, factor

    @classmethod
    def of(cls, image: MetaTensor) -> StoredMR:
        """The image ``(1, *spatial)`` with an affine, as `NormaliseMRd` scales it.

        Raises:
            InputError: nothing stands out from air.
        """
        mr, edges = _in_ras(image)
        mask = body_on_grid(mr, edges)
        if not mask.any():
            raise InputError(f"{_name(image)} shows no body: nothing stands out from air. Check that it is an MR.")
        return cls(image.as_tensor(), 2.0 / (MR_CEILING * mr_reference_intensity(mr, mask)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.stored.shape)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, where: Any) -> torch.Tensor:
        seen = torch.from_numpy(mapped.looked_up(self.stored[where].numpy()))
        return seen.to(torch.float32, copy=True).mul_(self.factor).sub_(1.0).clamp_(-1.0, 1.0)

    def movedim(self, source: int, destination: int) -> StoredMR:
        """The same, seen along another axis first."""
        return StoredMR(self.stored.movedim(source, destination), self.factor)


def scaled_when_cut(preprocessing: Any, key: str) -> Compose | None:
    """A preprocessing without its `NormaliseMRd`, where nothing after that asks for the image; None where it has none.

    What is left gives the image in scanner units, for a `StoredMR`.
    """
    steps = preprocessing.flatten().transforms if isinstance(preprocessing, Compose) else []
    using = [step for step in steps if key in getattr(step, "keys", (key,))]
    if not using or type(using[-1]) is not NormaliseMRd or using[-1].keys != (key,):
        return None
    return Compose([step for step in steps if step is not using[-1]])


class EncodeHounsfieldd(MapTransform):
    """Encodes a CT by `intensity.hounsfield_to_unit`; what is not the patient, such as a couch, becomes air.

    `keys` name images ``(1, *spatial)`` in HU, with an affine.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Encode to float32 in [-1, 1].

        Raises:
            InputError: nothing stands out from air.
        """
        encoded = dict(data)
        for key in self.key_iterator(encoded):
            image: MetaTensor = encoded[key]
            ct, edges = _in_ras(image)
            mask = body_mask(ct, edges, "CT")
            if not mask.any():
                raise InputError(
                    f"{_name(image)} shows no body: nothing stands out from air. "
                    "Leave this file out, or export it again."
                )
            around = ndimage.binary_dilation(mask, iterations=_AROUND_BODY)
            unit = _as_stored(np.where(around, hounsfield_to_unit(ct), np.float32(-1.0)), image)
            encoded[key] = MetaTensor(torch.from_numpy(unit)[None], meta=image.meta)
        return encoded


class DenoiseHounsfieldd(MapTransform):
    """Takes the noise from a training CT, by a median filter in the axial plane.

    A generator that has never seen noise does not add any, which the mean absolute error rewards and planning does
    not miss.

    Args:
        keys: ``(1, *spatial)`` in HU, with an affine.
        size: voxels of the filter along each edge; 0 leaves the noise.
        allow_missing_keys: leave out those of `keys` that are not there.
    """

    def __init__(self, keys: KeysCollection, size: int = 3, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Filter."""
        filtered = dict(data)
        for key in self.key_iterator(filtered) if self.size else ():
            image: MetaTensor = filtered[key]
            smooth = ndimage.median_filter(_in_ras(image)[0], size=(self.size, self.size, 1))
            filtered[key] = MetaTensor(torch.from_numpy(_as_stored(smooth, image))[None], meta=image.meta)
        return filtered


def _in_ras(image: MetaTensor) -> tuple[np.ndarray, tuple[float, ...]]:
    """An image ``(1, *spatial)`` as an array ``(x, y, z)`` in RAS order, without a copy, and its voxel edges in mm."""
    affine = np.asarray(image.affine, dtype=np.float64)
    return ras_view(image.numpy()[0], affine), ras_spacing(affine)


def _as_stored(array: np.ndarray, image: MetaTensor) -> np.ndarray:
    """An array in RAS order in the order of the image that it was made from."""
    return stored_order(array, np.asarray(image.affine, dtype=np.float64))


def _name(image: MetaTensor) -> str:
    return str(image.meta.get("filename_or_obj", "image"))
