"""Bring images from one grid to another: the only place that resamples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def resize_in_plane(
    images: torch.Tensor, spacing: Sequence[float], target: Sequence[float | None]
) -> tuple[torch.Tensor, tuple[float, ...]]:
    """Resample images to another voxel size, keeping the field of view exactly.

    Args:
        images: ``(batch, channel, *spatial)`` with two or three spatial axes.
        spacing: present voxel size in mm, per spatial axis.
        target: wanted voxel size in mm; None keeps an axis as it is.

    Returns:
        The images and their true spacing (the wanted one, rounded so that the field of view is whole voxels).
    """
    import torch.nn.functional as functional

    size = tuple(images.shape[2:])
    wanted = [
        n if t is None or abs(n * s / t - n) < 0.5 else max(1, round(n * s / t))
        for n, s, t in zip(size, spacing, target, strict=True)
    ]
    true_spacing = tuple(n * s / w for n, s, w in zip(size, spacing, wanted, strict=True))
    if tuple(wanted) == size:
        return images, true_spacing
    mode = "bilinear" if len(size) == 2 else "trilinear"
    smooth = mode == "bilinear" and any(w < n for w, n in zip(wanted, size, strict=True))
    return functional.interpolate(images, size=wanted, mode=mode, antialias=smooth), true_spacing
