"""MR to synthetic CT on the keys ``image`` and ``pred``."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CastToTyped, Compose, MapTransform
from torch import nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import InputError
from medical_gans.inference.pipelines.volumes import on_grid
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.io import Volume, read_volume

logger = logging.getLogger(__name__)


def preprocessing(fingerprint: Fingerprint | None = None, strict: bool = False) -> Compose:
    """From a path in ``image`` to the MR there, as it is stored; arguments as for `ReadMRd`."""
    return Compose([ReadMRd("image", fingerprint, strict)])


def postprocessing() -> Compose:
    """Whole HU (int16) in ``pred``."""
    return Compose([CastToTyped("pred", dtype=np.int16)])


class ReadMRd(MapTransform):
    """Reads an image file or a DICOM series by `io.read_volume`, which refuses what it cannot trust.

    The result is a `MetaTensor` ``(1, *spatial)`` in stored order and scanner units, with the affine to RAS+ mm.

    Args:
        keys: of paths.
        fingerprint: of the training images, to which the MR is compared; None compares with nothing.
        strict: refuse an MR that differs from them instead of logging a warning.
    """

    def __init__(self, keys: KeysCollection, fingerprint: Fingerprint | None = None, strict: bool = False) -> None:
        super().__init__(keys)
        self.fingerprint = fingerprint
        self.strict = strict

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read.

        Raises:
            InputError: as `io.read_volume`; no MR; or unlike the training images where that is refused.
        """
        read = dict(data)
        for key in self.key_iterator(read):
            mr = read_volume(read[key], modality="MR")
            if mr.modality not in (None, "MR"):
                raise InputError(f"{mr.source} is a {mr.modality}; an MR is needed.")
            if self.strict:
                mr.check_certain()
            warnings = list(mr.notes)
            if self.fingerprint is not None:
                warnings += self.fingerprint.compare(mr.array, mr.spacing, mr.modality, strict=self.strict)
            for warning in warnings:
                logger.warning("%s: %s", mr.source.name, warning)
            read[key] = on_grid(mr.array[None], mr)
        return read


class SynthesisInferer:
    """Whole-volume synthesis as an inferer: MR in, synthetic CT in HU on the same grid out.

    Args:
        settings: of `SliceSynthesis`, but for generators, device and uncertainty.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __call__(self, inputs: MetaTensor, network: nn.Module) -> MetaTensor:
        """``(1, 1, *spatial)`` scanner units to ``(1, 1, *spatial)`` int16 HU, computed where the input is.

        Raises:
            InputError: nothing in it stands out from air.
            SettingError: a setting does not fit the network.
        """
        source = Path(str(inputs.meta.get("filename_or_obj", "image")))
        mr = Volume(inputs[0, 0].cpu().numpy(), np.asarray(inputs.affine.cpu(), dtype=np.float64), source)
        synthesis = SliceSynthesis([network], uncertainty=False, device=inputs.device, **self.settings)
        return on_grid(synthesis(mr).hounsfield[None, None], mr)
