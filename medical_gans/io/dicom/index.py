"""Which DICOM images a folder, a DICOMDIR, a list of files or a multi-frame file holds, series by series."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID, MediaStorageDirectoryStorage

from medical_gans.errors import InputError
from medical_gans.io.dicom.headers import (
    NO_UID,
    UNREADABLE,
    DicomSlice,
    damaged,
    frames_of,
    quiet,
    read_header,
    text,
    whole,
    words,
)
from medical_gans.io.dicom.selection import is_localizer, matches
from medical_gans.io.formats import FILE_LIST_SUFFIX, has_dicom_prefix, may_hold_dicom, visible_files

if TYPE_CHECKING:
    from medical_gans.io.cases import Case

logger = logging.getLogger(__name__)

DicomSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A folder, a DICOMDIR, a text file with one path per line, a multi-frame file, or a list of files."""

_NAMING = ("PatientName", "PatientID", "PatientBirthDate", "ReferringPhysicianName", "OperatorsName", "AccessionNumber")
_SHORTEST_NAME = 3
_MODALITIES = ("MR", "CT")
_MOST_PASSED = 8
_LONG = 256  # bytes of a value that is worth sharing


@dataclass(frozen=True)
class SeriesSummary:
    """One line of the list that a person chooses a series from."""

    uid: str
    modality: str
    description: str  # words that also stand in a naming attribute (patient, physician) are left out
    number: int | None
    images: int
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.uid}  {self.short}"

    @property
    def short(self) -> str:
        """What it is, without its UID."""
        return (
            f"{self.modality}  {self.images} images of {self.columns} x {self.rows}  "
            f"{self.description or '(no description)'}"
        )

    @property
    def label(self) -> str:
        """The words that choose it."""
        return f"{self.description} series {self.number} {self.modality} {self.uid}"


@dataclass(frozen=True)
class ChosenSeries:
    """A series, what was passed over beside it, and the phrases of the choice that did not name it."""

    uid: str
    slices: list[DicomSlice]
    passed: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()


def list_series(source: DicomSource) -> list[SeriesSummary]:
    """The image series of a source, in the order of their UIDs.

    Raises:
        InputError: a file does not exist or is damaged.
    """
    with quiet():
        return [_summary(uid, slices) for uid, slices in sorted(image_series(source).items())]


def chosen_series(
    source: DicomSource, series_uid: str | None, modality: str | None = None, phrases: Sequence[str] = ()
) -> ChosenSeries:
    """The series asked for, or the only one that can be a volume of what is wanted.

    Args:
        source: as for `read_series`.
        series_uid: of the series.
        modality: MR or CT, where series of other kinds are to be passed over.
        phrases: words of description, number or modality that name the series, or a stack in it.

    Raises:
        InputError: there is none, or none was chosen of several; the message lists them.
    """
    series = image_series(source)
    shown = shown_source(source)
    if not series:
        raise InputError(f"{shown} holds no DICOM image. Give an image file or the folder of one DICOM series.")
    if series_uid is not None:
        if series_uid not in series:
            listed = "\n".join(f"  {_summary(uid, slices)}" for uid, slices in sorted(series.items()))
            raise InputError(f"{shown} holds no series {series_uid}. It holds:\n{listed}")
        return ChosenSeries(series_uid, series[series_uid], phrases=tuple(phrases))
    if len(series) == 1:
        uid, slices = next(iter(series.items()))
        label = _summary(uid, slices).label
        return ChosenSeries(uid, slices, phrases=tuple(one for one in phrases if not matches(one, label)))
    candidates = {uid: slices for uid, slices in series.items() if _may_be_volume(slices, modality)}
    rest = []
    for phrase in phrases:
        named = {uid: slices for uid, slices in candidates.items() if matches(phrase, _summary(uid, slices).label)}
        rest += [] if named else [phrase]
        candidates = named or candidates
    if len(candidates) == 1:
        uid, slices = next(iter(candidates.items()))
        passed = [_summary(other, members).short for other, members in sorted(series.items()) if other != uid]
        more = [f"and {len(passed) - _MOST_PASSED} more"] if len(passed) > _MOST_PASSED else []
        said = f"Passed over beside this series: {'; '.join(passed[:_MOST_PASSED] + more)}."
        return ChosenSeries(uid, slices, (said,), tuple(rest))
    raise InputError(f"{shown} holds {len(series)} DICOM series; {_choices(series, candidates, modality)}")


