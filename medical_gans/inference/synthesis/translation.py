"""What the generators say of an MR, put together: parts of it, passes beside each other, planes, mirror images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from types import EllipsisType

import numpy as np
import torch

from medical_gans.inference.synthesis.body import BodyRegion
from medical_gans.inference.synthesis.generators import Generators
from medical_gans.inference.synthesis.neighbours import NeighbourMean, among_neighbours
from medical_gans.inference.synthesis.side_by_side import in_order
from medical_gans.io import mapped
from medical_gans.transforms import AIR_HU, unit_to_hounsfield
from medical_gans.transforms.grid import NetworkView, Part, SlicePlane
from medical_gans.transforms.intensity import StoredMR

HIGHEST_HU = 3071

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all, over all planes and estimates."""


class Translation:
    """One MR ``(x, y, z)`` in RAS order on its way through the generators.

    Args:
        generators: whose estimates are put together.
        views: what they are shown of the MR, one after the other, all with voxels of the same edges.
        mr: in [-1, 1].
        body: outside of it is air.
        flips: mirror images are translated as well.
        slice_batch: images in one pass; None fits it to memory and caches.
        across: mm by which each plane is evened out along its own slices before planes are put together.
        on_progress: told after each pass.

    Attributes:
        estimates: that are put together in each voxel.
    """

    def __init__(
        self,
        generators: Generators,
        views: Sequence[NetworkView],
        mr: torch.Tensor | StoredMR,
        body: BodyRegion,
        *,
        flips: bool = False,
        slice_batch: int | None = None,
        across: float = 0.0,
        on_progress: Progress | None = None,
    ) -> None:
        self.generators, self.views, self.mr, self.body = generators, views, mr, body
        self.flips, self.slice_batch, self.across = flips, slice_batch, across
        self.on_progress = on_progress
        self.done = 0
        per_view = [len(self.generators) * len(self._mirrored(view)) for view in self.views]
        self.estimates = sum(per_view)
        self.total = sum(n * view.depth(body.box) for n, view in zip(per_view, self.views, strict=True))

    def write(self, hounsfield: np.ndarray, spread: np.ndarray | None) -> None:
        """Fill arrays ``(x, y, z)`` with what the estimates agree on and, where given, their standard deviation.

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
        return among_neighbours(plane, index, view.axis, view.edges[view.axis], self.across)

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
        slices = self.slice_batch or max(fewest, self.generators.batch(view.voxels(self.body.box)))
        beside = self.generators.passes(slices)
        return list(view.parts(self.body.box, slices // beside)), beside

    def _mirrored(self, view: NetworkView) -> tuple[int | None, ...]:
        """Axes to mirror the images along, one estimate each; None leaves them as they are."""
        return (None, view.mirror) if self.flips and view.mirror is not None else (None,)

    def _in_box(self, part: Part) -> Part:
        return tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, self.body.box, strict=True))

    def _report(self, images: int) -> None:
        self.done += images
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


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


def _shape(part: Part) -> list[int]:
    return [p.stop - p.start for p in part]


def _agreed(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Median of three planes, voxel by voxel; mean of two."""
    if len(planes) < 3:
        return np.asarray(np.mean(np.stack(planes), axis=0, dtype=np.float32))
    first, second, third = planes
    agreed: np.ndarray = np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), third))
    return agreed
