"""From labelled and unlabelled volumes to the patches that a segmenter and its adversary train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medical_gans.data.epoch_views import EpochViews
from medical_gans.errors import InputError
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.transforms.sequences import SequenceVolume, read_sequence_case


class LesionViews(EpochViews):
    """Patches of a labelled source, each with a patch of an unlabelled target where there is one.

    Args:
        source: labelled volumes.
        target: unlabelled volumes; none trains on the source alone.
        patch_size: voxels along each axis.
        views_per_epoch: patches drawn in one epoch.
        lesion_share: of the patches that are centred in a lesion, each class equally often, spread evenly over the
            epoch; the others are centred anywhere in the foreground, as those of the target are.
        translated: images of the source volumes in the target's look, in the order of `source`.
        translated_share: of the source patches that are taken from `translated`.
        flip: mirror left-right with probability one half.
        gain: largest relative change of contrast of each channel.
        offset: largest change of level of each channel, in deviations.
        gamma: largest relative change of the exponent of contrast.
        noise: largest deviation of added noise.
        seed: of every random choice.

    Raises:
        InputError: no source, or no lesion in it.
    """

    def __init__(
        self,
        source: Sequence[SequenceVolume],
        target: Sequence[SequenceVolume] = (),
        *,
        patch_size: Sequence[int],
        views_per_epoch: int,
        lesion_share: float = 0.5,
        translated: Sequence[np.ndarray] = (),
        translated_share: float = 0.0,
        flip: bool = True,
        gain: float = 0.2,
        offset: float = 0.2,
        gamma: float = 0.0,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.patch_size = tuple(patch_size)
        self.source = [_Cropped(volume, self.patch_size) for volume in source]
        self.target = [_Cropped(volume, self.patch_size) for volume in target]
        self.translated = [
            _Cropped(volume, self.patch_size, image)
            for volume, image in zip(source, translated, strict=bool(translated))
        ]
        self.with_lesion = [number for number, volume in enumerate(self.source) if volume.places]
        if not self.with_lesion:
            raise InputError(f"None of the {len(self.source)} labelled cases has a lesion. Give cases with lesions.")
        self.lesion_share = lesion_share
        self.translated_share = translated_share if self.translated else 0.0
        self.flip, self.gain, self.offset, self.gamma, self.noise = flip, gain, offset, gamma, noise

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``source`` and ``target`` ``(channel, *patch)``, ``label`` ``(1, *patch)``, ``anywhere`` (not by lesions)."""
        rng = self.random(index)
        in_lesion = int((index + 1) * self.lesion_share) > int(index * self.lesion_share)
        number = int(rng.choice(self.with_lesion) if in_lesion else rng.integers(len(self.source)))
        corner = self.source[number].corner(rng, in_lesion, self.patch_size)
        drawn = self.translated if rng.random() < self.translated_share else self.source
        image, label = drawn[number].patch(corner, self.patch_size)
        view = self._varied(rng, image, label)
        made = {"source": view[0], "label": view[1].long(), "anywhere": torch.tensor(not in_lesion)}
        if self.target:
            volume = self.target[int(rng.integers(len(self.target)))]
            image, label = volume.patch(volume.corner(rng, False, self.patch_size), self.patch_size)
            made["target"] = self._varied(rng, image, label)[0]
        return made

    def _varied(self, rng: np.random.Generator, image: np.ndarray, label: np.ndarray) -> tuple[Tensor, Tensor]:
        if self.flip and rng.random() < 0.5:
            image, label = image[:, ::-1], label[::-1]
        inside = image != 0
        each = (len(image),) + (1,) * (image.ndim - 1)
        changed = image * (1 + rng.uniform(-self.gain, self.gain, each)) + rng.uniform(-self.offset, self.offset, each)
        if self.gamma:
            low, high = changed.min(), max(float(changed.max()), float(changed.min()) + 1e-6)
            exponent = np.exp(rng.uniform(-self.gamma, self.gamma, each))
            changed = ((changed - low) / (high - low)) ** exponent * (high - low) + low
        changed = changed + rng.uniform(0, self.noise) * rng.standard_normal(image.shape)
        varied = np.where(inside, changed, 0.0).astype(np.float32)
        return torch.from_numpy(varied), torch.from_numpy(label[None].copy())


