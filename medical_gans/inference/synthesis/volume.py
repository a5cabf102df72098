"""Whole-volume synthesis: an MR in, a synthetic CT in HU on exactly its grid out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import InputError, SettingError
from medical_gans.inference.cohort import recipe
from medical_gans.inference.synthesis.body import BodyRegion
from medical_gans.inference.synthesis.generators import Generators
from medical_gans.inference.synthesis.translation import Progress, Translation
from medical_gans.io import Volume, mapped, read_volume
from medical_gans.io.orientation import ras_shape, ras_view
from medical_gans.networks.freed_memory import keep_freed_memory
from medical_gans.transforms import AIR_HU
from medical_gans.transforms.grid import PLANES, NetworkView, SlicePlane, ToGridd, WholeBody, grid_of
from medical_gans.transforms.intensity import NormaliseMRd, StoredMR, scaled_when_cut
from medical_gans.transforms.reading import ReadImaged, on_its_grid, preprocessed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SyntheticCT:
    """A synthetic CT on the grid of its MR.

    Attributes:
        hounsfield: int16 HU in [-1024, 3071], ``(i, j, k)`` as the MR is stored.
        standard_deviation: of the estimates, int16 HU; None where there is one estimate or it was not wanted.
        affine: ``(4, 4)``, voxel index to RAS+ mm, that of the MR.
        estimates: that were put together in each voxel.
        network_seconds: spent in the generators.
    """

    hounsfield: np.ndarray
    standard_deviation: np.ndarray | None
    affine: np.ndarray
    estimates: int
    network_seconds: float


class SliceSynthesis:
    """Applies generators to every slice of an MR and puts together what they make, in HU.

    Slices are brought to the spacing of training, cropped to the body, translated and brought back. Generators and
    mirror images of one plane are averaged and streamed into an int16 volume; of three planes the median counts in each
    voxel. Generators in three dimensions get the whole body at once, or seamless blocks of it.

    Args:
        generators: with one set of weights each; they are averaged, and copied.
        spacing: voxel size that they were trained at, in mm along the canonical axes left-right, back-front
            and foot-head; None keeps an axis. Across the slices it is the distance of `adjacent` ones.
        planes: of ``axial``, ``coronal`` and ``sagittal``: median of three, mean of two. 3D generators have none.
        flips: average each estimate with that of the left-right mirror image.
        adjacent: slices stacked as channels (2.5D), odd; None takes what the generators do.
        uncertainty: keep the standard deviation where there are several estimates.
        slice_batch: slices at a time; None chooses by their size.
        tile: edge in voxels of tiles, for slices too large for the memory; None translates whole slices.
        amp: mixed precision, see `generators.Generators`.
        device: where to compute.
        preprocessing: of ``{"image": MR}``, with a `transforms.ToGridd` that tells spacing and planes in place of those
            above; None reads, turns and normalises.
        inferer: applies a generator to slices ``(batch, channel, *spatial)``, as those of MONAI; None passes them on.
        across: standard deviation in mm of a Gaussian over neighbouring slices, where several planes of single slices
            are put together; 0 takes each slice by itself. See `neighbours.among_neighbours`.

    Raises:
        SettingError: a setting is out of range or does not fit the generators.
    """

    def __init__(
        self,
        generators: Sequence[nn.Module],
        spacing: Sequence[float | None] = (None, None, None),
        planes: str | Sequence[str] = ("axial",),
        flips: bool = False,
        adjacent: int | None = None,
        uncertainty: bool = True,
        slice_batch: int | None = None,
        tile: int | None = None,
        amp: bool = False,
        device: torch.device | str = "cpu",
        preprocessing: Callable[[dict[str, Any]], Mapping[Any, Any]] | None = None,
        inferer: Callable[..., torch.Tensor] | None = None,
        across: float = 0.8,
    ) -> None:
        self.preprocessing = preprocessing or translation_preprocessing(spacing, planes)
        grid = grid_of(self.preprocessing)
        _check(adjacent, slice_batch, across)
        self.generators = Generators(generators, torch.device(device), adjacent, tile, amp, inferer)
        self.adjacent = self.generators.adjacent if self.generators.dimensions == 2 else 1
        self.spacing, self.planes = grid.spacing, grid.planes
        self.flips = flips
        self.uncertainty = uncertainty
        self.slice_batch = slice_batch
        self.across = across

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as plain values."""
        shown = {
            name: value for name, value in self.decisive_settings.items() if name not in ("preprocessing", "inferer")
        }
        return {**shown, "slice_batch": self.slice_batch, "tile": self.generators.tile}

    @property
    def decisive_settings(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        return {
            "spacing": list(self.spacing),
            "planes": list(self.planes),
            "flips": self.flips,
            "adjacent": self.adjacent,
            "uncertainty": self.uncertainty,
            "across": self.across,
            "amp": self.generators.amp,
            "preprocessing": recipe(self.preprocessing),
            "inferer": recipe(self.generators.inferer),
        }

    def __call__(self, mr: Volume, on_progress: Progress | None = None) -> SyntheticCT:
        """Translate an MR.

        Raises:
            InputError: nothing in it stands out from air.
        """
        unscaled = scaled_when_cut(self.preprocessing, "image")
        image = preprocessed(unscaled or self.preprocessing, {"image": mr})["image"]
        made = self._translate(image, StoredMR.of(image) if unscaled else image.as_tensor(), on_progress)
        return replace(made, affine=mr.affine)

    def translate(self, image: MetaTensor, on_progress: Progress | None = None) -> SyntheticCT:
        """Translate an MR as the preprocessing leaves it: ``(1, x, y, z)`` in [-1, 1], in RAS order.

        Raises:
            InputError: nothing in it stands out from air.
        """
        return self._translate(image, image.as_tensor().cpu(), on_progress)

    def _translate(
        self, image: MetaTensor, scaled: torch.Tensor | StoredMR, on_progress: Progress | None
    ) -> SyntheticCT:
        affine = np.asarray(image.meta["original_affine"], dtype=np.float64)
        shape = tuple(int(size) for size in image.meta["spatial_shape"])
        if self.generators.dimensions == 3:
            scaled = scaled[:]
        mr = StoredMR(scaled.stored[0], scaled.factor) if isinstance(scaled, StoredMR) else scaled[0]
        if mr.shape != ras_shape(shape, affine):
            raise SettingError(
                f"The preprocessing leaves {tuple(mr.shape)} voxels of {shape}. Its transforms must keep the voxels "
                "where they are; resampling is told to ToGridd."
            )
        edges = tuple(float(e) for e in np.linalg.norm(np.asarray(image.affine, dtype=np.float64)[:3, :3], axis=0))
        body = BodyRegion.find(mr, edges)
        if body is None:
            name = image.meta.get("filename_or_obj", "The MR")
            raise InputError(f"{name} shows no body: nothing stands out from air. Check that it is an MR.")
        before = self.generators.seconds
        if self.generators.device.type == "cpu":
            keep_freed_memory()
        translation = Translation(
            self.generators,
            self.views(tuple(mr.shape), edges),
            mr,
            body,
            flips=self.flips,
            slice_batch=self.slice_batch,
            across=self.across,
            on_progress=on_progress,
        )
        hounsfield = mapped.full(shape, AIR_HU, np.int16)
        spread = mapped.zeros(shape, np.int16) if self.uncertainty and translation.estimates > 1 else None
        translation.write(
            ras_view(hounsfield, affine),
            None if spread is None else ras_view(spread, affine),
        )
        seconds = self.generators.seconds - before
        return SyntheticCT(hounsfield, spread, affine, translation.estimates, seconds)

    def views(self, sizes: Sequence[int], edges: Sequence[float]) -> list[NetworkView]:
        """What the generators are shown of a volume with voxels of `edges` mm, one after the other."""
        if self.generators.dimensions == 3:
            return [WholeBody(sizes, edges, self.spacing)]
        return [SlicePlane(sizes, edges, self.spacing, PLANES[name], self.adjacent) for name in self.planes]


class SynthesisInferer:
    """Whole-volume synthesis as an inferer of MONAI: MR in, synthetic CT in HU on the grid of its file out.

    Args:
        fingerprint: of the training images, to which the MR is compared; None compares with nothing.
        strict: refuse an MR that differs from them instead of logging a warning.
        settings: of `SliceSynthesis`, but for generators, device and uncertainty.
    """

    def __init__(self, fingerprint: Fingerprint | None = None, strict: bool = False, **settings: Any) -> None:
        self.fingerprint, self.strict, self.settings = fingerprint, strict, settings

    def __call__(self, inputs: MetaTensor, network: nn.Module) -> MetaTensor:
        """What the preprocessing leaves, ``(1, 1, x, y, z)``, to ``(1, 1, i, j, k)`` int16 HU, where the input is.

        Raises:
            InputError: nothing in it stands out from air, or it is unlike the training images and that is refused.
            SettingError: a setting does not fit the network.
        """
        image: MetaTensor = inputs[0]  # type: ignore[assignment]
        source = Path(str(image.meta.get("filename_or_obj", "image")))
        if self.fingerprint is not None and source.exists():
            mr = read_volume(source, modality="MR")
            if self.strict:
                mr.check_certain()
            warnings = self.fingerprint.compare(mr.array, mr.spacing, mr.modality, strict=self.strict)
            for warning in [*mr.notes, *warnings]:
                logger.warning("%s: %s", source.name, warning)
        synthesis = SliceSynthesis([network], uncertainty=False, device=inputs.device, **self.settings)
        made = synthesis.translate(image)
        return on_its_grid(made.hounsfield[None, None], Volume(made.hounsfield, made.affine, source))


def translation_preprocessing(
    spacing: Sequence[float | None] = (None, None, None), planes: str | Sequence[str] = "axial"
) -> Compose:
    """What the configs write out for an MR: read, onto the network's grid, normalised; see `transforms.ToGridd`."""
    return Compose([ReadImaged("image", {"image": "MR"}), ToGridd("image", spacing, planes), NormaliseMRd("image")])


def _check(adjacent: int | None, slice_batch: int | None, across: float) -> None:
    if not 0 <= across < math.inf:
        raise SettingError(f"across is {across}; give mm, or 0 to take each slice by itself.")
    if adjacent is not None and (adjacent < 1 or adjacent % 2 == 0):
        raise SettingError(f"adjacent is {adjacent}; give an odd number of slices.")
    if slice_batch is not None and slice_batch < 1:
        raise SettingError(f"slice_batch is {slice_batch}; give at least 1, or null.")
