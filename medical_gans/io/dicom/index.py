"""Which DICOM images a folder, a DICOMDIR, a list of files or a multi-frame file holds, series by series."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config as pydicom_config
from pydicom.uid import MediaStorageDirectoryStorage

from medical_gans.errors import InputError
from medical_gans.io.dicom.frames import frames_of
from medical_gans.io.dicom.pixels import UNREADABLE, DicomSlice, damaged
from medical_gans.io.formats import DICOM_SUFFIXES, FILE_LIST_SUFFIX, has_dicom_prefix, is_image_object, visible_files

DicomSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A folder, a DICOMDIR, a text file with one path per line, a multi-frame file, or a list of files."""

_NAMING = ("PatientName", "PatientID", "PatientBirthDate", "ReferringPhysicianName", "OperatorsName", "AccessionNumber")
_SHORTEST_NAME = 3


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
        return (
            f"{self.uid}  {self.modality}  {self.images} images of {self.columns} x {self.rows}  "
            f"{self.description or '(no description)'}"
        )


def list_series(source: DicomSource) -> list[SeriesSummary]:
    """The image series of a source, in the order of their UIDs.

    Raises:
        InputError: a file does not exist or is damaged.
    """
    with pydicom_config.disable_value_validation():
        return [_summary(uid, slices) for uid, slices in sorted(image_series(source).items())]


def chosen_series(source: DicomSource, series_uid: str | None) -> tuple[str, list[DicomSlice]]:
    """The UID and the images of the series asked for, or of the only one.

    Raises:
        InputError: there is none, or none was chosen of several; the message lists them.
    """
    series = image_series(source)
    shown = shown_source(source)
    if not series:
        raise InputError(f"{shown} holds no DICOM image. Give an image file or the folder of one DICOM series.")
    if series_uid is None and len(series) == 1:
        return next(iter(series.items()))
    if series_uid in series:
        return str(series_uid), series[str(series_uid)]
    listed = "\n".join(f"  {_summary(uid, slices)}" for uid, slices in sorted(series.items()))
    if series_uid is None:
        raise InputError(
            f"{shown} holds {len(series)} DICOM series; one is needed. Keep the wanted one in a folder of its "
            f"own; mr_to_ct inference also takes --series_uid UID, or --all_series true for every MR:\n{listed}"
        )
    raise InputError(f"{shown} holds no series {series_uid}. It holds:\n{listed}")


def image_series(source: DicomSource) -> dict[str, list[DicomSlice]]:
    """The images of a source by SeriesInstanceUID, one entry per frame."""
    series: dict[str, list[DicomSlice]] = {}
    for path in files_of(source):
        header = _header(path)
        if header is not None:
            series.setdefault(str(header.SeriesInstanceUID), []).extend(frames_of(path, header))
    return series


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
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        if not any(lines):
            raise InputError(f"{path} is no image or data set: as a list of DICOM files it needs one path per line.")
        return _existing([path.parent / line for line in lines if line], str(path))
    if is_directory_file(path):
        return _existing(_indexed(path), str(path))
    return [path]


def is_directory_file(path: Path) -> bool:
    """Whether a file is a DICOMDIR, under whatever name."""
    if not has_dicom_prefix(path):
        return False
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
    except UNREADABLE:
        return False
    return bool(meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)


def shown_source(source: DicomSource) -> str:
    """A source as messages name it."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"The list of {len(source)} files"


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
        records = pydicom.dcmread(directory).DirectoryRecordSequence
    except UNREADABLE as error:
        raise damaged(directory) from error
    found = []
    for record in records:
        name = record.get("ReferencedFileID")
        if name:
            parts = [name] if isinstance(name, str) else list(name)
            upper = directory.parent.joinpath(*parts)
            lower = directory.parent.joinpath(*(part.lower() for part in parts))
            found.append(lower if lower.is_file() and not upper.is_file() else upper)
    return found


def _header(path: Path) -> pydicom.Dataset | None:
    """The header of an image without its pixel data, None for any other object."""
    try:
        if not has_dicom_prefix(path):
            if path.name.lower().endswith(DICOM_SUFFIXES):
                raise damaged(path)
            return None
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if not is_image_object(header):
            return None
    except InputError:
        raise
    except UNREADABLE as error:
        raise damaged(path) from error
    if "Rows" not in header or not header.get("SeriesInstanceUID"):
        raise damaged(path)
    return header


def _summary(uid: str, slices: Sequence[DicomSlice]) -> SeriesSummary:
    header = slices[0].header
    number = header.get("SeriesNumber")
    return SeriesSummary(
        uid,
        str(header.get("Modality", "?")),
        _without_names(str(header.get("SeriesDescription", "")), header),
        None if number in (None, "") else int(number),
        len(slices),
        int(header.Rows),
        int(header.Columns),
    )


def _without_names(text: str, header: pydicom.Dataset) -> str:
    naming = (_words(str(header.get(keyword) or "")) for keyword in _NAMING)
    names = {word.casefold() for words in naming for word in words if len(word) >= _SHORTEST_NAME}
    kept = (piece for piece in text.split() if not names & {word.casefold() for word in _words(piece)})
    return " ".join(kept)


def _words(text: str) -> Iterable[str]:
    return re.findall(r"[^\W_]+", text)
