"""Which files are the sequences of which case: by their names in a folder, or by a data list."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from medical_gans.errors import InputError
from medical_gans.io.cases import Cases, by_name, file_name, tell, there
from medical_gans.io.datalist import check_name, read_sections
from medical_gans.io.formats import (
    check_is_no_root,
    holds_dicom_images,
    image_stem,
    image_suffix,
    may_hold_dicom,
    visible_entries,
    why_no_image,
)
from medical_gans.io.layouts import GONE, RESULTS, account
from medical_gans.io.ownership import is_whole_result

_EXAMPLE = '{"training": [{"image": {"FLAIR": "a/flair.nii.gz"}, "label": "a/lesion.nii.gz"}]}'
_KEYS = {"image", "label", "mask", "name"}
_MOST_NAMES = 8


@dataclass(frozen=True)
class SequenceCase:
    """One examination: a file or DICOM folder for each channel of a network."""

    name: str  # safe as a file name, unique within a data set
    channels: tuple[Path | None, ...]  # None: declared missing
    label: Path | None = None
    mask: Path | None = None
    sequences: tuple[str, ...] = ()  # names of the channels; empty where nobody said them


def find_sequence_cases(
    dataset_dir: str | os.PathLike[str],
    channels: Sequence[str],
    *,
    missing: Sequence[str] = (),
    label: str | None = None,
    mask: str | None = None,
    labels_required: bool = False,
) -> Cases[SequenceCase]:
    """All cases below a folder, of one case folder, or of a data list.

    A file belongs to the channel whose name stands in the file's own, letter case aside and between characters that
    are no letters or digits: ``patient07_FLAIR.nii.gz`` is FLAIR, ``T1c.nii.gz`` is not T1. Labels and masks are
    found alike.

    Args:
        dataset_dir: folder of case folders, one case folder, or a data list such as
            ``{"training": [{"image": {"FLAIR": path} or [path, ...], "label": path, "mask": path, "name": text}]}``.
        channels: names of the sequences in the network's order.
        missing: those of `channels` that this data set does not have.
        label: name of the label map; None looks for none.
        mask: name of the mask of the head or brain, used where there is one.
        labels_required: refuse a case without its label map.

    Raises:
        InputError: nothing found, a channel or label missing, twice there, or in another order.
    """
    unknown = [name for name in missing if name not in channels]
    if unknown or not channels or len(set(channels)) < len(channels):
        raise InputError(
            f"channels are {', '.join(channels) or 'none'} and missing is {', '.join(missing) or 'none'}. "
            "Name each sequence once, and in missing only sequences of channels."
        )
    place = Path(os.path.expanduser(dataset_dir))
    if not place.exists():
        gone = f"is {GONE}" if place.is_symlink() else "does not exist. Check the path"
        raise InputError(f"{place} {gone}.")
    check_is_no_root(place)
    search = _Search(tuple(channels), tuple(missing), label, mask, labels_required)
    cases = list(search.at(place))
    if not cases:
        raise InputError(
            f"{place} holds no case with a file named after the sequence {channels[0]}{there(search.passed)}. Needed: "
            f"a folder for each case with files such as {channels[0]}.nii.gz, or a data list .json."
        )
    twice = [name for name, count in Counter(case.name.casefold() for case in cases).items() if count > 1]
    if twice:
        raise InputError(f"{place} has several cases named {twice[0]}. Rename them, or name them in the data list.")
    tell(search.passed, place)
    return Cases(cases, by_name(search.passed, place))


def holds_sequences(dataset_dir: str | os.PathLike[str], channels: Sequence[str]) -> bool:
    """Whether a folder or data list has a case with all of these sequences; what is passed over is not told."""
    search = _Search(tuple(channels), (), None, None, False)
    try:
        return next(search.at(Path(os.path.expanduser(dataset_dir))), None) is not None
    except InputError:
        return False


def check_apart(source: Sequence[SequenceCase], target: Sequence[SequenceCase]) -> None:
    """Refuse a target that is the source: an adversary would have nothing to tell apart.

    Raises:
        InputError: a file stands in both.
    """
    known = {path.resolve(): case.name for case in source for path in case.channels if path is not None}
    for case in target:
        for path in case.channels:
            if path is not None and path.resolve() in known:
                raise InputError(
                    f"{path} belongs to the source ({known[path.resolve()]}) and to the target ({case.name}). "
                    "Give the target its own folder, or its own sequences by target_channels."
                )


@dataclass(frozen=True)
class _Search:
    channels: tuple[str, ...]
    missing: tuple[str, ...]
    label: str | None
    mask: str | None
    labels_required: bool
    passed: dict[Path, str] = field(default_factory=dict)

    def at(self, place: Path) -> Iterator[SequenceCase]:
        """Cases of a data list, of a folder, or the only sequence there is to be, whatever its name."""
        if place.is_file() and place.suffix.lower() == ".json":
            yield from self.in_datalist(place)
        elif place.is_file() and (image_suffix(place) or may_hold_dicom(place)):
            yield self._of_image(place)
        elif place.is_file():
            raise InputError(
                f"{place} is no folder and no readable data list ({why_no_image(place)}). Needed: an image, a "
                f"folder for each case, or a data list {_EXAMPLE}"
            )
        elif holds_dicom_images(place) and not any(_named(place, channel) for channel in self.channels):
            yield self._of_image(place)
        else:
            yield from self.below(place)

    def _of_image(self, place: Path) -> SequenceCase:
        wanted = [channel for channel in self.channels if channel not in self.missing]
        if len(wanted) != 1:
            raise InputError(
                f"{place} is one image, but {len(wanted)} sequences are needed: {', '.join(wanted)}. Give the folder "
                f"of the case, a data list, or declare the others with missing."
            )
        name = image_stem(place)
        if _words(name) == _words(wanted[0]):  # the folder says whose it is
            name = f"{place.absolute().parent.name}_{name}"
        return self._checked(name, {channel: place if channel in wanted else None for channel in self.channels})

    def below(self, root: Path) -> Iterator[SequenceCase]:
        """Cases in folders, linked ones too: each outermost folder that has an image of one of the channels."""
        used: list[Path] = []
        for parent, folders, _ in os.walk(root, followlinks=True):
            folder = Path(parent)
            images = self._images(folder)
            if any(_named(image, channel) for image in images for channel in self.channels):
                folders[:] = []
                used += images
                name = "_".join(folder.relative_to(root).parts) or folder.resolve().name
                groups = self._patients(images) if folder == root else {}
                if len(groups) > 1:
                    yield from (self._of_folder("_".join(words), group) for words, group in sorted(groups.items()))
                else:
                    yield self._of_folder(name, images)
            else:
                above = {folder.resolve(), *folder.resolve().parents}  # a link there would be followed for ever
                entries = [entry for entry in visible_entries(folder) if entry.is_dir()]
                self.passed.update({entry: RESULTS for entry in entries if is_whole_result(entry)})
                folders[:] = [
                    entry.name for entry in entries if entry.resolve() not in above and entry not in self.passed
                ]
        account(root, used, self.passed)

    def _images(self, folder: Path) -> list[Path]:
        """Images of a folder; a folder named after a sequence, or like a file, that holds one image is that image."""
        found = []
        for entry in visible_entries(folder):
            if not entry.exists():
                self.passed[entry] = GONE
            elif entry.is_file():
                found += [entry] if image_suffix(entry) else []
            elif entry.is_dir() and not is_whole_result(entry):
                found += [entry] if self._is_image(entry) else []
        return found

    def _is_image(self, folder: Path) -> bool:
        """Whether a folder is one image: DICOM in it, or one image at any depth where it is named after a sequence."""
        if holds_dicom_images(folder):
            return True
        if not any(_named(folder, name) for name in (*self.channels, self.label, self.mask) if name):
            return False
        if len(_files_in(folder)) == 1:
            return True
        places = [Path(parent) for parent, _, _ in os.walk(folder)]
        return sum(holds_dicom_images(place) for place in places) == 1

    def _patients(self, images: list[Path]) -> dict[tuple[str, ...], list[Path]]:
        """Images of a flat folder by the words before the sequence, where these tell several whole cases apart."""
        names = [name for name in (*self.channels, self.label, self.mask) if name]
        groups: dict[tuple[str, ...], list[Path]] = {}
        after: dict[str, set[tuple[str, ...]]] = {}
        for image in images:
            words = _words(image_stem(image))
            for name in names:
                wanted = _words(name)
                places = [at for at in range(len(words)) if words[at : at + len(wanted)] == wanted]
                if places:
                    groups.setdefault(tuple(words[: places[-1]]), []).append(image)
                    after.setdefault(name, set()).add(tuple(words[places[-1] + len(wanted) :]))
                    break
        present = [channel for channel in self.channels if channel not in self.missing]
        whole = all(
            sum(_named(image, channel) for image in group) == 1 for group in groups.values() for channel in present
        )
        known = {name for name, members in groups.items() if not name or not members}
        if len(groups) < 2 or not whole or known or any(len(endings) > 1 for endings in after.values()):
            return {}
        return groups

    def _of_folder(self, name: str, images: list[Path]) -> SequenceCase:
        label = self._only(name, images, self.label) if self.label else None
        mask = self._only(name, images, self.mask) if self.mask else None
        rest = [image for image in images if image not in (label, mask)]
        found = {channel: self._only(name, rest, channel) for channel in self.channels}
        return self._checked(name, found, label, mask, [image_stem(image) for image in rest])

    def _only(self, case: str, images: list[Path], name: str) -> Path | None:
        fitting = [image for image in images if _named(image, name)]
        exact = [image for image in fitting if image_stem(image).casefold() == name.casefold()]
        fitting = exact or fitting
        if len(fitting) > 1:
            raise InputError(
                f"Case {case} has {len(fitting)} files named after {name}: {fitting[0].name} and {fitting[1].name}. "
                "Keep one in the case's folder, or name the files in a data list .json."
            )
        if not fitting:
            return None
        inside = _files_in(fitting[0]) if fitting[0].is_dir() and not holds_dicom_images(fitting[0]) else []
        return inside[0] if len(inside) == 1 else fitting[0]

    def _checked(
        self,
        name: str,
        found: dict[str, Path | None],
        label: Path | None = None,
        mask: Path | None = None,
        seen: Sequence[str] = (),
    ) -> SequenceCase:
        for channel, path in found.items():
            if channel in self.missing:
                found[channel] = None
            elif path is None:
                listed = ", ".join(seen[:_MOST_NAMES]) or "nothing"
                raise InputError(
                    f"Case {name} has no image of the sequence {channel}; it has {listed}. Add it, correct channels, "
                    f"or declare it with missing: {list({*self.missing, channel})}."
                )
        if all(path is None for path in found.values()):
            raise InputError(f"All channels ({', '.join(found)}) are declared missing; one must be there.")
        if label is None and self.labels_required:
            raise InputError(
                f"Case {name} has no label map '{self.label}'; every labelled case needs one. "
                f"Add {self.label}.nii.gz, or name yours with label."
            )
        return SequenceCase(file_name(name), tuple(found.values()), label, mask, tuple(found))

    def in_datalist(self, path: Path) -> Iterator[SequenceCase]:
        """Cases of all sections of a data list."""
        sections = read_sections(path, "folder and no readable data list", _EXAMPLE)
        for number, entry in enumerate(chain.from_iterable(sections.values())):
            yield self._of_entry(path, number, entry)

    def _of_entry(self, path: Path, number: int, entry: Any) -> SequenceCase:
        if not isinstance(entry, dict) or "image" not in entry or not set(entry) <= _KEYS:
            raise InputError(f"Entry {number} of {path} needs image and may have label, mask, name: {_EXAMPLE}")
        check_name(f"Entry {number} of {path}", entry.get("name"), _EXAMPLE)
        image = entry["image"]
        files = image if isinstance(image, list) else list(image.values()) if isinstance(image, dict) else [image]
        if not all(file is None or isinstance(file, str) for file in files):
            raise InputError(f"Entry {number} of {path} has an image that is no path: {image!r}. Needed: {_EXAMPLE}")
        given = image if isinstance(image, dict) else self._in_order(path, number, image)
        found = {channel: _beside(path, given.get(channel)) for channel in self.channels}
        first = next((file for file in found.values() if file is not None), path)
        name = str(entry.get("name") or (first.parent.name if isinstance(image, dict) else image_stem(first)))
        label = _beside(path, entry.get("label")) if self.label else None
        return self._checked(name, found, label, _beside(path, entry.get("mask")), list(given))

    def _in_order(self, path: Path, number: int, image: Any) -> dict[str, str | None]:
        files = image if isinstance(image, list) else [image]
        present = [channel for channel in self.channels if channel not in self.missing]
        if len(files) not in (len(present), len(self.channels)):
            raise InputError(
                f"Entry {number} of {path} has {len(files)} images; the network needs {len(self.channels)}: "
                f"{', '.join(self.channels)}."
            )
        names = present if len(files) == len(present) else list(self.channels)
        if any(file is None for file, name in zip(files, names, strict=True) if name not in self.missing):
            raise InputError(f"Entry {number} of {path} has an image that is no path: {image!r}. Needed: {_EXAMPLE}")
        for file, channel in ((file, name) for file, name in zip(files, names, strict=True) if file is not None):
            others = [other for other in names if other != channel and _named(Path(file), other)]
            if others and not _named(Path(file), channel):
                raise InputError(
                    f"Entry {number} of {path} gives {Path(file).name} as {channel}, but its name says {others[0]}. "
                    f"List the images in the order {', '.join(names)}, or name them: "
                    f'{{"image": {{"{channel}": ...}}}}.'
                )
        return dict(zip(names, files, strict=True))


def _files_in(folder: Path) -> list[Path]:
    """The image files of a folder at any depth."""
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names if image_suffix(Path(name))]


def _named(image: Path, name: str) -> bool:
    words, wanted = (_words(text) for text in (image_stem(image), name))
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.casefold()) if word]


def _beside(datalist: Path, file: Any) -> Path | None:
    if file is None:
        return None
    path = datalist.parent / Path(os.path.expanduser(str(file)))
    if not path.exists():
        raise InputError(f"{datalist} names {file}, which does not exist. Paths are relative to the data list.")
    check_is_no_root(path)
    return path
