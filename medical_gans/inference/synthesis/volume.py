"""Whole-volume synthesis: an MR in, a synthetic CT in HU on exactly its grid out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import EllipsisType
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
from medical_gans.inference.synthesis.neighbours import NeighbourMean, among_neighbours
from medical_gans.inference.synthesis.side_by_side import in_order
from medical_gans.io import Volume, mapped, read_volume
from medical_gans.io.orientation import ras_shape, ras_view
from medical_gans.networks.freed_memory import keep_freed_memory
from medical_gans.transforms import AIR_HU, unit_to_hounsfield
from medical_gans.transforms.grid import PLANES, NetworkView, Part, SlicePlane, ToGridd, WholeBody, grid_of
from medical_gans.transforms.intensity import NormaliseMRd, StoredMR, scaled_when_cut
from medical_gans.transforms.reading import ReadImaged, on_its_grid, preprocessed

logger = logging.getLogger(__name__)

HIGHEST_HU = 3071

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all, over all planes and estimates."""


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
        translation = _Translation(self, mr, edges, body, on_progress)
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


class _Translation:
    """One MR ``(x, y, z)`` on its way through the generators."""

    def __init__(
        self,
        synthesis: SliceSynthesis,
        mr: torch.Tensor | StoredMR,
        edges: tuple[float, ...],
        body: BodyRegion,
        on_progress: Progress | None,
    ) -> None:
        self.synthesis = synthesis
        self.generators = synthesis.generators
        self.mr = mr
        self.body = body
        self.edges = edges
        self.views = synthesis.views(mr.shape, edges)
        self.on_progress = on_progress
        self.done = 0
        per_view = [len(self.generators) * len(self._mirrored(view)) for view in self.views]
        self.estimates = sum(per_view)
        self.total = sum(n * view.depth(body.box) for n, view in zip(per_view, self.views, strict=True))

    def write(self, hounsfield: np.ndarray, spread: np.ndarray | None) -> None:
        """Fill canonical arrays with what the estimates agree on and, where given, their standard deviation.

        Estimates of one plane are averaged slice by slice. Of three planes the median counts, voxel by voxel, so that
        bone or air which one of them invents is left out; before that each slice may be averaged with those beside it.
        """
        if len(self.views) == 1:
            for part, estimates in self._translated(self.views[0]):
                moments = Moments(_shape(part), spread is not None)
                for estimate in estimates:
                    moments.add(..., estimate, moments.count + 1)
                deviation = None if spread is None else moments.standard_deviation(...)
                self._write_part(moments.mean, deviation, part, hounsfield, spread)
                if self._runs_along(self.views[0], hounsfield):
                    mapped.give_back()
            return
        shape = _shape(self.body.box)
        planes = [mapped.empty(shape[::-1], np.int16).T for _ in self.views]
        spreads = None if spread is None else Moments(shape, True)
        number = 0
        for view, plane in zip(self.views, planes, strict=True):
            for part, estimates in self._translated(view):
                moments = Moments(_shape(part), False)
                for estimate in estimates:
                    moments.add(..., estimate.copy(), moments.count + 1)
                    if spreads is not None:
                        spreads.add(self._in_box(part), estimate, number + moments.count)
                plane[self._in_box(part)] = np.rint(moments.mean)
            number += moments.count
        *across, whole = self.body.box
        for slice_number in range(whole.start, whole.stop):
            part = (*across, slice(slice_number, slice_number + 1))
            inside = self._in_box(part)
            deviation = None if spreads is None else spreads.standard_deviation(inside)
            shown = [self._steadied(view, p, inside[2].start) for view, p in zip(self.views, planes, strict=True)]
            self._write_part(_agreed(shown), deviation, part, hounsfield, spread)

    def _steadied(self, view: NetworkView, plane: np.ndarray, index: int) -> np.ndarray:
        """An axial slice of what a view made, ``(x, y, 1)``."""
        if not isinstance(view, SlicePlane) or view.neighbours:
            return plane[:, :, index : index + 1]
        return among_neighbours(plane, index, view.axis, self.edges[view.axis], self.synthesis.across)

    def _translated(self, view: NetworkView) -> Iterator[tuple[Part, Iterator[np.ndarray]]]:
        """Parts of the MR in order, and of each the estimates in HU, ``(x, y, z)`` float32, to be taken at once.

        There is one by each generator and mirror image. Where the slices of an image are those of the MR, each is the
        mean of all that the images say of it, so that a part ends before the slices which the next images still show.
        """
        estimates = [(mirror, number) for mirror in self._mirrored(view) for number in range(len(self.generators))]
        reach = view.neighbours if isinstance(view, SlicePlane) else 0
        means = [NeighbourMean(2 * reach + 1, view.depth(self.body.box)) for _ in estimates] if reach else None
        parts, beside = self._parts(view)
        calls = (partial(self._passes, view, part, estimates, means is not None, beside > 1) for part in parts)
        self.generators.beside = beside
        with closing(in_order(calls, beside)) as passes_of_parts:
            for part, passes in zip(parts, passes_of_parts, strict=True):
                ready = view.settled(part, self.body.box) if isinstance(view, SlicePlane) else part
                made = self._estimates(view, ready, passes, estimates, means)
                if min(_shape(ready)) > 0:
                    yield ready, made
                else:
                    list(made)

    def _passes(
        self, view: NetworkView, part: Part, estimates: Sequence[tuple[int | None, int]], in_parts: bool, at_once: bool
    ) -> Iterable[torch.Tensor]:
        """What each estimate makes of the images of a part; `at_once`, or one after the other as they are asked for."""

        def made() -> Iterator[torch.Tensor]:
            shown = view.images(self.mr, part).to(self.generators.device)
            translate = self.generators.parts if in_parts else self.generators.translate
            for mirror, number in estimates:
                yield translate(number, shown if mirror is None else shown.flip(mirror))

        return list(made()) if at_once else made()

    def _estimates(
        self,
        view: NetworkView,
        ready: Part,
        passes: Iterable[torch.Tensor],
        estimates: Sequence[tuple[int | None, int]],
        means: Sequence[NeighbourMean] | None,
    ) -> Iterator[np.ndarray]:
        for index, ((mirror, number), made) in enumerate(zip(estimates, passes, strict=True)):
            self._report(len(made))
            if means is None:
                made = made.flip(mirror) if mirror is not None and mirror > 1 else made
            else:
                if mirror is not None:
                    made = made.flip(mirror if mirror == 1 else mirror + 1)
                made = self.generators.mixed(number, means[index](made))
            made = unit_to_hounsfield(made)
            if min(_shape(ready)) > 0:
                yield view.volume(made, ready, AIR_HU)

    def _write_part(
        self,
        made: np.ndarray,
        deviation: np.ndarray | None,
        part: Part,
        hounsfield: np.ndarray,
        spread: np.ndarray | None,
    ) -> None:
        inside = self.body.at(part)
        rounded = np.rint(made)
        hounsfield[part] = np.where(inside, np.clip(rounded, AIR_HU, HIGHEST_HU, out=rounded), AIR_HU)
        if spread is not None:
            assert deviation is not None
            spread[part] = np.where(inside, np.rint(deviation), 0)

    @staticmethod
    def _runs_along(view: NetworkView, array: np.ndarray) -> bool:
        """Whether slices are stored one after the other; across, each would need all pages of the volume again."""
        return isinstance(view, SlicePlane) and view.axis == int(np.argmax(np.abs(array.strides)))

    def _parts(self, view: NetworkView) -> tuple[list[Part], int]:
        """Parts of the MR in order, each for one pass, and how many passes are made beside each other."""
        fewest = self.generators.passes(2)  # one large slice on two threads takes longer than two beside each other
        slices = self.synthesis.slice_batch or max(fewest, self.generators.batch(view.voxels(self.body.box)))
        beside = self.generators.passes(slices)
        return list(view.parts(self.body.box, slices // beside)), beside

    def _mirrored(self, view: NetworkView) -> tuple[int | None, ...]:
        """Axes to mirror the images along, one estimate each; None leaves them as they are."""
        return (None, view.mirror) if self.synthesis.flips and view.mirror is not None else (None,)

    def _in_box(self, part: Part) -> Part:
        return tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, self.body.box, strict=True))

    def _report(self, images: int) -> None:
        self.done += images
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


