"""What neighbouring slices say of a slice: as images of adjacent slices, or as estimates of one plane among several."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class NeighbourMean:
    """Weighted mean over the images in which a slice appears, for images that come in the order of their middle slices.

    A generator of three adjacent slices makes three, so each slice is made three times, from three contexts. The mean
    costs no pass through the network. In the middle both neighbours are known, so that a slice which lies `distance`
    slices off counts ``1 / (1 + distance)``.

    Args:
        adjacent: slices of an image, odd.
        count: images that will come, one for each slice.
    """

    def __init__(self, adjacent: int, count: int) -> None:
        self.reach, self.count = adjacent // 2, count
        self._seen = self._given = 0
        self._sum: Tensor | None = None  # of the slices from `_given` to `_seen + reach`
        self._weight = torch.zeros(0)

    def __call__(self, images: Tensor) -> Tensor:
        """Take in the next images, ``(batch, adjacent or 1, *)``, and give the slices that are done with them.

        Returns:
            ``(ready, 1, *)``, from the slice after the last one that was given on; all that are left with the
            last image.
        """
        begin, end = self._seen, self._seen + len(images)
        held = min(end + self.reach, self.count) - self._given
        total, weight = images.new_zeros(held, 1, *images.shape[2:]), images.new_zeros(held)
        if self._sum is not None:
            total[: len(self._sum)], weight[: len(self._sum)] = self._sum, self._weight
        for channel in range(images.shape[1]):
            offset = channel - images.shape[1] // 2  # a generator may make the middle only
            first, last = max(begin + offset, 0), min(end + offset, self.count)
            if first < last:
                share = 1.0 / (1 + abs(offset))
                place = slice(first - self._given, last - self._given)
                seen = images[first - offset - begin : last - offset - begin, channel : channel + 1]
                total[place] += share * seen
                weight[place] += share
        ready = (self.count if end == self.count else max(end - self.reach, self._given)) - self._given
        self._seen, self._given = end, self._given + ready
        self._sum, self._weight = total[ready:], weight[ready:]
        return total[:ready] / weight[:ready].view(-1, *[1] * (total.ndim - 1))


def among_neighbours(volume: np.ndarray, index: int, axis: int, distance: float, across: float) -> np.ndarray:
    """One axial slice of what a plane of slices made, each of its own slices averaged with the two beside it.

    A generator of single slices knows nothing of the slices beside, so its estimates jump from one to the next. The
    weights are those of a Gaussian at the distance of the slices: thick slices are hardly touched.

    Args:
        volume: HU ``(x, y, z)``, made slice by slice along `axis`.
        index: of the axial slice, along z.
        axis: 0 sagittal, 1 coronal, 2 axial.
        distance: of the slices in mm.
        across: standard deviation of the Gaussian in mm; 0 takes the slice as it is.

    Returns:
        HU ``(x, y, 1)``, float32.
    """
    here = volume[:, :, index : index + 1].astype(np.float32)
    share = math.exp(-((distance / across) ** 2) / 2) if across > 0 else 0.0
    if share == 0:
        return here
    if axis == 2:
        last = volume.shape[2] - 1
        low, high = max(index - 1, 0), min(index + 1, last)
        beside = volume[:, :, low : low + 1].astype(np.float32) + volume[:, :, high : high + 1]
    else:
        size = volume.shape[axis]
        order = np.arange(size)
        beside = here.take(np.maximum(order - 1, 0), axis) + here.take(np.minimum(order + 1, size - 1), axis)
    mean: np.ndarray = (here + np.float32(share) * beside) / np.float32(1 + 2 * share)
    return mean
