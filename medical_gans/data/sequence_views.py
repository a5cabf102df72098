"""What a training step of brain lesions sees: patches for a segmenter and its adversary, slices for a translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch import Tensor
from tqdm import tqdm

from medical_gans.data.epoch_views import EpochViews
from medical_gans.errors import InputError
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.transforms.sequence_grid import in_box_of
from medical_gans.transforms.sequence_volume import Preprocessing, SequenceVolume, read_sequence_case

DEVIATIONS = 4.0
"""Normalised intensities up to this many deviations from the mean fit into [-1, 1]; others saturate."""
_LEAST_FOREGROUND = 0.1  # of the fullest slice's
_STATES = 2**32

Augmentation = Callable[[dict[str, Tensor]], Mapping[str, Any]]


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
        augmentation: of each patch, a transform of ``image`` ``(channel, *patch)``, ``label`` ``(1, *patch)`` and
            ``foreground`` ``(channel, *patch)``, true where the image shows something. MONAI's randomisable transforms
            get the state of (seed, epoch, index); None changes nothing.
        source_augmentation: as `augmentation`, of the source's patches alone and before it.
        pupil_augmentation: as `augmentation`, of the target's patches and after it, for the pupil of self-training
            alone; it must leave every voxel in its place.
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
        augmentation: Augmentation | None = None,
        source_augmentation: Augmentation | None = None,
        pupil_augmentation: Augmentation | None = None,
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
        self.augmentation, self.source_augmentation = augmentation, source_augmentation
        self.pupil_augmentation = pupil_augmentation

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``source`` and ``target`` ``(channel, *patch)``, ``label`` ``(1, *patch)``, ``anywhere`` (not by lesions).

        With `pupil_augmentation` also ``pupil``, the patch of the target as the pupil sees it.
        """
        rng = self.random(index)
        in_lesion = int((index + 1) * self.lesion_share) > int(index * self.lesion_share)
        number = int(rng.choice(self.with_lesion) if in_lesion else rng.integers(len(self.source)))
        corner = self.source[number].corner(rng, in_lesion, self.patch_size)
        drawn = self.translated if rng.random() < self.translated_share else self.source
        view = _view(*drawn[number].patch(corner, self.patch_size))
        view = _varied(_varied(view, self.source_augmentation, rng), self.augmentation, rng)
        made = {"source": view["image"], "label": view["label"].long(), "anywhere": torch.tensor(not in_lesion)}
        if self.target:
            volume = self.target[int(rng.integers(len(self.target)))]
            corner = volume.corner(rng, False, self.patch_size)
            shown = _varied(_view(*volume.patch(corner, self.patch_size)), self.augmentation, rng)
            made["target"] = shown["image"]
            if self.pupil_augmentation is not None:
                made["pupil"] = _varied(shown, self.pupil_augmentation, rng)["image"]
        return made


def _view(image: np.ndarray, label: np.ndarray) -> dict[str, Tensor]:
    arrays = {"image": image, "label": label[None], "foreground": image != 0}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _varied(view: dict[str, Tensor], augmentation: Augmentation | None, rng: np.random.Generator) -> dict[str, Tensor]:
    """A view after an augmentation, whose state comes from `rng`."""
    if augmentation is None:
        return view
    if isinstance(augmentation, Randomizable):
        augmentation.set_random_state(seed=int(rng.integers(_STATES)))
    return {name: torch.as_tensor(one).as_subclass(Tensor) for name, one in augmentation(view).items()}


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


