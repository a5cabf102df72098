"""What a generator is shown of an MR: slices of a plane with their neighbours, or the body at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from medical_gans.inference.synthesis.body import Part
from medical_gans.transforms import normalise_mr


class View(ABC):
    """A way to look at a canonical (RAS) volume ``(x, y, z)``.

    Attributes:
        axes: of the volume that are the spatial axes of an image.
        mirror: axis of the images ``(batch, channel, *spatial)`` that runs from left to right; None where the
            mirror image is the image itself.
    """

    axes: tuple[int, ...]
    mirror: int | None

    @abstractmethod
    def depth(self, box: Part) -> int:
        """Images in a box."""

    @abstractmethod
    def parts(self, box: Part, batch: int) -> Iterator[Part]:
        """Split a box into parts of at most `batch` images."""

    @abstractmethod
    def images(self, mr: np.ndarray, part: Part, reference: float) -> Tensor:
        """Unit intensities ``(batch, channel, *spatial)`` of a part of the MR."""

    @abstractmethod
    def volume(self, images: np.ndarray) -> np.ndarray:
        """Images ``(batch, *spatial)`` as a part of the volume ``(x, y, z)``; no copy."""


@final
class SlicePlane(View):
    """Slices across one axis.

    Args:
        axis: that the slices are cut across.
        adjacent: slices stacked as channels, odd; the middle one is translated.
        distance: between them, in slices of the volume; a neighbour between two slices is interpolated.
    """

    def __init__(self, axis: int, adjacent: int = 1, distance: float = 1.0) -> None:
        self.axis = axis
        self.adjacent = adjacent
        self.distance = distance
        self.axes = tuple(a for a in range(3) if a != axis)
        self.mirror = 2 if axis != 0 else (1 if adjacent > 1 else None)

    def depth(self, box: Part) -> int:
        return int(box[self.axis].stop - box[self.axis].start)

    def parts(self, box: Part, batch: int) -> Iterator[Part]:
        whole = box[self.axis]
        for start in range(whole.start, whole.stop, batch):
            some = slice(start, min(start + batch, whole.stop))
            yield (*box[: self.axis], some, *box[self.axis + 1 :])

    def images(self, mr: np.ndarray, part: Part, reference: float) -> Tensor:
        everywhere = (*part[: self.axis], slice(None), *part[self.axis + 1 :])
        slices = np.moveaxis(mr[everywhere], self.axis, 0)
        here = np.arange(part[self.axis].start, part[self.axis].stop)
        channels = []
        for number in range(self.adjacent):
            position = here + (number - self.adjacent // 2) * self.distance
            channels.append(normalise_mr(_slices_at(slices, position), reference))
        return torch.from_numpy(np.stack(channels, axis=1))

    def volume(self, images: np.ndarray) -> np.ndarray:
        return np.moveaxis(images, 0, self.axis)


@final
class WholeBody(View):
    """The box of the body at once, for generators in three dimensions."""

    axes = (0, 1, 2)
    mirror = 2

    def depth(self, box: Part) -> int:
        return 1

    def parts(self, box: Part, batch: int) -> Iterator[Part]:
        yield box

    def images(self, mr: np.ndarray, part: Part, reference: float) -> Tensor:
        return torch.from_numpy(normalise_mr(mr[part], reference))[None, None]

    def volume(self, images: np.ndarray) -> np.ndarray:
        return images[0]


def _slices_at(slices: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Slices at fractional positions along the first axis, linearly interpolated; the outermost go on."""
    last = len(slices) - 1
    position = np.clip(position, 0, last)
    below = np.floor(position).astype(int)
    share = (position - below).astype(np.float32)[:, None, None]
    if not share.any():
        return slices[below]
    return slices[below] * (1 - share) + slices[np.minimum(below + 1, last)] * share
