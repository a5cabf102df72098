"""Structure losses: does the synthetic image have the anatomy of its source, whatever the contrast?

All images are `(batch, channel, *spatial)` in 2D or 3D, with intensities of order 1. Both losses are
unchanged when either image is scaled, shifted or inverted, and are differentiable in both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d, pad

from medical_gans.errors import SettingError

# Local variation is compared with this share of the image's mean, so that flat background stays flat.
_RELATIVE_FLOOR = 1e-2
_TINY = 1e-8


def _box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over a box of 2 radius + 1 voxels, on the same grid; outside the image nothing is counted."""
    pool = avg_pool2d if image.ndim == 4 else avg_pool3d
    return pool(image, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def _full_precision(image: Tensor) -> Tensor:
    """At least float32: in half precision the squares of faint edges vanish."""
    return image.to(torch.promote_types(image.dtype, torch.float32))


def _spatial_mean(image: Tensor) -> Tensor:
    return image.mean(dim=tuple(range(1, image.ndim)), keepdim=True)


def _check_pair(source: Tensor, synthetic: Tensor) -> None:
    if source.shape != synthetic.shape or source.ndim not in (4, 5):
        raise ValueError(
            f"A structure loss needs two images of one shape (batch, channel, *spatial) in 2D or 3D, "
            f"got {tuple(source.shape)} and {tuple(synthetic.shape)}."
        )


def mind_descriptor(image: Tensor, radius: int = 1) -> Tensor:
    """Modality independent neighbourhood descriptor (Heinrich et al. 2012).

    For each of the neighbours r along the axes exp(-D(x, x + r) / V(x)), scaled so that the largest is 1.
    D is the mean squared difference of two boxes of 2 `radius` + 1 voxels (the paper weighs by a Gaussian;
    a box is faster), V the mean of D over the neighbours.

    Args:
        image: `(batch, channel, *spatial)`; D is the mean over channels.
        radius: of the boxes, in voxels.

    Returns:
        `(batch, 2 * dimensions, *spatial)`, in [0, 1]; the image is continued by its edge values.
    """
    image = _full_precision(image)
    dimensions = image.ndim - 2
    padded = pad(image, [1, 1] * dimensions, mode="replicate")
    squared_differences = []
    for axis in range(2, image.ndim):
        for start in (0, 2):
            neighbour = padded
            for each in range(2, image.ndim):
                neighbour = neighbour.narrow(each, start if each == axis else 1, image.shape[each])
            squared_differences.append((image - neighbour).square().mean(1, keepdim=True))
    distance = _box_mean(torch.cat(squared_differences, dim=1), radius)
    variance = distance.mean(1, keepdim=True)
    variance = variance + _RELATIVE_FLOOR * _spatial_mean(variance) + _TINY
    return torch.exp((distance.amin(1, keepdim=True) - distance) / variance)


def mind_loss(source: Tensor, synthetic: Tensor, radius: int = 1) -> Tensor:
    """Mean absolute difference of the two images' MIND descriptors, in [0, 1]; 0 for equal structure.

    Raises:
        ValueError: the shapes differ, or are neither 2D nor 3D.
    """
    _check_pair(source, synthetic)
    return (mind_descriptor(source, radius) - mind_descriptor(synthetic, radius)).abs().mean()


def _gradient_field(image: Tensor) -> Tensor:
    """Central differences `(batch, channel, dimensions, *spatial - 2)`."""
    components = []
    for axis in range(2, image.ndim):
        inner = image
        for each in range(2, image.ndim):
            if each != axis:
                inner = inner.narrow(each, 1, image.shape[each] - 2)
        length = image.shape[axis] - 2
        components.append((inner.narrow(axis, 2, length) - inner.narrow(axis, 0, length)) / 2)
    return torch.stack(components, dim=2)


def gradient_correlation_loss(source: Tensor, synthetic: Tensor, radius: int = 2) -> Tensor:
    """1 - squared correlation of the two gradient fields in local boxes, in [0, 1].

    In each box r^2 = <p, q>^2 / (<p, p> <q, q>), where <., .> is the mean product of two gradients over the
    box. The square makes a bright edge on CT equal to a dark one on MR, and the box makes that choice local:
    tissues elsewhere may keep their sign. Boxes count by the edges that either image has there, so an edge
    that only one of them has costs, and flat background does not matter. Squared normalised gradients are the
    measure of Haber and Modersitzki (2006), taken here over boxes instead of points because MR is noisy.

    Args:
        source: `(batch, channel, *spatial)`, at least 2 `radius` + 3 voxels along each axis.
        synthetic: of the same shape.
        radius: of the boxes, in voxels.

    Raises:
        ValueError: the shapes differ, or are neither 2D nor 3D.
    """
    _check_pair(source, synthetic)
    p, q = _gradient_field(_full_precision(source)), _gradient_field(_full_precision(synthetic))
    pp, qq, pq = (_box_mean((a * b).sum(2), radius) for a, b in ((p, p), (q, q), (p, q)))
    mean_pp, mean_qq = _spatial_mean(pp), _spatial_mean(qq)
    correlation = pq.square() / ((pp + _RELATIVE_FLOOR * mean_pp + _TINY) * (qq + _RELATIVE_FLOOR * mean_qq + _TINY))
    # Detached, because a network must not lower its loss by choosing where edges count.
    edges_p, edges_q = pp.detach().sqrt(), qq.detach().sqrt()
    weight = edges_p / (_spatial_mean(edges_p) + _TINY) + edges_q / (_spatial_mean(edges_q) + _TINY)
    return ((1 - correlation) * weight).sum() / (weight.sum() + _TINY)


STRUCTURE_LOSSES = {"mind": mind_loss, "gradient_correlation": gradient_correlation_loss}


def structure_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The structure loss of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in STRUCTURE_LOSSES:
        raise SettingError(f"structure is '{name}'; choose {' or '.join(STRUCTURE_LOSSES)}.")
    return STRUCTURE_LOSSES[name]