def _shape(part: Part) -> list[int]:
    return [p.stop - p.start for p in part]


def _agreed(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Median of three planes, voxel by voxel; mean of two."""
    if len(planes) < 3:
        return np.asarray(np.mean(np.stack(planes), axis=0, dtype=np.float32))
    first, second, third = planes
    agreed: np.ndarray = np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), third))
    return agreed


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


class Moments:
    """Running mean and, on request, sum of squared deviations (Welford 1962), in float32.

    Args:
        shape: of each estimate.
        spread: keep what the standard deviation needs.

    Attributes:
        count: of the latest estimate; every part of the volume has to get as many.
    """

    def __init__(self, shape: Sequence[int], spread: bool) -> None:
        self.count = 0
        self.mean = mapped.zeros(shape[::-1], np.float32).T
        self._squares = mapped.zeros(shape[::-1], np.float32).T if spread else None

    def add(self, part: Part | EllipsisType, estimate: np.ndarray, number: int) -> None:
        """Take in an estimate of a part of the volume, numbered from 1; `estimate` is overwritten, or kept."""
        self.count = number
        if number == 1:
            if part is ...:
                self.mean = estimate
            else:
                self.mean[part] = estimate
            return
        estimate -= self.mean[part]
        self.mean[part] += estimate / np.float32(number)
        if self._squares is not None:
            np.square(estimate, out=estimate)
            self._squares[part] += estimate * np.float32((number - 1) / number)

    def standard_deviation(self, part: Part | EllipsisType) -> np.ndarray:
        """Of the estimates of a part, with n - 1; needs two estimates."""
        assert self._squares is not None
        deviation: np.ndarray = np.sqrt(self._squares[part] / np.float32(self.count - 1))
        return deviation
