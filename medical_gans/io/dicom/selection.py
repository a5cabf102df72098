"""Which of several stacks in one series, by words of their headers: echo, Dixon part, time, stack, orientation.

A choice is made by words that somebody typed, or not at all: nothing here guesses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.dicom.geometry import at_one_place
from medical_gans.io.dicom.headers import DicomSlice, number, numbers, text, words
from medical_gans.io.formats import IS_FIRST, LOCALIZERS, stand_in, words_of

_WORDS = {
    "ImageType": "",
    "FrameType": "",
    "ComplexImageComponent": "",
    "EchoNumbers": "echo",
    "EchoTime": "TE",
    "EffectiveEchoTime": "TE",
    "InversionTime": "TI",
    "DiffusionBValue": "b",
    "FlipAngle": "flip",
    "TemporalPositionIdentifier": "time",
    "TemporalPositionIndex": "time",
    "TriggerTime": "trigger",
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
    "SeriesNumber": "series",
    "SequenceName": "",
    "AcquisitionTime": "at",
    "ContentTime": "at",
}
"""Attributes that tell stacks apart, what is most telling first, and what to type before their value."""

_PLANES = ("sagittal", "coronal", "axial")
_SAME_DIRECTION = 0.01
_MOST_LISTED = 12
_MOST_WORDS = 3  # attributes that together tell stacks apart


@dataclass(frozen=True)
class Stack:
    """Slices of a series that lie at different positions, and the words that name them."""

    label: str
    slices: list[DicomSlice]

    def __str__(self) -> str:
        header = self.slices[0].header
        return f'"{self.label}"  {len(self.slices)} images of {text(header, "Columns")} x {text(header, "Rows")}'


def matches(phrase: str, label: str) -> bool:
    """Whether the words of a phrase stand in a label one after the other, letter case aside."""
    return stand_in(words_of(phrase), words_of(label))


def chosen_stack(name: str, slices: Sequence[DicomSlice], wanted: Sequence[str]) -> list[DicomSlice]:
    """The one stack that all phrases name.

    Raises:
        InputError: none or several are named; the message lists what there is.
    """
    found = stacks_of(slices)
    fitting = [one for one in found if all(_is_named(one, phrase) for phrase in wanted)]
    if len(fitting) == 1:
        return fitting[0].slices
    shown = ", ".join(f'"{phrase}"' for phrase in wanted)
    if len(found) < 2:
        if all(IS_FIRST.fullmatch(phrase) for phrase in wanted):
            return list(slices)
        raise InputError(f"{name} holds nothing to select {shown} from: its images form one stack at most.")
    offered = fitting or found
    raise InputError(
        f"{name} holds {len(fitting) or 'no'} stacks named {shown}. Choose one by select, such as --select "
        f'"{offered[0].label}":\n{listed(offered)}'
    )


def listed(stacks: Sequence[Stack]) -> str:
    """The stacks, one per line, with the words to type."""
    lines = [f"  {one}" for one in stacks[:_MOST_LISTED]]
    return "\n".join(lines + ([f"  and {len(stacks) - _MOST_LISTED} more"] if len(stacks) > _MOST_LISTED else []))


def _is_named(stack: Stack, phrase: str) -> bool:
    """Whether a phrase stands in what a stack is called, or all its images say it of themselves."""
    return matches(phrase, stack.label) or all(_says(one, phrase) for one in stack.slices)


def _says(one: DicomSlice, phrase: str) -> bool:
    """Whether an image says a phrase of itself, in any of the attributes that tell stacks apart."""
    return any(matches(phrase, f"{begin} {_label(one, keyword)}") for keyword, begin in _WORDS.items())


def is_localizer(one: DicomSlice) -> bool:
    """Whether an image says that it is a localizer."""
    return any(word.upper() in LOCALIZERS for word in words(one.header, "ImageType"))


def stacks_of(slices: Sequence[DicomSlice]) -> list[Stack]:
    """The stacks that the headers of a series tell apart, each with images at two positions or more.

    Images of different sizes and orientations always are different stacks. Beyond that, the fewest attributes are
    taken that leave no two images at one place.
    """
    groups: dict[tuple[str, ...], list[DicomSlice]] = defaultdict(list)
    planes = _plane_labels(slices)
    for one, plane in zip(slices, planes, strict=True):
        pixel = "x".join(f"{edge:.4g}" for edge in numbers(one.header, "PixelSpacing") or ())
        groups[(plane, f"{text(one.header, 'Columns')} x {text(one.header, 'Rows')}", f"{pixel} mm")].append(one)
    keys = list(groups)
    telling = [index for index in range(3) if len({key[index] for key in keys}) > 1]
    found = []
    for key, members in groups.items():
        begin = [key[index] for index in telling]
        for label, stack in _split(members).items():
            if len(stack) > 1:
                found.append(Stack(" ".join([*begin, label]).strip(), stack))
    return found


def _split(slices: list[DicomSlice]) -> dict[str, list[DicomSlice]]:
    """Slices of one size and orientation, by the attributes that leave no two of them at one place."""
    labels = {keyword: [_label(one, keyword) for one in slices] for keyword in _WORDS}
    telling = [keyword for keyword, found in labels.items() if 1 < len(set(found)) <= max(len(slices) // 2, 1)]
    always = [keyword for keyword in ("StackID",) if keyword in telling]
    rest = [keyword for keyword in telling if keyword not in always]
    for count in range(_MOST_WORDS + 1):
        for some in combinations(rest, count):
            groups: dict[tuple[str, ...], list[DicomSlice]] = defaultdict(list)
            for index, one in enumerate(slices):
                groups[tuple(labels[keyword][index] for keyword in (*always, *some))].append(one)
            if all(_at_different_places(group) for group in groups.values()):
                return _named(groups, (*always, *some))
    return {"": slices}


def _named(groups: dict[tuple[str, ...], list[DicomSlice]], keywords: Sequence[str]) -> dict[str, list[DicomSlice]]:
    """Groups by what to type: of an attribute of several values, the words that not all groups share."""
    shared = [set.intersection(*(set(words_of(key[at])) for key in groups)) for at in range(len(keywords))]
    named = {}
    for key, group in groups.items():
        own = []
        for at, keyword in enumerate(keywords):
            kept = key[at].split(" ")
            if not _WORDS[keyword]:
                kept = [word for word in kept if not set(words_of(word)) <= shared[at]] or ["other"]
            own.append(" ".join([_WORDS[keyword], *kept]).strip())
        label = " ".join(own)
        named[label if label not in named else " ".join(key)] = group
    return named


def _label(one: DicomSlice, keyword: str) -> str:
    if _WORDS[keyword] in ("", "at", "stack"):
        return " ".join(words(one.header, keyword)).replace("\\", " ")
    value = number(one.header, keyword)
    return text(one.header, keyword) if value is None else f"{value:g}"


def _at_different_places(slices: Sequence[DicomSlice]) -> bool:
    positions = [numbers(one.header, "ImagePositionPatient") for one in slices]
    if any(position is None or len(position) != 3 for position in positions):
        return False
    found = np.array(positions, dtype=float)
    along = (found - found[0]) @ (np.ptp(found, axis=0) + np.array([0.0, 0.0, 1e-6]))
    return len(at_one_place(found[np.argsort(along, kind="stable")])) == len(found)


def _plane_labels(slices: Sequence[DicomSlice]) -> list[str]:
    """The plane of every slice: axial, coronal, sagittal, with a number where a plane has several directions."""
    known: list[tuple[np.ndarray, str]] = []
    labels = []
    for one in slices:
        values = numbers(one.header, "ImageOrientationPatient")
        if values is None or len(values) != 6 or not np.isfinite(values).all():
            labels.append("without orientation")
            continue
        found = np.array(values)
        label = next((name for other, name in known if np.abs(other - found).max() < _SAME_DIRECTION), None)
        if label is None:
            plane = _PLANES[int(np.abs(np.cross(found[:3], found[3:])).argmax())]
            count = sum(name.split(" ")[0] == plane for _, name in known)
            label = f"{plane} {count + 1}" if count else plane
            known.append((found, label))
        labels.append(label)
    return labels
