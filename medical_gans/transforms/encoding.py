"""Intensities of the translation as YAML names them: what a network sees of an MR and of a CT."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.transforms.intensity import MR_CEILING, body_mask, hounsfield_to_unit, mr_reference_intensity

_AROUND_BODY = 3  # voxels about the body in which the CT is kept


class NormaliseMRd(MapTransform):
    """Scales an MR linearly: 0 becomes -1, and `MR_CEILING` times the brightest ordinary tissue of the body 1.

    Args:
        keys: ``(1, *spatial)`` in scanner units, with an affine.
        allow_missing_keys: leave out those of `keys` that are not there.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale to float32 in [-1, 1].

        Raises:
            InputError: nothing stands out from air.
        """
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            image: MetaTensor = scaled[key]
            mr, edges = canonical(image)
            mask = body_mask(mr, edges)
            if not mask.any():
                raise InputError(f"{_name(image)} shows no body: nothing stands out from air. Check that it is an MR.")
            reference = mr_reference_intensity(mr, mask)
            unit = image.as_tensor().to(torch.float32, copy=True).mul_(2.0 / (MR_CEILING * reference)).sub_(1.0)
            scaled[key] = MetaTensor(unit.clamp_(-1.0, 1.0), meta=image.meta)
        return scaled


class EncodeHounsfieldd(MapTransform):
    """Encodes a CT by `intensity.hounsfield_to_unit`; what is not the patient, such as a couch, becomes air.

    Args:
        keys: ``(1, *spatial)`` in HU, with an affine.
        allow_missing_keys: leave out those of `keys` that are not there.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Encode to float32 in [-1, 1].

        Raises:
            InputError: nothing stands out from air.
        """
        encoded = dict(data)
        for key in self.key_iterator(encoded):
            image: MetaTensor = encoded[key]
            ct, edges = canonical(image)
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
            smooth = ndimage.median_filter(canonical(image)[0], size=(self.size, self.size, 1))
            filtered[key] = MetaTensor(torch.from_numpy(_as_stored(smooth, image))[None], meta=image.meta)
        return filtered


def canonical(image: MetaTensor) -> tuple[np.ndarray, tuple[float, ...]]:
    """An image ``(1, *spatial)`` as an array ``(x, y, z)`` in RAS order, without a copy, and its voxel edges in mm."""
    affine = np.asarray(image.affine, dtype=np.float64)
    orientation = nibabel.io_orientation(affine)
    edges = np.take(np.linalg.norm(affine[:3, :3], axis=0), np.argsort(orientation[:, 0]))
    return nibabel.apply_orientation(image.numpy()[0], orientation), tuple(float(edge) for edge in edges)


def _as_stored(array: np.ndarray, image: MetaTensor) -> np.ndarray:
    """A canonical array in the order of the image that it was made from."""
    affine = np.asarray(image.affine, dtype=np.float64)
    onto_stored = nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)), nibabel.io_orientation(affine))
    return np.ascontiguousarray(nibabel.apply_orientation(array, onto_stored))


def _name(image: MetaTensor) -> str:
    return str(image.meta.get("filename_or_obj", "image"))
