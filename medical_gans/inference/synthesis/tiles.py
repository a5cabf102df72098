"""Networks on images that are too large for the memory: tiles that equal the whole.

A tile carries a halo as wide as the network can see, so without normalisation (or with the fixed statistics
of batch norm) each voxel of its core gets the value that it has in the whole image. Instance norm computes
its statistics from the image it is given; a tile would use its own, and no overlap cures the seam. Here they
are collected over all tiles first, one norm layer after the other, and then shared.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from medical_gans.errors import SettingError

Window = tuple[slice, ...]

_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_REFUSED_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


class TiledGenerator(nn.Module):
    """A generator applied tile by tile; the result is that of the whole image.

    With instance norm the tiles pass once more for each norm layer, and up to it: L layers take about L / 2
    times the work.

    Args:
        generator: fully convolutional, with the attribute ``receptive_radius`` in voxels.
        tile: edge of a tile's core in voxels, a multiple of `stride`.
        stride: product of the generator's strides.

    Raises:
        SettingError: the size is no multiple of `stride`, or the generator cannot be tiled.
    """

    def __init__(self, generator: nn.Module, tile: int, stride: int = 4) -> None:
        super().__init__()
        if tile < stride or tile % stride:
            raise SettingError(f"tile is {tile}; give a multiple of {stride} voxels.")
        radius = getattr(generator, "receptive_radius", None)
        if not isinstance(radius, int):
            raise SettingError(
                f"{type(generator).__name__} does not say how far it sees (receptive_radius), "
                "so its tiles would show seams. Set tile to null."
            )
        refused = next((m for m in generator.modules() if isinstance(m, _REFUSED_NORMS)), None)
        if refused is not None:
            raise SettingError(
                f"{type(refused).__name__} would give every tile statistics of its own. Set tile to null."
            )
        self.generator = generator
        self.tile = tile
        self.stride = stride
        self.halo = -(-radius // stride) * stride

    def forward(self, images: Tensor) -> Tensor:
        """Translate ``(batch, channel, *spatial)`` of sizes that are multiples of `stride`."""
        generator = self.generator
        if any(_is_instance_norm(module) for module in generator.modules()):
            generator = self._with_shared_statistics(images)
        whole: Tensor | None = None
        for window, core, place in self._tiles(images.shape[2:]):
            made = _cut(generator(_cut(images, window)), core)
            if whole is None:
                whole = images.new_empty((*made.shape[:2], *images.shape[2:]), dtype=made.dtype)
            _cut(whole, place).copy_(made)
        assert whole is not None
        return whole

    def _tiles(self, sizes: Sequence[int]) -> Iterator[tuple[Window, Window, Window]]:
        """What a tile sees of the image, where in that its core lies, and where in the image."""
        for starts in itertools.product(*(range(0, size, self.tile) for size in sizes)):
            window, core, place = [], [], []
            for start, size in zip(starts, sizes, strict=True):
                end = min(start + self.tile, size)
                left = max(0, start - self.halo)
                window.append(slice(left, min(size, end + self.halo)))
                core.append(slice(start - left, end - left))
                place.append(slice(start, end))
            yield tuple(window), tuple(core), tuple(place)

    def _with_shared_statistics(self, images: Tensor) -> nn.Module:
        """A copy of the generator whose instance norms use the statistics of the whole images."""
        generator = copy.deepcopy(self.generator)
        layers = []
        for parent in list(generator.modules()):
            for name, child in list(parent.named_children()):
                if _is_instance_norm(child):
                    layers.append(_SharedNorm(child))
                    setattr(parent, name, layers[-1])
        first, _, _ = next(self._tiles(images.shape[2:]))
        for layer in _in_order_of_use(generator, layers, _cut(images, first)):
            for window, core, _ in self._tiles(images.shape[2:]):
                tile = _cut(images, window)
                layer.watch(tile.shape[2:], core)
                try:
                    generator(tile)
                except _Watched:
                    continue
            layer.settle()
        return generator


class _Watched(Exception):
    """A layer has seen its input; what follows is not needed yet."""


class _SharedNorm(nn.Module):
    """Instance norm with given statistics, which it first collects from the cores of all tiles."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(norm, _INSTANCE_NORMS)
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.watched: tuple[Sequence[int], Window] | None = None
        self.sums: list[tuple[int, Tensor, Tensor]] = []
        self.mean: Tensor | None = None
        self.deviation: Tensor | None = None

    def watch(self, sizes: Sequence[int], core: Window) -> None:
        """Collect from the next input: that of a tile of `sizes` voxels, of which `core` counts."""
        self.watched = (sizes, core)

    def settle(self) -> None:
        """Turn what was collected into the statistics."""
        voxels = sum(count for count, _, _ in self.sums)
        self.mean = torch.stack([total for _, total, _ in self.sums]).sum(0) / voxels
        squares = torch.stack([square for _, _, square in self.sums]).sum(0) / voxels
        self.deviation = (squares - self.mean.square()).clamp(min=0).add(self.eps).sqrt()
        self.watched = None

    def forward(self, features: Tensor) -> Tensor:
        if self.watched is not None:
            self._collect(features, *self.watched)
            raise _Watched
        if self.mean is None or self.deviation is None:
            return features
        normalised = (features - self.mean.to(features.dtype)) / self.deviation.to(features.dtype)
        if self.weight is None:
            return normalised
        shape = (1, -1) + (1,) * (features.ndim - 2)
        return normalised * self.weight.view(shape) + self.bias.view(shape)

    def _collect(self, features: Tensor, sizes: Sequence[int], core: Window) -> None:
        scales = [size // length for size, length in zip(sizes, features.shape[2:], strict=True)]
        here = tuple(slice(c.start // s, c.stop // s) for c, s in zip(core, scales, strict=True))
        inside = _cut(features, here).double()
        axes = tuple(range(2, features.ndim))
        self.sums.append(
            (inside[0, 0].numel(), inside.sum(axes, keepdim=True), inside.square().sum(axes, keepdim=True))
        )


def _in_order_of_use(generator: nn.Module, layers: Sequence[_SharedNorm], images: Tensor) -> list[_SharedNorm]:
    """The layers as the network calls them, which need not be how they are listed."""
    order: list[_SharedNorm] = []
    hooks = [layer.register_forward_pre_hook(lambda module, _: order.append(module)) for layer in layers]
    generator(images)
    for hook in hooks:
        hook.remove()
    return order


def _is_instance_norm(module: nn.Module) -> bool:
    return isinstance(module, _INSTANCE_NORMS) and not module.track_running_stats


def _cut(images: Tensor, window: Window) -> Tensor:
    return images[(slice(None), slice(None), *window)]
