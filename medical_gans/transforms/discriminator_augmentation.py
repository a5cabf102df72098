"""Differentiable augmentation of everything that a discriminator sees (DiffAugment, Zhao et al. 2020).

Real and generated images pass through the same random changes, and the gradient goes through them. A discriminator then
cannot learn a few hundred images by heart, and the generator learns the images as they are, HU included, since
only what the discriminator sees is changed.
"""

from __future__ import annotations

import torch
from torch import Tensor


class DifferentiableAugmentation:
    """Random shift, mirror image, level, contrast and cutout, drawn anew for each image.

    Args:
        translation: largest shift, as a share of the edge; what enters repeats the border.
        cutout: edge of a square set to 0, as a share of the image's; 0 leaves it out.
        level: largest offset, in units of the encoding [-1, 1].
        contrast: largest relative change of the contrast about the image's mean.
        flip: mirror the last axis (left-right) with probability one half.
    """

    def __init__(
        self,
        translation: float = 0.125,
        cutout: float = 0.0,
        level: float = 0.0,
        contrast: float = 0.0,
        flip: bool = False,
    ) -> None:
        self.translation, self.cutout, self.level, self.contrast = translation, cutout, level, contrast
        self.flip = flip

    def __call__(self, images: Tensor) -> Tensor:
        """``(batch, channel, *spatial)`` to the same shape, differentiably."""
        dims = images.ndim - 2
        if self.level:
            images = images + self.level * _uniform(images, dims + 1)
        if self.contrast:
            mean = images.flatten(1).mean(1).reshape(-1, *[1] * (dims + 1))
            images = (images - mean) * (1 + self.contrast * _uniform(images, dims + 1)) + mean
        if self.flip or self.translation:
            images = self._moved(images)
        if self.cutout:
            images = images * self._outside_square(images)
        return images

    def _moved(self, images: Tensor) -> Tensor:
        count, device = len(images), images.device
        for axis in range(2, images.ndim):
            edge = images.shape[axis]
            index = torch.arange(edge, device=device).expand(count, edge)
            if self.flip and axis == images.ndim - 1:
                mirrored = torch.rand(count, 1, device=device) < 0.5
                index = torch.where(mirrored, edge - 1 - index, index)
            most = int(self.translation * edge)
            if most:
                index = index + torch.randint(-most, most + 1, (count, 1), device=device)
            shape = [count, *[1] * (images.ndim - 1)]
            shape[axis] = edge
            images = images.gather(axis, index.clamp(0, edge - 1).reshape(shape).expand_as(images))
        return images

    def _outside_square(self, images: Tensor) -> Tensor:
        inside = torch.ones_like(images[:, :1], dtype=torch.bool)
        for axis in range(2, images.ndim):
            edge = images.shape[axis]
            half = self.cutout * edge / 2
            centre = torch.rand(len(images), 1, device=images.device) * edge
            near = (torch.arange(edge, device=images.device) + 0.5 - centre).abs() < half
            shape = [len(images), *[1] * (images.ndim - 1)]
            shape[axis] = edge
            inside = inside & near.reshape(shape)
        return (~inside).to(images.dtype)


def _uniform(images: Tensor, axes: int) -> Tensor:
    """One number in [-1, 1] for each image."""
    return torch.rand(len(images), *[1] * axes, device=images.device, dtype=images.dtype) * 2 - 1