def choose_series(cases: Sequence[Case], series_uid: str | None = None) -> list[Case]:
    """The case that holds a series; or, where none is named, a case for every MR series.

    Cases made from one source are told apart by their SeriesNumber, or by a count where that does not suffice.

    Raises:
        InputError: no case holds the series.
    """
    chosen: list[Case] = []
    tables = []
    for case in cases:
        if case.mr is None or not (case.files or may_hold_dicom(case.mr)):
            chosen += [case] if series_uid is None else []
            continue
        found = list_series(case.mr_source or ())
        tables.append("\n".join(f"  {one}" for one in found))
        if series_uid is None:
            chosen += _every_mr(case, found)
        elif any(one.uid == series_uid for one in found):
            chosen.append(replace(case, series_uid=series_uid))
    if not chosen:
        wanted = "no MR series" if series_uid is None else f"no series {series_uid}"
        raise InputError(f"The data set holds {wanted}. It holds:\n" + "\n".join(tables or ["  no DICOM series"]))
    return chosen


def _every_mr(case: Case, found: Iterable[SeriesSummary]) -> list[Case]:
    series = [one for one in found if one.modality == "MR"]
    logger.info("DICOM series of %s: %d, of which MR: %d", case.name, len(list(found)), len(series))
    if len(series) == 1:
        return [replace(case, series_uid=series[0].uid)]
    numbers = Counter(one.number for one in series)
    made = []
    for count, one in enumerate(series, start=1):
        own = one.number is not None and numbers[one.number] == 1
        name = f"{case.name}_series{one.number if own else f'_{count}'}"
        made.append(replace(case, name=name, series_uid=one.uid))
        logger.info("%s: %s", name, one)
    return made


def image_series(source: DicomSource) -> dict[str, list[DicomSlice]]:
    """The images of a source by SeriesInstanceUID, one entry per frame; those without one by their number."""
    series: dict[str, list[DicomSlice]] = {}
    seen: dict[bytes, bytes] = {}
    for path in files_of(source):
        header = read_header(path)
        if header is not None:
            _share_long_values(header, seen)
            uid = text(header, "SeriesInstanceUID") or f"{NO_UID} {text(header, 'SeriesNumber')}".strip()
            series.setdefault(uid, []).extend(frames_of(path, header))
    return series


def _share_long_values(header: pydicom.Dataset, seen: dict[bytes, bytes]) -> None:
    """Keep one copy of what headers have alike: protocols of a scanner take 100 KiB in the header of each slice."""
    for tag, element in list(header.items()):
        if isinstance(element, RawDataElement) and element.value is not None and len(element.value) >= _LONG:
            # not by header[tag] =, which parses private elements
            header._dict[tag] = element._replace(value=seen.setdefault(element.value, element.value))


def files_of(source: DicomSource) -> list[Path]:
    """The files that a source names, those of a folder at any depth.

    Raises:
        InputError: a file does not exist, or the source is one slice of a series.
    """
    if not isinstance(source, str | os.PathLike):
        return _existing([Path(path) for path in source], "The list of files")
    path = Path(source)
    if path.is_dir():
        return list(visible_files(path))
    if path.suffix.lower() == FILE_LIST_SUFFIX:
        lines = [
            line.strip().strip("\"'")
            for line in path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            if not line.startswith("#") or (path.parent / line.strip()).is_file()
        ]
        if not any(lines) or any("\0" in line for line in lines):
            raise InputError(f"{path} is no image or data set: as a list of DICOM files it needs one path per line.")
        listed = [_as_written(path.parent, line) for line in lines if line]
        within = [list(visible_files(place)) if place.is_dir() else [place] for place in listed]
        return _existing([file for files in within for file in files], str(path))
    if is_directory_file(path):
        return _existing(_indexed(path), str(path))
    return [path]


def _as_written(folder: Path, line: str) -> Path:
    """The path of a line, with the separators of Windows where it needs them."""
    path = folder / os.path.expanduser(line)
    return path if os.path.lexists(path) else folder / line.replace("\\", "/")


