"""MONAI's random transforms, drawn for each view and applied to a batch at once.

MONAI transforms one image at a time and keeps its history beside it, which takes longer than the arithmetic. Here the
transforms of a config draw what they would draw for each view, from the same seed, and what was drawn is applied to all
views of a batch in a few operations, on whatever device they are. The views are the same up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    Lambdad,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    Randomizable,
    RandScaleIntensityd,
)
from monai.transforms.utils import create_shear
from monai.utils import MAX_SEED
from torch import Tensor
from torch.nn import functional

Batch = dict[str, Tensor]
"""Images ``(batch, channel, *spatial)`` by key."""


class BatchedAugmentation:
    """Applies a composition of MONAI's transforms to a batch of 2D views; see `batched`."""

    def __init__(self, augmentation: Compose) -> None:
        self.augmentation = augmentation.set_random_state(seed=0)  # from here on each has a state of its own
        self._parts = [_random_parts(step) for step in augmentation.transforms]

    def _seed(self, seed: int) -> None:
        """As `Compose.set_random_state`, but in place: to make a new state takes ten times as long as to seed one."""
        state = self.augmentation.R
        state.seed(seed % MAX_SEED)
        for parts in self._parts:
            own = int(state.randint(MAX_SEED, dtype="uint32")) if parts else 0
            for part in parts:
                part.R.seed(own % MAX_SEED)

    def __call__(self, batch: Mapping[str, Tensor], seeds: Sequence[int]) -> Batch:
        """Transform views.

        Args:
            batch: images ``(batch, channel, height, width)`` by key.
            seeds: of each view; what `Compose.set_random_state` would get.

        Returns:
            The same keys, on the same device.
        """
        made = dict(batch)
        drawn: list[list[Any]] = [[] for _ in self.augmentation.transforms]
        shapes = {key: tuple(images.shape[1:]) for key, images in batch.items()}
        for seed in seeds:
            self._seed(int(seed))
            sizes = dict(shapes)
            for transform, of_views in zip(self.augmentation.transforms, drawn, strict=True):
                of_views.append(_FORMS[type(transform)][1](transform, sizes))
        for transform, of_views in zip(self.augmentation.transforms, drawn, strict=True):
            apply = _FORMS[type(transform)][2]
            for key in transform.keys:
                if key in made:
                    made[key] = apply(transform, made[key], of_views)
        return made


def batched(augmentation: Any) -> BatchedAugmentation | None:
    """The batched form of an augmentation; None where some transform has none, or has a setting that it lacks."""
    if type(augmentation) is not Compose or augmentation.lazy:
        return None
    steps = augmentation.transforms
    if all(type(step) in _FORMS and _FORMS[type(step)][0](step) for step in steps):
        return BatchedAugmentation(augmentation)
    return None


def _random_parts(step: Any) -> list[Randomizable]:
    """What draws in a transform: itself and what it is made of, all of one seed."""
    if not isinstance(step, Randomizable):
        return []
    return [step, *(part for held in vars(step).values() for part in _random_parts(held))]


def _affine_fits(step: RandAffined) -> bool:
    kinds = {str(getattr(mode, "value", mode)) for mode in step.mode}
    beyond = {str(getattr(mode, "value", mode)) for mode in step.padding_mode}
    size = step.rand_affine.spatial_size
    whole = isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
    return whole and kinds == {"bilinear"} and beyond == {"zeros"}


def _size(step: RandAffined) -> tuple[int, ...]:
    size = step.rand_affine.spatial_size
    assert isinstance(size, Sequence)  # see _affine_fits
    return tuple(size)


