"""Segmentation of brain lesions on the keys ``image`` and ``pred``."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, MapTransform
from torch import nn

from medical_gans.errors import InputError
from medical_gans.inference.lesions import LesionSegmentation
from medical_gans.inference.pipelines.volumes import on_grid
from medical_gans.io.formats import holds_dicom_images, image_stem
from medical_gans.io.sequence_cases import SequenceCase, find_sequence_cases
from medical_gans.transforms.sequences import SequenceVolume, read_sequence_case

logger = logging.getLogger(__name__)


def preprocessing(
    channels: Sequence[str],
    spacing: Sequence[float | None] | None = None,
    missing: Sequence[str] = (),
    mask: str | None = None,
) -> Compose:
    """From a path in ``image`` to the sequences there, normalised; arguments as for `ReadSequencesd`."""
    return Compose([ReadSequencesd("image", channels, spacing, missing, mask)])


def postprocessing() -> Compose:
    """The most probable class (uint8) in ``pred``."""
    return Compose([AsDiscreted("pred", argmax=True, dtype=np.uint8)])


class ReadSequencesd(MapTransform):
    """Reads the sequences of one case by `io.sequences`.

    A path is a case folder, or the image itself where the network takes one sequence; where it takes several, the
    other ones are looked for beside it. The result is a `MetaTensor` ``(channel, *spatial)`` in RAS order at `spacing`,
    whose metadata tell the grid that results belong on, and hold the `SequenceVolume` in ``case``.

    Args:
        keys: of paths.
        channels: names of the sequences in the network's order.
        spacing: mm along left-right, back-front, foot-head; None keeps what the image has.
        missing: those of `channels` that there are not.
        mask: name of the mask of brain or head, used where there is one in a case folder.
    """

    def __init__(
        self,
        keys: KeysCollection,
        channels: Sequence[str],
        spacing: Sequence[float | None] | None = None,
        missing: Sequence[str] = (),
        mask: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.channels = list(channels)
        self.spacing = spacing
        self.missing = list(missing)
        self.mask = mask

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read.

        Raises:
            InputError: as `io.sequences.find_sequence_cases` and `read_sequence_case`, or there are several cases.
        """
        read = dict(data)
        for key in self.key_iterator(read):
            case = read_sequence_case(self._case(Path(read[key])), self.channels, spacing=self.spacing)
            for note in (*case.source.notes, *case.notes):
                logger.warning("%s: %s", case.source.source.name, note)
            read[key] = on_grid(case.image, case.source, case=case)
        return read

    def _case(self, path: Path) -> SequenceCase:
        is_image = path.is_file() or holds_dicom_images(path)
        if is_image and len(self.channels) == 1:
            return SequenceCase(image_stem(path), (path,))
        folder = path.parent if is_image else path
        cases = find_sequence_cases(folder, self.channels, missing=self.missing, mask=self.mask)
        if len(cases) > 1:
            raise InputError(f"{folder} holds {len(cases)} cases; give the folder of one.")
        return cases[0]


class LesionInferer:
    """Segmentation of whole volumes as an inferer.

    Args:
        settings: of `LesionSegmentation`, but for network and device.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __call__(self, inputs: MetaTensor, network: nn.Module) -> MetaTensor:
        """What `ReadSequencesd` reads, ``(1, channel, *spatial)``, to probabilities ``(1, class, *source shape)``.

        Raises:
            InputError: something else read the image.
            SettingError: a setting does not fit the network.
        """
        case = inputs.meta.get("case")
        if not isinstance(case, SequenceVolume):
            raise InputError("The inferer needs what the preprocessing of this bundle reads; use both together.")
        segmentation = LesionSegmentation(network, device=inputs.device, **self.settings)
        return on_grid(segmentation(case)[None], case.source)