class SequenceSlices(EpochViews):
    """Random crops of axial slices of the source, each beside one of the target.

    Args:
        source: volumes whose look is to be changed.
        target: volumes that have the wanted look.
        crop_size: voxels left-right and back-front, multiples of 4.
        views_per_epoch: pairs drawn in one epoch.
        augmentation: of each crop, a transform of ``image`` ``(channel, *crop)`` in [-1, 1]; as of `LesionViews`.
        seed: of every random choice.
    """

    def __init__(
        self,
        source: Sequence[SequenceVolume],
        target: Sequence[SequenceVolume],
        *,
        crop_size: Sequence[int],
        views_per_epoch: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.slices = {"source": _slices(source, crop_size), "target": _slices(target, crop_size)}
        self.crop_size, self.augmentation = tuple(crop_size), augmentation

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``source`` and ``target`` ``(channel, *crop)`` in [-1, 1]."""
        rng = self.random(index)
        return {name: self._crop(rng, slices) for name, slices in self.slices.items()}

    def _crop(self, rng: np.random.Generator, slices: list[np.ndarray]) -> Tensor:
        image = slices[rng.integers(len(slices))]
        corner = [
            int(rng.integers(0, size - edge + 1)) for size, edge in zip(image.shape[1:], self.crop_size, strict=True)
        ]
        part = tuple(slice(low, low + edge) for low, edge in zip(corner, self.crop_size, strict=True))
        crop = torch.from_numpy(image[(slice(None), *part)].copy())
        return _varied({"image": crop}, self.augmentation, rng)["image"]


def to_unit(normalised: np.ndarray) -> np.ndarray:
    """Intensities in deviations from their mean to [-1, 1]."""
    return np.clip(normalised / np.float32(DEVIATIONS), -1, 1)


def _slices(volumes: Sequence[SequenceVolume], crop: Sequence[int]) -> list[np.ndarray]:
    """Slices that show enough of the head, cut to it and padded to the size of a crop."""
    found = []
    for volume in volumes:
        share = volume.foreground.sum((0, 1))
        for k in np.flatnonzero(share > _LEAST_FOREGROUND * share.max()):
            bounds = [np.flatnonzero(volume.foreground[:, :, k].any(1 - axis)) for axis in range(2)]
            x, y = (slice(int(b[0]), int(b[-1]) + 1) for b in bounds)
            cut = to_unit(volume.image[:, x, y, int(k)])
            lacks = [max(0, edge - size) for edge, size in zip(crop, cut.shape[1:], strict=True)]
            found.append(np.pad(cut, [(0, 0), *((lack // 2, lack - lack // 2) for lack in lacks)]))
    return found


def read_volumes(cases: Sequence[SequenceCase], **options: Any) -> list[SequenceVolume]:
    """All cases of a data set, with progress; `options` as of `read_sequence_case`."""
    return [read_sequence_case(case, **options) for case in tqdm(cases, desc="reading", unit="case")]


def lesion_views(
    source: Sequence[SequenceCase],
    target: Sequence[SequenceCase],
    *,
    preprocessing: Preprocessing | None,
    num_classes: int,
    label_groups: Sequence[Sequence[int]] | None = None,
    translated: Sequence[SequenceCase] = (),
    **options: Any,
) -> LesionViews:
    """Views of a source and a target on disk.

    Args:
        source: labelled cases.
        target: unlabelled cases; their labels, where there are any, are not opened.
        preprocessing: of every case.
        num_classes: background included.
        label_groups: see `read_sequence_case`.
        translated: the source's cases in the target's look, found by their names.
        options: see `LesionViews`.

    Raises:
        InputError: as `read_sequence_case`; a source case that was not translated.
    """
    by_name = {case.name: case for case in translated}
    lost = [case.name for case in source if translated and case.name not in by_name]
    if lost:
        raise InputError(f"The translated images lack the case {lost[0]}. Translate the whole source again.")
    labels = {"num_classes": num_classes, "label_groups": label_groups}
    volumes = read_volumes(source, preprocessing=preprocessing, **labels)
    others = read_volumes(target, preprocessing=preprocessing) if target else []
    looks = read_volumes([by_name[c.name] for c in source], preprocessing=preprocessing) if translated else []
    images = [
        in_box_of(look.image, look.affine, volume.affine, volume.foreground.shape)
        for look, volume in zip(looks, volumes, strict=bool(looks))
    ]
    return LesionViews(volumes, others, translated=images, **options)
