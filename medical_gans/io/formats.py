"""Which files and folders are images, decided from names and first bytes without loading anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pydicom

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr.gz", ".hdr")
DICOM_SUFFIXES = (".dcm", ".ima")
FILE_LIST_SUFFIX = ".txt"  # of a file with one path of a DICOM file per line
_DICOM_PREAMBLE = 128
_NOT_DICOM = (
    *IMAGE_SUFFIXES,
    ".json",
    ".csv",
    ".txt",
    ".png",
    ".jpg",
    ".pdf",
    ".xlsx",
    ".html",
    ".pt",
    ".raw",
    ".zraw",
    ".img",
    ".img.gz",
)


def image_suffix(path: Path) -> str | None:
    """The image suffix of a file name (`.nii.gz`, `.mha`, ...), None when it is no known image."""
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), None)


def image_stem(path: Path) -> str:
    """The name without its image suffix: `mr` for `mr.nii.gz`, the whole name for a folder."""
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def visible_entries(folder: Path) -> list[Path]:
    """Files and folders of `folder` in name order, without hidden ones and what archivers leave."""
    return sorted(entry for entry in folder.iterdir() if not _is_hidden(entry.name))


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below `folder` in name order, without hidden ones and what archivers leave."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(parent, name) for name in sorted(files) if not _is_hidden(name))


def has_dicom_prefix(path: Path) -> bool:
    """Whether the file starts as a DICOM file does (PS3.10, section 7.1)."""
    with path.open("rb") as stream:
        return stream.read(_DICOM_PREAMBLE + 4)[_DICOM_PREAMBLE:] == b"DICM"


def is_dicom_file(path: Path) -> bool:
    """Whether a path is a DICOM file by its name or its first bytes."""
    if not path.is_file() or image_suffix(path):
        return False
    return path.name.lower().endswith(DICOM_SUFFIXES) or has_dicom_prefix(path)


def may_hold_dicom(path: Path) -> bool:
    """Whether a path is to be read as DICOM: a folder, a DICOM file, a DICOMDIR, or a text list of files."""
    return path.is_dir() or path.name.lower().endswith(FILE_LIST_SUFFIX) or is_dicom_file(path)


def holds_dicom_images(folder: Path) -> bool:
    """Whether a DICOM image lies directly in `folder`; structure sets, reports and indexes are none."""
    candidates = (entry for entry in visible_entries(folder) if entry.is_file())
    return any(_is_dicom_image(entry) for entry in candidates if not entry.name.lower().endswith(_NOT_DICOM))


def is_image_object(header: pydicom.Dataset) -> bool:
    """Whether a DICOM object is an image; AttributeError when it does not say what it is."""
    from pydicom.uid import UID

    return "Image Storage" in UID(str(header.get("SOPClassUID") or header.file_meta.MediaStorageSOPClassUID)).name


def _is_dicom_image(path: Path) -> bool:
    if not has_dicom_prefix(path):
        return False
    from pydicom import config, dcmread

    with config.disable_value_validation():
        try:
            return is_image_object(dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]))
        except Exception:  # damaged: counted as an image, so that reading it says what is wrong
            return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
