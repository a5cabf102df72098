"""All that a generator of adjacent slices says of a slice: as the middle of one image, as a neighbour in others."""

from __future__ import annotations

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
