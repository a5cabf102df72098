"""Which files and folders are images, decided from names and first bytes without loading anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medical_gans.io.ownership import is_whole_result

if TYPE_CHECKING:
    import pydicom

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr.gz", ".hdr")
DICOM_SUFFIXES = (".dcm", ".ima")
FILE_LIST_SUFFIX = ".txt"  # of a file with one path of a DICOM file per line
LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "SURVEY"})  # words of ImageType
_DICOM_PREAMBLE = 128
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_OTHER_IMAGES = (
    *(".mnc", ".mnc.gz", ".par", ".rec", ".brik", ".brik.gz", ".gipl", ".gipl.gz", ".vtk", ".tif", ".tiff"),
    *(".mif", ".mif.gz", ".mih", ".head", ".nii.bz2", ".nii.xz", ".nii.zst", ".minc", ".vti", ".npy", ".npz", ".mat"),
)
_LAST_FIRST_ELEMENT = 0x0020  # of the groups 2 and 8: up to SOP class, instance and study date
_LONGEST_FIRST_VALUE = 256  # bytes
_NOT_DICOM = (
    *_ARCHIVES,
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


def why_no_image(path: Path) -> str:
    """Why a file is no image that can be read, by its name."""
    name = path.name.lower()
    if path.is_symlink() and not path.exists():
        return "a link to what is not there"
    if image_suffix(path):
        return "an image that belongs to no case"
    if name.endswith(_OTHER_IMAGES):
        return "a format that is not read: convert it to NIfTI"
    if name.endswith(_ARCHIVES):
        return "an archive: unpack it"
    return "no image"


def visible_entries(folder: Path) -> list[Path]:
    """Files and folders of `folder` in name order, without hidden ones and what archivers leave."""
    return sorted(entry for entry in folder.iterdir() if not _is_hidden(entry.name))


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below `folder` in name order, without hidden ones, what archivers leave, and results of ours.

    Links to what is not there, pipes and devices are none.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not _is_hidden(name) and not is_whole_result(os.path.join(parent, name))
        )
        shown = (Path(parent, name) for name in sorted(files) if not _is_hidden(name))
        yield from (path for path in shown if path.is_file())


def has_dicom_prefix(path: Path) -> bool:
    """Whether the file starts as a DICOM file does (PS3.10, section 7.1)."""
    with path.open("rb") as stream:
        return stream.read(_DICOM_PREAMBLE + 4)[_DICOM_PREAMBLE:] == b"DICM"


def starts_as_dicom(path: Path) -> bool:
    """Whether the file is DICOM by its first bytes, also without the preamble that many old exports lack.

    Such a file begins with an element of group 2 or 8: its tag, then either a value representation and a length, or
    a length alone, short in every object that is known.
    """
    with path.open("rb") as stream:
        begin = stream.read(_DICOM_PREAMBLE + 4)
    if begin[_DICOM_PREAMBLE:] == b"DICM":
        return True
    if len(begin) < 12:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(begin[at : at + 2], order) for at in (0, 2))  # type: ignore[arg-type]
        if group in (0x0002, 0x0008) and element <= _LAST_FIRST_ELEMENT:
            explicit = begin[4:6].isalpha() and begin[4:6].isupper()
            if explicit or int.from_bytes(begin[4:8], order) <= _LONGEST_FIRST_VALUE:  # type: ignore[arg-type]
                return True
    return False


def is_dicom_file(path: Path) -> bool:
    """Whether a path is a DICOM file by its name or its first bytes."""
    if not path.is_file() or image_suffix(path):
        return False
    return path.name.lower().endswith(DICOM_SUFFIXES) or starts_as_dicom(path)


def may_hold_dicom(path: Path) -> bool:
    """Whether a path is to be read as DICOM: a folder, a DICOM file, a DICOMDIR, or a text list of files."""
    return path.is_dir() or path.name.lower().endswith(FILE_LIST_SUFFIX) or is_dicom_file(path)


def holds_dicom_images(folder: Path) -> bool:
    """Whether a DICOM image lies directly in `folder`; structure sets, reports and indexes are none."""
    return first_dicom_image(folder) is not None


def first_dicom_image(folder: Path) -> Path | None:
    """The first DICOM image directly in `folder`; None where there is none."""
    candidates = (entry for entry in visible_entries(folder) if entry.is_file())
    images = (entry for entry in candidates if not entry.name.lower().endswith(_NOT_DICOM))
    return next((entry for entry in images if _is_dicom_image(entry)), None)


def dicom_facts(path: Path | None) -> tuple[str, str, str]:
    """Patient, study and modality of a DICOM file; empty texts for what it does not say.

    In place of the modality stands what tells that it is no slice of a volume: a screenshot, a localizer, a mosaic.
    """
    if path is None:
        return "", "", ""
    from pydicom import dcmread

    from medical_gans.io.dicom.headers import quiet

    wanted = ["PatientID", "StudyInstanceUID", "Modality", "SOPClassUID", "ImageType"]
    with quiet():
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=wanted, force=True)
            patient, study, modality, sop_class = (str(header.get(name) or "").strip() for name in wanted[:4])
            kind = _odd_kind(sop_class, {str(word).upper() for word in header.get("ImageType") or ()})
        except Exception:  # damaged: reading it says what is wrong
            return "", "", ""
    return patient, study, kind if kind and modality.upper() in ("MR", "") else modality.upper()


def _odd_kind(sop_class: str, words: set[str]) -> str:
    """Why an image is no slice of a volume, by its class and the words of its ImageType; empty where it may be one."""
    from pydicom.uid import UID

    if "Secondary Capture" in UID(sop_class).name or "SCREEN SAVE" in words:
        return "SECONDARY CAPTURE (a screenshot)"
    if "MOSAIC" in words:
        return "MOSAIC (functional or diffusion MR)"
    return "LOCALIZER" if words & LOCALIZERS else ""


def is_image_object(header: pydicom.Dataset) -> bool:
    """Whether a DICOM object is an image: by its class, or where that is private or missing by what it has."""
    from pydicom.uid import UID

    meta = getattr(header, "file_meta", None) or {}
    uid = UID(str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))
    if uid and not uid.is_private and uid.name != uid:
        return "Image Storage" in uid.name
    return all(keyword in header for keyword in ("Modality", "Rows", "Columns", "BitsAllocated"))


def _is_dicom_image(path: Path) -> bool:
    if not starts_as_dicom(path):
        return False
    from pydicom import dcmread

    from medical_gans.io.dicom.headers import quiet

    with quiet():
        try:
            wanted = ["SOPClassUID", "Modality", "Rows", "Columns", "BitsAllocated"]
            return is_image_object(dcmread(path, stop_before_pixels=True, specific_tags=wanted, force=True))
        except Exception:  # damaged: counted as an image, so that reading it says what is wrong
            return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
