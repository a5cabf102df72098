"""Whole-volume synthesis: an MR in, a synthetic CT in HU on exactly its grid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import nibabel
import numpy as np
import torch
from torch import nn

from medical_gans.data.slices import PLANES
from medical_gans.errors import InputError, SettingError
from medical_gans.inference.synthesis.body import BodyRegion, Part
from medical_gans.inference.synthesis.generators import Generators
from medical_gans.inference.synthesis.moments import Moments
from medical_gans.inference.synthesis.views import SlicePlane, View, WholeBody
from medical_gans.io import Volume
from medical_gans.transforms import AIR_HU, resize_in_plane, unit_to_hounsfield

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
        estimates: averaged per voxel.
        network_seconds: spent in the generators.
    """

    hounsfield: np.ndarray
    standard_deviation: np.ndarray | None
    affine: np.ndarray
    estimates: int
    network_seconds: float


class SliceSynthesis:
    """Applies generators to every slice of an MR and averages what they make, in HU.

    Slices are cropped to the body, brought to the spacing of training, translated whole, brought back, and
    streamed into an int16 volume: float32 exists for a few slices only, unless several planes are averaged.
    Generators in three dimensions get the whole body at once, or seamless blocks of it if it is too large.

    Args:
        generators: with one set of weights each; all are averaged. They are copied.
        spacing: voxel size that they were trained at, in mm along the canonical axes left-right, back-front
            and foot-head; None keeps an axis. Across the slices it is the distance of `adjacent` ones.
        planes: of ``axial``, ``coronal`` and ``sagittal``; all are averaged. 3D generators have none.
        flips: average each estimate with that of the left-right mirror image.
        adjacent: slices stacked as channels (2.5D), odd; None takes what the generators do.
        uncertainty: keep the standard deviation where there are several estimates.
        slice_batch: slices per pass; None chooses by their size.
        tile: edge in voxels of tiles, for slices too large for the memory; None translates whole slices.
        amp: automatic mixed precision; acts on a GPU only.
        device: where to compute.

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
    ) -> None:
        planes = [name.strip() for name in planes.split(",")] if isinstance(planes, str) else planes
        _check(spacing, planes, adjacent, slice_batch)
        self.generators = Generators(generators, torch.device(device), adjacent, tile, amp)
        self.adjacent = self.generators.adjacent if self.generators.dimensions == 2 else 1
        self.spacing = tuple(spacing)
        self.planes = tuple(planes)
        self.flips = flips
        self.uncertainty = uncertainty
        self.slice_batch = slice_batch

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as plain values."""
        return {**self.decisive_settings, "slice_batch": self.slice_batch, "tile": self.generators.tile}

    @property
    def decisive_settings(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        return {
            "spacing": list(self.spacing),
            "planes": list(self.planes),
            "flips": self.flips,
            "adjacent": self.adjacent,
            "uncertainty": self.uncertainty,
            "amp": self.generators.amp,
        }

    def __call__(self, mr: Volume, on_progress: Progress | None = None) -> SyntheticCT:
        """Translate an MR.

        Raises:
            InputError: nothing in it stands out from air.
        """
        orientation = nibabel.io_orientation(mr.affine)
        canonical = nibabel.apply_orientation(mr.array, orientation)
        edges = tuple(float(edge) for edge in np.take(mr.spacing, np.argsort(orientation[:, 0])))
        body = BodyRegion.find(canonical, edges)
        if body is None:
            raise InputError(f"{mr.source} shows no body: nothing stands out from air. Check that it is an MR.")
        before = self.generators.seconds
        translation = _Translation(self, canonical, edges, body, on_progress)
        hounsfield = np.full(mr.array.shape, int(AIR_HU), dtype=np.int16, order="F")
        spread = np.zeros_like(hounsfield) if self.uncertainty and translation.estimates > 1 else None
        translation.write(
            nibabel.apply_orientation(hounsfield, orientation),
            None if spread is None else nibabel.apply_orientation(spread, orientation),
        )
        seconds = self.generators.seconds - before
        return SyntheticCT(hounsfield, spread, mr.affine, translation.estimates, seconds)

    def views(self, edges: Sequence[float]) -> list[View]:
        """What the generators are shown of a volume with voxels of `edges` mm, one after the other."""
        if self.generators.dimensions == 3:
            return [WholeBody()]
        found: list[View] = []
        for axis in (PLANES[name] for name in self.planes):
            wanted = self.spacing[axis]
            found.append(SlicePlane(axis, self.adjacent, wanted / edges[axis] if wanted else 1.0))
        return found


class _Translation:
    """One MR ``(x, y, z)`` on its way through the generators."""

    def __init__(
        self,
        synthesis: SliceSynthesis,
        mr: np.ndarray,
        edges: tuple[float, ...],
        body: BodyRegion,
        on_progress: Progress | None,
    ) -> None:
        self.synthesis = synthesis
        self.generators = synthesis.generators
        self.mr = mr
        self.edges = edges
        self.body = body
        self.views = synthesis.views(edges)
        self.on_progress = on_progress
        self.done = 0
        per_view = [len(self.generators) * len(self._mirrored(view)) for view in self.views]
        self.estimates = sum(per_view)
        self.total = sum(n * view.depth(body.box) for n, view in zip(per_view, self.views, strict=True))

    def write(self, hounsfield: np.ndarray, spread: np.ndarray | None) -> None:
        """Fill canonical arrays with the mean of all estimates and, where given, their standard deviation.

        Estimates of one plane are averaged slice by slice, of several in a float32 volume of the body.
        """
        if len(self.views) == 1:
            for part in self._parts(self.views[0]):
                moments = Moments(_shape(part), spread is not None)
                for estimate in self._estimates(self.views[0], part):
                    moments.add(..., estimate, moments.count + 1)
                self._write_part(moments, ..., part, hounsfield, spread)
            return
        moments = Moments(_shape(self.body.box), spread is not None)
        for view in self.views:
            before = moments.count
            for part in self._parts(view):
                for number, estimate in enumerate(self._estimates(view, part), before + 1):
                    moments.add(self._in_box(part), estimate, number)
        for part in SlicePlane(axis=2).parts(self.body.box, 1):
            self._write_part(moments, self._in_box(part), part, hounsfield, spread)

    def _estimates(self, view: View, part: Part) -> Iterator[np.ndarray]:
        """HU ``(x, y, z)`` in float32 of a part of the MR, by each generator and mirror image."""
        edges = [self.edges[axis] for axis in view.axes]
        images = view.images(self.mr, part, self.body.reference).to(self.generators.device)
        shown, shown_edges = resize_in_plane(images, edges, [self.synthesis.spacing[a] for a in view.axes])
        for mirror in self._mirrored(view):
            looked_at = shown if mirror is None else shown.flip(mirror)
            for number in range(len(self.generators)):
                made = unit_to_hounsfield(self.generators.translate(number, looked_at))
                if mirror is not None and mirror > 1:
                    made = made.flip(mirror)
                made, _ = resize_in_plane(made, shown_edges, edges)
                self._report(len(made))
                yield view.volume(made[:, 0].cpu().numpy())

    def _write_part(
        self,
        moments: Moments,
        at: Part | EllipsisType,
        part: Part,
        hounsfield: np.ndarray,
        spread: np.ndarray | None,
    ) -> None:
        inside = self.body.at(part)
        mean = np.rint(moments.mean[at]).clip(AIR_HU, HIGHEST_HU)
        hounsfield[part] = np.where(inside, mean, AIR_HU)
        if spread is not None:
            spread[part] = np.where(inside, np.rint(moments.standard_deviation(at)), 0)

    def _parts(self, view: View) -> Iterator[Part]:
        sizes = [
            (self.body.box[a].stop - self.body.box[a].start)
            * self.edges[a]
            / (self.synthesis.spacing[a] or self.edges[a])
            for a in view.axes
        ]
        batch = self.synthesis.slice_batch or self.generators.batch(float(np.prod(sizes)))
        return view.parts(self.body.box, batch)

    def _mirrored(self, view: View) -> tuple[int | None, ...]:
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


def _check(
    spacing: Sequence[float | None], planes: Sequence[str], adjacent: int | None, slice_batch: int | None
) -> None:
    edges = [edge for edge in spacing if edge is not None]
    if len(spacing) != 3 or any(not isinstance(edge, int | float) or edge <= 0 for edge in edges):
        raise SettingError(f"spacing is {spacing}; give three positive numbers in mm, null to keep an axis.")
    if not planes or not set(planes) <= set(PLANES) or len(set(planes)) < len(planes):
        raise SettingError(f"planes is {list(planes)}; choose from axial, coronal and sagittal, each at most once.")
    if adjacent is not None and (adjacent < 1 or adjacent % 2 == 0):
        raise SettingError(f"adjacent is {adjacent}; give an odd number of slices.")
    if slice_batch is not None and slice_batch < 1:
        raise SettingError(f"slice_batch is {slice_batch}; give at least 1, or null.")