class _Cropped:
    """The part of a volume around its foreground, no smaller than a patch, and where patches may be centred."""

    def __init__(self, volume: SequenceVolume, patch: tuple[int, ...], image: np.ndarray | None = None) -> None:
        bounds = [np.flatnonzero(volume.foreground.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        box = tuple(slice(int(found[0]), int(found[-1]) + 1) for found in bounds)
        shape = [part.stop - part.start for part in box]
        pad = [((lack := max(0, edge - size)) // 2, lack - lack // 2) for edge, size in zip(patch, shape, strict=True)]
        taken = volume.image if image is None else image
        label = np.zeros_like(volume.foreground, np.uint8) if volume.label is None else volume.label
        self.image = np.pad(taken[(slice(None), *box)], [(0, 0), *pad])
        self.label = np.pad(label[box], pad)
        self.foreground = np.flatnonzero(np.pad(volume.foreground[box], pad))
        self.places = [np.flatnonzero(self.label == value) for value in np.unique(self.label) if value]

    def corner(self, rng: np.random.Generator, in_lesion: bool, patch: tuple[int, ...]) -> tuple[int, ...]:
        """Lowest corner of a patch about a random voxel of a lesion or of the foreground."""
        among = self.places[rng.integers(len(self.places))] if in_lesion else self.foreground
        centre = np.unravel_index(rng.choice(among), self.label.shape)
        return tuple(
            int(np.clip(place - edge // 2 + rng.integers(-edge // 4, edge // 4 + 1), 0, size - edge))
            for place, edge, size in zip(centre, patch, self.label.shape, strict=True)
        )

    def patch(self, corner: tuple[int, ...], size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        part = tuple(slice(low, low + edge) for low, edge in zip(corner, size, strict=True))
        return self.image[(slice(None), *part)], self.label[part]


def read_volumes(cases: Sequence[SequenceCase], channels: Sequence[str], **options: Any) -> list[SequenceVolume]:
    """All cases of a data set, with progress; `options` as of `read_sequence_case`."""
    from tqdm import tqdm

    return [read_sequence_case(case, channels, **options) for case in tqdm(cases, desc="reading", unit="case")]


def lesion_views(
    source: Sequence[SequenceCase],
    target: Sequence[SequenceCase],
    channels: Sequence[str],
    target_channels: Sequence[str],
    *,
    spacing: Sequence[float | None] | None,
    num_classes: int,
    label_groups: Sequence[Sequence[int]] | None = None,
    translated: Sequence[SequenceCase] = (),
    **options: Any,
) -> LesionViews:
    """Views of a source and a target on disk.

    Args:
        source: labelled cases.
        target: unlabelled cases; their labels, where there are any, are not opened.
        channels: sequences of the source.
        target_channels: sequences of the target, in the same order.
        spacing: mm of the network's grid.
        num_classes: background included.
        label_groups: see `read_sequence_case`.
        translated: the source's cases in the target's look, found by their names.
        options: see `LesionViews`.

    Raises:
        InputError: as `read_sequence_case`; a source case that was not translated.
    """
    volumes = read_volumes(source, channels, spacing=spacing, num_classes=num_classes, label_groups=label_groups)
    by_name = {case.name: case for case in translated}
    lost = [case.name for case in source if translated and case.name not in by_name]
    if lost:
        raise InputError(f"The translated images lack the case {lost[0]}. Translate the whole source again.")
    images = (
        [volume.image for volume in read_volumes([by_name[c.name] for c in source], target_channels, spacing=spacing)]
        if translated
        else []
    )
    others = read_volumes(target, target_channels, spacing=spacing) if target else []
    return LesionViews(volumes, others, translated=images, **options)