def is_directory_file(path: Path) -> bool:
    """Whether a file is a DICOMDIR, under whatever name."""
    if not has_dicom_prefix(path):
        return False
    try:
        with quiet():
            meta = pydicom.filereader.read_file_meta_info(path)
            return bool(meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)
    except UNREADABLE:
        return False


def shown_source(source: DicomSource) -> str:
    """A source as messages name it."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"The list of {len(source)} files"


def _may_be_volume(slices: Sequence[DicomSlice], modality: str | None) -> bool:
    """Whether a series can be what is looked for by what it says: no screenshot, localizer or other modality."""
    header = slices[0].header
    said = text(header, "Modality")
    if said not in ((modality,) if modality else _MODALITIES) or len(slices) < 2:
        return False
    odd = {"SCREEN SAVE", "MOSAIC"} & {*words(header, "ImageType")}
    if odd or "Secondary Capture" in UID(text(header, "SOPClassUID")).name:
        return False
    return (whole(header, "SamplesPerPixel") or 1) == 1 and not all(is_localizer(one) for one in slices)


def _choices(
    series: Mapping[str, Sequence[DicomSlice]], candidates: Mapping[str, Sequence[DicomSlice]], modality: str | None
) -> str:
    """What to do about several series: the words to type for those that may be volumes, and what else there is."""
    offered = [_summary(uid, slices) for uid, slices in sorted(candidates.items())]
    others = [_summary(uid, slices) for uid, slices in sorted(series.items()) if uid not in candidates]
    if not offered:
        listed = "\n".join(f"  {one}" for one in others)
        return f"none of them can be a volume of {modality or 'MR or CT'}. Give another folder; here are:\n{listed}"
    typed = [_words_for(one, offered) for one in offered]
    lines = [f'  "{words}"  {one.short}  {one.uid}' for words, one in zip(typed, offered, strict=True)]
    lines += [f"  not to choose from: {one.short}" for one in others[:_MOST_PASSED]]
    return (
        f'one is needed. Choose one by select, such as --select "{typed[0]}", or keep the wanted one in a folder of '
        "its own (mr_to_ct inference makes a case of every MR by --all_series true):\n" + "\n".join(lines)
    )


def _words_for(one: SeriesSummary, offered: Sequence[SeriesSummary]) -> str:
    """The first words that name a series among others, and none of these."""
    others = [other.label for other in offered if other is not one]
    for said in (one.description.replace(",", " "), f"series {one.number}", one.modality):
        if matches(said, one.label) and said.strip() and not any(matches(said, label) for label in others):
            return said
    return one.uid


def _existing(paths: list[Path], name: str) -> list[Path]:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{name} names {len(missing)} files that do not exist, the first {missing[0]}. "
            "Copy them all, or mend the list."
        )
    return paths


def _indexed(directory: Path) -> list[Path]:
    """The files that a DICOMDIR refers to; discs are known to hold them in lower case."""
    try:
        with quiet():
            records = pydicom.dcmread(directory).DirectoryRecordSequence
            names = [record.get("ReferencedFileID") for record in records]
    except UNREADABLE as error:
        raise damaged(directory) from error
    found = []
    for name in names:
        if name:
            parts = [name] if isinstance(name, str) else [str(part) for part in name]
            upper = directory.parent.joinpath(*parts)
            lower = directory.parent.joinpath(*(part.lower() for part in parts))
            found.append(lower if lower.is_file() and not upper.is_file() else upper)
    return found


def _summary(uid: str, slices: Sequence[DicomSlice]) -> SeriesSummary:
    header = slices[0].header
    return SeriesSummary(
        uid,
        text(header, "Modality") or "?",
        _without_names(text(header, "SeriesDescription"), header),
        whole(header, "SeriesNumber"),
        len(slices),
        whole(header, "Rows") or 0,
        whole(header, "Columns") or 0,
    )


def _without_names(description: str, header: pydicom.Dataset) -> str:
    naming = (_words(text(header, keyword)) for keyword in _NAMING)
    names = {word.casefold() for found in naming for word in found if len(word) >= _SHORTEST_NAME}
    kept = (piece for piece in description.split() if not names & {word.casefold() for word in _words(piece)})
    return " ".join(kept)


def _words(found: str) -> Iterable[str]:
    return re.findall(r"[^\W_]+", found)