def _draw_affine(step: RandAffined, sizes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Output voxel to input voxel, both counted from the middle, ``(3, 3)``."""
    size = _size(step)
    sizes |= {key: (*sizes[key][:1], *size) for key in step.keys if key in sizes}
    step.randomize(None)
    step.rand_affine.randomize()
    if not step._do_transform:
        return np.eye(3)
    grid = step.rand_affine.rand_affine_grid
    grid.randomize()  # MONAI draws again when it makes the grid
    matrix = np.eye(3)
    if grid.rotate_params:
        cosine, sine = math.cos(grid.rotate_params[0]), math.sin(grid.rotate_params[0])
        matrix = matrix @ [[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]
    if grid.shear_params:
        matrix = matrix @ np.asarray(create_shear(2, grid.shear_params))
    if grid.translate_params:
        down, right, *_ = [*grid.translate_params, 0.0]
        matrix = matrix @ [[1.0, 0.0, down], [0.0, 1.0, right], [0.0, 0.0, 1.0]]
    if grid.scale_params:
        down, right, *_ = [*grid.scale_params, 1.0]
        matrix = matrix @ np.diag([down, right, 1.0])
    return matrix


def _apply_affine(step: RandAffined, images: Tensor, drawn: Sequence[np.ndarray]) -> Tensor:
    after = _size(step)
    affine = torch.from_numpy(np.stack(drawn)).float()
    wide, narrow = torch.tensor(images.shape[2:], dtype=torch.float32), torch.tensor(after, dtype=torch.float32)
    turn = affine[:, :2, :2] * narrow[None, None] / wide[None, :, None]
    shift = affine[:, :2, 2] * 2.0 / wide
    theta = torch.cat([turn, shift[:, :, None]], 2)
    theta = torch.stack([theta[:, 1, [1, 0, 2]], theta[:, 0, [1, 0, 2]]], 1)  # torch counts columns first
    places = functional.affine_grid(theta.to(images.device), [len(images), 1, *after], align_corners=False)
    moved: Tensor = functional.grid_sample(images, places.to(images.dtype), padding_mode="zeros", align_corners=False)
    return moved


def _draw_flip(step: RandFlipd, sizes: Mapping[str, tuple[int, ...]]) -> bool:
    step.randomize(None)
    return bool(step._do_transform)


def _apply_flip(step: RandFlipd, images: Tensor, drawn: Sequence[bool]) -> Tensor:
    flips = torch.tensor(drawn, device=images.device)[:, None, None, None]
    return torch.where(flips, images.flip(3 if step.flipper.spatial_axis else 2), images)


def _draw_contrast(step: RandAdjustContrastd, sizes: Mapping[str, tuple[int, ...]]) -> float | None:
    step.randomize(None)
    if not step._do_transform:
        return None
    step.adjuster.randomize(None)
    return float(step.adjuster.gamma_value)


def _apply_contrast(step: RandAdjustContrastd, images: Tensor, drawn: Sequence[float | None]) -> Tensor:
    gamma = _column([1.0 if one is None else one for one in drawn], images)
    low = images.amin((1, 2, 3), keepdim=True)
    span = images.amax((1, 2, 3), keepdim=True) - low
    changed = ((images - low) / (span + 1e-7)).pow(gamma) * span + low
    return torch.where(_column([one is not None for one in drawn], images, torch.bool), changed, images)


def _draw_field(step: RandBiasFieldd, sizes: Mapping[str, tuple[int, ...]]) -> list[float] | None:
    step.randomize(None)
    shown = [str(key) for key in step.keys if key in sizes]
    if not step._do_transform or not shown:
        return None
    step.rand_bias_field.randomize(img_size=sizes[shown[0]][1:])
    return list(step.rand_bias_field._coeff)


def _apply_field(step: RandBiasFieldd, images: Tensor, drawn: Sequence[list[float] | None]) -> Tensor:
    degree = step.rand_bias_field.degree
    rows, columns = np.tril_indices(degree + 1)
    one, other = (
        np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, n, dtype=np.float32), degree) for n in images.shape[2:]
    )
    basis = torch.from_numpy(np.stack([np.outer(one[:, i], other[:, j]) for i, j in zip(rows, columns, strict=True)]))
    coefficients = torch.tensor([[0.0] * len(rows) if some is None else some for some in drawn])
    basis, coefficients = basis.to(images.device, images.dtype), coefficients.to(images.device, images.dtype)
    return images * torch.einsum("bc,chw->bhw", coefficients, basis).exp()[:, None]


def _draw_scale(step: RandScaleIntensityd, sizes: Mapping[str, tuple[int, ...]]) -> float:
    step.randomize(None)
    if not step._do_transform:
        return 0.0
    step.scaler.randomize(None)
    return float(step.scaler.factor)


def _apply_scale(step: RandScaleIntensityd, images: Tensor, drawn: Sequence[float]) -> Tensor:
    return images * (1 + _column(drawn, images))


def _apply_function(step: Lambdad, images: Tensor, drawn: Sequence[None]) -> Tensor:
    """View by view, for a function may look at all of an image."""
    function: Callable[[Tensor], Tensor] = step.func[0]
    return torch.stack([function(image) for image in images])


def _column(values: Sequence[Any], images: Tensor, kind: torch.dtype | None = None) -> Tensor:
    return torch.tensor(values, dtype=kind or images.dtype, device=images.device)[:, None, None, None]


_FORMS: dict[type, tuple[Callable[[Any], bool], Callable[[Any, Any], Any], Callable[[Any, Tensor, Any], Tensor]]] = {
    RandAffined: (_affine_fits, _draw_affine, _apply_affine),
    RandFlipd: (lambda step: step.flipper.spatial_axis in (0, 1), _draw_flip, _apply_flip),
    RandAdjustContrastd: (
        lambda step: not (step.adjuster.adjust_contrast.invert_image or step.adjuster.adjust_contrast.retain_stats),
        _draw_contrast,
        _apply_contrast,
    ),
    RandBiasFieldd: (lambda step: True, _draw_field, _apply_field),
    RandScaleIntensityd: (lambda step: not step.scaler.channel_wise, _draw_scale, _apply_scale),
    Lambdad: (
        lambda step: len(set(step.func)) == 1 and all(one is True for one in step.overwrite),
        lambda step, sizes: None,
        _apply_function,
    ),
}
"""Whether the settings of a transform fit, what is drawn for a view, and how it is applied to all of them."""
