"""Random contrast for labelled patches: a segmenter then relies on shape and surroundings, not on one sequence."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medical_gans.errors import SettingError
from medical_gans.transforms.painting import Painter, Window
from medical_gans.transforms.tissues import label_tissues

_STATES = 2**32
_SMOOTHING = 0.7  # voxels, before tissues are told apart by their intensity
_ROUNDS = 8  # of k-means on one axis
_PAINTER: dict[str, Any] = {
    **{"free": 0.0, "suppressed": 0.0, "fat": (), "chemical_shift": 0.0, "alike": False},
    **{"lines": 0.2, "spots": 0.2, "borders": 0.0, "thick": 0.0, "blur": (0.2, 0.8)},
}


class RandConvolutionContrastd(RandomizableTransform, MapTransform):
    """Global intensity non-linear augmentation (GIN, Ouyang et al. 2023): a shallow network of random convolutions.

    Kernels of 1 or 3 voxels and leaky ReLU; the result is blended with the image by a random share, and gets the
    image's norm. What is 0 stays 0.

    Args:
        keys: ``(channel, *spatial)`` with two or three spatial axes.
        prob: of a change.
        layers: convolutions.
        width: channels between them.
    """

    def __init__(self, keys: KeysCollection, prob: float = 1.0, layers: int = 4, width: int = 2) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if layers < 1 or width < 1:
            raise SettingError(f"layers is {layers} and width {width}; give 1 or more of each.")
        self.layers, self.width = layers, width

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(made):
                made[key] = self._changed(torch.as_tensor(made[key]).as_subclass(Tensor).float())
        return made

    def _changed(self, image: Tensor) -> Tensor:
        convolve = functional.conv3d if image.ndim == 4 else functional.conv2d
        now, channels = image[None], [len(image), *[self.width] * (self.layers - 1), len(image)]
        for number, (before, after) in enumerate(pairwise(channels)):
            edge = 3 if self.R.random_sample() < 0.5 else 1
            kernel = self.R.normal(size=(after, before, *[edge] * (image.ndim - 1))).astype(np.float32)
            offset = self.R.normal(size=after).astype(np.float32)
            now = convolve(now, torch.from_numpy(kernel), torch.from_numpy(offset), padding=edge // 2)
            now = functional.leaky_relu(now) if number < self.layers - 1 else now
        share = float(self.R.random_sample())
        blended = (share * now[0] + (1 - share) * image) * (image != 0)
        return blended * (image.norm() / blended.norm().clamp_min(1e-6))


class RandPaintRegionsd(RandomizableTransform, MapTransform):
    """Gives every tissue and every class of lesions a random signal of its own (after SynthSeg, Billot et al. 2023).

    Tissues are told apart by the image's own intensity (k-means); a class of the label is a region whatever it looks
    like, so that a lesion is brighter than its surroundings in some draws and darker in others. Lesions get another
    shape (elastic), and in some draws a mirrored copy elsewhere in the patch. `painting.Painter` adds texture, blur, a
    smooth field and noise. The image's own fine detail is kept in part, with either sign, and its mean and deviation
    altogether. What is 0 stays 0. The label is that of the lesions as painted.

    Args:
        keys: ``(channel, *spatial)``, three spatial axes; channels are painted each by itself.
        label_key: of ``(1, *spatial)`` whole numbers, 0 where there is no lesion.
        regions: fewest and most tissues.
        detail: largest share of fine detail, in deviations of the image.
        spacing: mm of a voxel along each axis; None, also for an axis, is taken for 1.
        elastic: mm that the outline of a lesion is moved by at most.
        paste: probability of a copy of the lesions elsewhere.
        prob: of a change.
        painter: further arguments of `Painter`, but for ``signals``.

    Raises:
        SettingError: `regions` are no two rising numbers from 2 on.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        *,
        regions: Sequence[int] = (3, 7),
        detail: float = 0.5,
        spacing: Sequence[float | None] | None = None,
        elastic: float = 0.0,
        paste: float = 0.0,
        prob: float = 1.0,
        painter: Mapping[str, Any] | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if len(regions) != 2 or not 2 <= regions[0] <= regions[1]:
            raise SettingError(f"regions is {list(regions)}; give the fewest and the most tissues, 2 or more.")
        self.label_key, self.regions, self.detail = label_key, (int(regions[0]), int(regions[1])), detail
        self.spacing = tuple(float(edge or 1.0) for edge in (spacing or (None,) * 3))
        self.elastic, self.paste = elastic, paste
        self.painter = {**_PAINTER, **(painter or {})}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        self.randomize(None)
        if self._do_transform:
            rng = np.random.default_rng(int(self.R.randint(_STATES, dtype=np.uint64)))
            given = torch.as_tensor(made[self.label_key])
            before = label = np.asarray(given[0]).astype(np.int64)
            if label.any() and (self.elastic or self.paste):
                inside = np.asarray(made[self.first_key(made)][0]) != 0
                label = self._moved(label, inside, rng)
                made[self.label_key] = torch.from_numpy(label[None]).to(given.dtype)
            for key in self.key_iterator(made):
                image = np.asarray(made[key], dtype=np.float32)
                made[key] = torch.from_numpy(np.stack([self._painted(one, before, label, rng) for one in image]))
        return made

    def _moved(self, label: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Lesions of another shape, and in some draws a copy of them elsewhere; nothing outside of the brain."""
        now = deformed(label, [self.elastic / edge for edge in self.spacing], rng) if self.elastic else label
        if rng.random() < self.paste:
            copy = np.flip(deformed(label, [self.elastic / edge for edge in self.spacing], rng), int(rng.integers(3)))
            copy = np.roll(copy, [int(rng.integers(-n // 3, n // 3 + 1)) for n in label.shape], axis=(0, 1, 2))
            now = np.where(now == 0, copy, now)
        return np.where(inside, now, 0)

    def _painted(
        self, image: np.ndarray, before: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Lesions are painted where `label` has them; the image shows them where they lay `before`."""
        inside = image != 0
        if np.count_nonzero(inside) < 2:
            return image
        shown = regions_of(image, inside, before, int(rng.integers(self.regions[0], self.regions[1] + 1)))
        own = shown * (before == 0)  # without lesions, so that none is left where they were
        if before is not label:
            nearest = ndimage.distance_transform_edt(inside & (own == 0), return_distances=False, return_indices=True)
            own = np.where(inside, own[tuple(nearest)], 0)
        region = np.where(inside & (label > 0), shown.max() + label, own) if before is not label else shown
        count = int(region.max()) + 1
        tissues = label_tissues(torch.from_numpy(region), count)
        del tissues["label_0"]  # the background has no signal
        painter = Painter(signals={name: (0.0, 1.0) for name in tissues}, dark=tuple(tissues), **self.painter)
        shape = (image.shape[0], image.shape[1], image.shape[2])
        window = Window((0, 0, 0), shape, (self.spacing[0], self.spacing[1], self.spacing[2]))
        painted = painter(tissues, painter.fields(window, rng), rng).numpy()
        means = np.bincount(shown.ravel(), image.ravel()) / np.maximum(np.bincount(shown.ravel()), 1)
        fine = (image - means[shown]) / max(float(image[inside].std()), 1e-6)
        painted = painted + rng.uniform(-self.detail, self.detail) * float(painted[inside].std()) * fine
        now, given = painted[inside], image[inside]
        scaled = (painted - now.mean()) * (given.std() / max(float(now.std()), 1e-6)) + given.mean()
        return np.where(inside, scaled, 0.0).astype(np.float32)


def regions_of(image: np.ndarray, inside: np.ndarray, label: np.ndarray, tissues: int) -> np.ndarray:
    """Number of the region of each voxel: 0 outside, 1 to `tissues` by intensity, beyond that a class of the label.

    Args:
        image: ``(i, j, k)``.
        inside: where it shows something.
        label: classes, 0 where there is no lesion.
        tissues: how many to tell apart.
    """
    weight = ndimage.gaussian_filter(inside.astype(np.float32), _SMOOTHING)
    smooth = ndimage.gaussian_filter(image, _SMOOTHING) / np.maximum(weight, 1e-3)
    values = smooth[inside]
    centres = np.quantile(values, (np.arange(tissues) + 0.5) / tissues)
    for _ in range(_ROUNDS):
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        sums, counts = np.bincount(nearest, values, tissues), np.bincount(nearest, minlength=tissues)
        centres = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), centres))
    region = np.zeros(image.shape, np.int64)
    region[inside] = 1 + np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
    return np.where(inside & (label > 0), tissues + label, region)


def deformed(label: np.ndarray, reach: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """A label map moved by a smooth random field of at most `reach` voxels along each axis, to nearest neighbours."""
    knots = torch.from_numpy(rng.uniform(-1, 1, size=(1, 3, 5, 5, 5)).astype(np.float32))
    field = functional.interpolate(knots, size=label.shape, mode="trilinear", align_corners=True)[0].numpy()
    at = np.meshgrid(*[np.arange(n) for n in label.shape], indexing="ij", sparse=True)
    there = [
        np.clip(np.rint(place + far * move), 0, n - 1).astype(np.int64)
        for place, far, move, n in zip(at, reach, field, label.shape, strict=True)
    ]
    return label[tuple(there)]
