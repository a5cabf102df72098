"""The MR sequences of a case on their way to a segmenter: read onto one grid, cut to the head, normalised.

An item on its way is a dictionary with ``image`` (at first the case or a path), ``foreground``, where there are labels
``label`` and ``truth`` (the label on the grid that the case came with), ``source`` (that grid, as a `Volume`) and
``notes`` (sentences for the report).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from medical_gans.errors import InputError, SettingError
from medical_gans.io.formats import holds_dicom_images, image_stem
from medical_gans.io.sequence_cases import SequenceCase, find_sequence_cases
from medical_gans.io.volumes import Volume, aligned_to, read_label_map, read_mask, read_volume
from medical_gans.transforms.intensity import body_mask
from medical_gans.transforms.reading import check_no_hounsfield, on_its_grid, with_background_at_zero
from medical_gans.transforms.sequence_grid import (
    onto_grid_of,
    same_grid,
)

if TYPE_CHECKING:
    from os import PathLike

_CONSTANT_SHARE = 0.2  # of all voxels with one value: a background that was masked away
_OUTLIERS = (0.5, 99.5)  # percentiles that mean and deviation are taken within
_HIGHEST = 6.0  # deviations


class ReadSequencesd(MapTransform):
    """Reads the sequences of a case onto the grid of the first one that is there, and label and mask with them.

    An item may ask for ``label_groups`` (label values that make class 1, class 2, ...) and ``num_classes`` (labels
    from there on are refused).

    Args:
        keys: of a `SequenceCase`, or a path: a case folder, or the image itself where the network takes one sequence;
            where it takes several, the other ones are looked for beside it.
        channels: names of the sequences in the network's order, for paths.
        missing: those of `channels` that there are not, for paths.
        mask: name of the mask of brain or head, for paths.
        select: words of the headers that choose where a source holds several images: of every sequence, or by the name
            of the sequence, such as ``{T1c: "echo 2"}``.

    Raises:
        SettingError: `select` names a sequence that there is not.
    """

    def __init__(
        self,
        keys: KeysCollection,
        channels: Sequence[str],
        missing: Sequence[str] = (),
        mask: str | None = None,
        select: str | Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(keys)
        self.channels, self.missing, self.mask = list(channels), list(missing), mask
        self.select = dict(select) if isinstance(select, Mapping) else select
        if unknown := [name for name in self.select if name not in channels] if isinstance(self.select, dict) else []:
            raise SettingError(f"select names the sequence {unknown[0]}; there are {', '.join(channels)}.")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read.

        Raises:
            InputError: as `find_sequence_cases` and `read_volume`; not MR; a sequence, label or mask that shows another
                place; a label map with fractions or out of range.
        """
        read = dict(data)
        for key in self.key_iterator(read):
            case = read[key] if isinstance(read[key], SequenceCase) else self._case(Path(read[key]))
            read |= self._read(key, case, read)
        return read

    def _read(self, key: Hashable, case: SequenceCase, wanted: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        names = case.sequences or tuple(self.channels)
        paths = zip(names, case.channels, strict=True)
        present = [(name, read_volume(path, select=self._words(name), modality="MR")) for name, path in paths if path]
        for name, volume in present:
            if volume.modality not in (None, "MR"):
                raise InputError(f"{name} of case {case.name} is a {volume.modality}; an MR is needed.")
            if wanted.get("strict"):
                volume.check_certain()
            check_no_hounsfield(volume)
        first_name, first = present[0]
        if not case.mask and not _is_masked(first.array):  # it says where the head is
            first = with_background_at_zero(first)
            present[0] = first_name, first
        notes = [f"{name}: {note}" for name, volume in present[1:] for note in volume.notes]
        arrays = iter([_on_grid(first, volume, (first_name, name), case.name, notes) for name, volume in present])
        nothing = np.zeros(first.array.shape, np.float32)
        image = np.stack([next(arrays) if path else nothing for path in case.channels]).astype(np.float32, copy=False)
        said = {name: _description(volume) for name, volume in present if volume.headers}
        made: dict[Hashable, Any] = {key: on_its_grid(image, first), "source": first, "descriptions": said}
        if case.label:
            label = read_label_map(case.label)
            label_on_grid = _on_grid(first, label, (first_name, "The label map"), case.name, notes, order=0)
            truth = _classes(case.label, label_on_grid, wanted.get("label_groups"), wanted.get("num_classes"))
            made |= {"truth": truth, "label": on_its_grid(truth[None], first)}
        if case.mask:
            mask = _on_grid(first, read_mask(case.mask), (first_name, "The mask"), case.name, notes, order=0)
            made["foreground"] = on_its_grid(mask[None], first)
        return made | {"notes": tuple(notes)}

    def _words(self, name: str) -> str | None:
        """What chooses the image of a sequence."""
        words = self.select.get(name) if isinstance(self.select, dict) else self.select
        return None if words is None else str(words)

    def _case(self, path: Path) -> SequenceCase:
        is_image = path.is_file() or holds_dicom_images(path)
        if is_image and len(self.channels) == 1:
            return SequenceCase(image_stem(path), (path,))
        folder = path.parent if is_image else path
        cases = find_sequence_cases(folder, self.channels, missing=self.missing, mask=self.mask)
        if len(cases) > 1:
            raise InputError(f"{folder} holds {len(cases)} cases; give the folder of one.")
        return cases[0]


class FindForegroundd(MapTransform):
    """Adds ``foreground`` where no mask was read: all but a background of one value, else the body.

    `keys` name images ``(channel, *spatial)``; the first channel of the first one that shows something tells.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        if "foreground" not in made:
            image: MetaTensor = made[self.keys[0]]
            array = next(channel for channel in image.numpy() if channel.any())
            spacing = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
            found = torch.from_numpy(_foreground(array, spacing.tolist())[None])
            made["foreground"] = MetaTensor(found, affine=image.affine)
        return made


class NormaliseForegroundd(MapTransform):
    """Each channel gets mean 0 and deviation 1 within the foreground, its outliers aside, and is 0 outside.

    `keys` name images ``(channel, *spatial)``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise.

        Raises:
            InputError: there is no foreground.
        """
        made = dict(data)
        foreground = made["foreground"].numpy()[0].astype(bool, copy=False)
        if not foreground.any():
            source = made["source"].source if "source" in made else "the image"
            raise InputError(f"No head can be found in {source}. Give a mask beside it, or check the image.")
        for key in self.key_iterator(made):
            image: MetaTensor = made[key]
            new = np.stack([_normalised(channel, foreground) for channel in image.numpy()])
            made[key] = MetaTensor(torch.from_numpy(new), meta=image.meta)
        return made


class WithinForegroundd(MapTransform):
    """Sets every class but the background to 0 outside the head; holes of the head, such as ventricles, belong to it.

    `keys` name probabilities ``(class, *spatial)``, the background first.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        made = dict(data)
        if "foreground" not in made:
            raise InputError("The postprocessing needs what the preprocessing of its config reads; use both together.")
        head = torch.from_numpy(_without_holes(made["foreground"].numpy()[0].astype(bool, copy=False)))
        for key in self.key_iterator(made):
            made[key] = torch.cat([made[key][:1], made[key][1:] * head.to(made[key].device)])
        return made


def _description(volume: Volume) -> str:
    from medical_gans.io.dicom.headers import text

    return text(volume.headers[0], "SeriesDescription")


def _on_grid(
    first: Volume, volume: Volume, names: tuple[str, str], case: str, notes: list[str], *, order: int = 1
) -> np.ndarray:
    """Voxels of an image on the grid of the first one; what was done is noted."""
    if same_grid(first, volume):
        return volume.array
    try:
        stored = aligned_to(first, volume)
    except InputError:  # another grid, not one stored otherwise
        pass
    else:
        notes += [note for note in stored.notes if note not in volume.notes]
        return stored.array
    how = "resampled to it" if order else "brought to it by nearest neighbours"
    resampled = onto_grid_of(first, volume, names, case, order=order)
    notes.append(f"{names[1]} lies on another grid than {names[0]} and was {how}.")
    return resampled


def _classes(
    path: str | PathLike[str], label: np.ndarray, groups: Sequence[Sequence[int]] | None, num_classes: int | None
) -> np.ndarray:
    values = np.unique(label)
    if groups is not None:
        known = {0, *(int(value) for group in groups for value in group)}
        _refuse_unknown(path, [int(v) for v in values if v not in known], f"label_groups {list(groups)}")
        table = np.zeros(256, np.uint8)
        for index, group in enumerate(groups, start=1):
            table[list(group)] = index
        return table[label]
    if num_classes is not None:
        beyond = [int(v) for v in values if v >= num_classes]
        _refuse_unknown(path, beyond, f"num_classes {num_classes} (0 to {num_classes - 1})")
    return label


def _refuse_unknown(path: str | PathLike[str], values: list[int], allowed: str) -> None:
    if values:
        raise InputError(
            f"{path} holds the labels {values[:6]}, which {allowed} does not name. Correct the labels, or say what "
            "makes which class, such as label_groups: [[1, 2, 3, 4]]."
        )


def _foreground(array: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """What is not background: all but the value of a background masked away, else the body."""
    return array != array[0, 0, 0] if _is_masked(array) else body_mask(array, spacing)


def _is_masked(array: np.ndarray) -> bool:
    """Whether the background was masked away: it has one value."""
    return bool((array == array[0, 0, 0]).mean() >= _CONSTANT_SHARE)


def _normalised(array: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    inside = array[foreground]
    low, high = np.percentile(inside, _OUTLIERS)
    kept = inside[(inside >= low) & (inside <= high)]
    deviation = max(float(kept.std()), 1e-6)
    scaled = np.clip((array - float(kept.mean())) / deviation, -_HIGHEST, _HIGHEST)
    return np.where(foreground, scaled, 0.0).astype(np.float32)


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """Fill what is shut off from the outside; much faster than `scipy.ndimage.binary_fill_holes`."""
    outside, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
