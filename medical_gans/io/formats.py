"""What any image file must give, whatever its format: a name that says what it is, a sound grid, finite values.

Which files are images is decided from names and first bytes without loading anything. Affines lead from voxel index
to RAS+ mm. Stored numbers become real ones (HU for CT) without inflating a volume on the way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medical_gans.errors import InputError
from medical_gans.io import mapped
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


def check_is_no_root(path: Path) -> None:
    """Refuse a root, such as ``/``, below which everything lies.

    Raises:
        InputError: the path leads to one.
    """
    real = os.path.realpath(path)
    if os.path.dirname(real) == real:
        raise InputError(f"{path} is the root of all files, which is no image and no data set. Give one folder of it.")


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

    from medical_gans.io.dicom.headers import quiet, words

    wanted = ["PatientID", "StudyInstanceUID", "Modality", "SOPClassUID", "ImageType"]
    with quiet():
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=wanted, force=True)
            patient, study, modality, sop_class = (str(header.get(name) or "").strip() for name in wanted[:4])
            kind = _odd_kind(sop_class, {word.upper() for word in words(header, "ImageType")})
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


Affine = NDArray[np.float64]
_SINGULAR = 1e-3  # volume of a voxel over the product of its edge lengths


def lps_to_ras(affine: ArrayLike) -> Affine:
    """Turn an affine whose millimetres count to the left and back into one that counts right and front."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64) + 0.0


def corners(shape: tuple[int, ...], affine: ArrayLike) -> Affine:
    """The eight outermost voxel centres (mm), (3, 8), in a fixed order."""
    indices = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(shape)[:, None] - 1)
    matrix = np.asarray(affine, dtype=np.float64)
    return matrix[:3, :3] @ indices + matrix[:3, 3:]


def largest_distance(first: Affine, second: Affine) -> float:
    """Largest distance (mm) between corresponding points, both (3, points)."""
    return float(np.linalg.norm(first - second, axis=0).max())


def check_affine(affine: Affine, source: Path) -> None:
    """Refuse a grid with zero or non-finite spacing, or whose axes do not span space."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all():
        raise InputError(f"{source} has NaN or infinity in its affine. Export the image again.")
    check_spacing(spacing, source)
    if abs(np.linalg.det(affine[:3, :3])) < _SINGULAR * spacing.prod():
        raise InputError(f"{source} has a singular affine: its axes lie in one plane. Export the image again.")


def check_spacing(spacing: ArrayLike, source: Path) -> None:
    """Refuse voxel edge lengths that are not positive numbers of mm."""
    edges = np.asarray(spacing, dtype=np.float64)
    if not (np.isfinite(edges) & (edges > 0)).all():
        raise InputError(
            f"{source} has a spacing of {' x '.join(f'{edge:g}' for edge in edges)} mm; "
            "every edge of a voxel must be positive. Correct the header or export the image again."
        )


def check_shape(shape: tuple[int, ...], source: Path) -> tuple[int, int, int]:
    """The shape of a volume without trailing axes of length 1; refuse what is not 3D."""
    size = tuple(int(length) for length in shape)
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) != 3:
        raise InputError(
            f"{source} is {len(size)}D ({by(size)}); a 3D volume is needed. "
            + ("Split it and give one volume." if len(size) > 3 else "Give the whole volume, not one slice.")
        )
    if min(size) < 2:
        raise InputError(
            f"{source} has {by(size)} voxels; a volume needs at least 2 along each axis. "
            "Give the whole volume, not one slice."
        )
    return size


def volume_of_several(shape: tuple[int, ...], source: Path, select: str | None) -> tuple[tuple[int, ...], int]:
    """The three lengths of a volume and how many there are, and the number (from 0) of the one that was selected.

    Raises:
        InputError: several volumes and none of them selected, one that is not called what was selected, or none at all.
    """
    lengths = (*shape[:3], *(length for length in shape[3:] if length != 1))
    if len(lengths) != 4:
        found = check_shape(lengths, source)
        _check_is_selected(source, select)
        return (*found, 1), 0
    check_shape(lengths[:3], source)
    wanted = re.fullmatch(r"(?:volume|time|echo)\s*(\d+)", (select or "").strip(), re.IGNORECASE)
    if wanted and 1 <= int(wanted.group(1)) <= lengths[3]:
        return lengths, int(wanted.group(1)) - 1
    raise InputError(
        f"{source} is 4D ({by(lengths)}): {lengths[3]} volumes; one 3D volume is needed. "
        f'Choose one by select, such as --select "volume 1" (to "volume {lengths[3]}"), or split the file.'
    )


def _check_is_selected(source: Path, select: str | None) -> None:
    """Refuse a file of one volume where what was selected is neither its only volume nor stands in its name."""
    there = words_of(image_stem(source).replace("-", " "))  # BIDS: echo-2
    for phrase in phrases(select):
        if not stand_in(words_of(phrase.replace("-", " ")), there) and not IS_FIRST.fullmatch(phrase):
            raise InputError(
                f'{source} holds one volume, which does not say that it is "{phrase}": there is nothing to select '
                'from. Leave select out, or write --select "volume 1"; of several sequences name the one that is '
                'meant, such as --select "{T1c: volume 2}".'
            )


def phrases(select: str | None) -> list[str]:
    """The phrases of a choice, which commas part."""
    return [phrase.strip() for phrase in (select or "").split(",") if phrase.strip()]


def words_of(text: str) -> list[str]:
    """The words of a phrase or a label, letter case aside; decimal points and signs belong to them."""
    return [word for word in re.split(r"[^\w.+-]+|_", text.casefold()) if word]


def stand_in(wanted: list[str], there: list[str]) -> bool:
    """Whether words stand among others one after the other."""
    return any(there[at : at + len(wanted)] == wanted for at in range(len(there) - len(wanted) + 1))


IS_FIRST = re.compile(r"volume\s*1", re.IGNORECASE)
"""What selects the only volume that there is."""


def by(shape: tuple[int, ...]) -> str:
    """A shape as people write it: `512 x 512 x 40`."""
    return " x ".join(str(length) for length in shape)


KEPT_TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32)


def real_values(stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """`slope * stored + intercept`, as integers where that is exact, else float32.

    Works slice by slice on the last axis, so that no double-precision copy of a volume exists.
    """
    integral = stored.dtype.kind in "iu" and slope == 1 and float(intercept).is_integer()
    if (slope, intercept) == (1, 0) and stored.dtype in KEPT_TYPES:
        return stored
    target: np.dtype = np.dtype(np.float32)
    if integral:
        low, high = mapped.extremes(stored)
        target = integer_type(int(low) + int(intercept), int(high) + int(intercept))
    real = mapped.empty(stored.shape, target)
    for k in range(stored.shape[-1]):
        scaled = stored[..., k] * np.float64(slope) + np.float64(intercept)
        real[..., k] = scaled
        mapped.give_back()
    return real


def check_scaled(stored: np.ndarray, slope: float, intercept: float, source: Path) -> None:
    """Refuse finite numbers that are, as stored or scaled, beyond what 32 bits hold."""
    if (slope, intercept) == (1, 0) and (stored.dtype.kind != "f" or stored.dtype.itemsize <= 4):
        return
    ends = []
    for k in range(stored.shape[-1]):  # slice by slice, so that no copy of the volume exists
        plane = stored[..., k]
        finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
        ends += [float(finite.min()), float(finite.max())] if finite.size else []
        mapped.give_back()
    if any(not abs(end * slope + intercept) <= float(np.finfo(np.float32).max) for end in ends):
        raise InputError(
            f"{source} holds values beyond 1e38 (scaled by {slope:g} and {intercept:g}), which no image has. "
            "Its header or its voxels are damaged; export it again."
        )


def integer_type(low: int, high: int) -> np.dtype:
    """The smallest common type that holds whole numbers from `low` to `high`, float32 when none does."""
    for candidate in (np.int16, np.uint16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.float32)


def without_missing(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """NaN around an object, as masking leaves it, at the lowest value; NaN within it, or infinity, stays.

    Returns:
        The array, a copy where it was changed, and a sentence about it.
    """
    if array.dtype.kind != "f" or not np.isnan(array[:: array.shape[0] - 1, :: array.shape[1] - 1]).all():
        return array, ()  # the twelve edges along the last axis hold values
    from scipy import ndimage

    missing = np.isnan(array)
    parts, count = ndimage.label(missing)
    largest = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    if count != 1 or largest[0] == array.size or np.isinf(array).any():
        return array, ()
    low = array[~missing].min()
    return np.where(missing, low, array), (
        f"NaN around the object ({largest[0]} voxels) counts as background ({low:g}).",
    )


def check_finite(array: np.ndarray, source: Path) -> None:
    """Refuse NaN and infinity; the extremes show them without a copy of the volume."""
    if array.dtype.kind != "f" or np.isfinite(mapped.extremes(array)).all():
        return
    count = sum(int(np.count_nonzero(~np.isfinite(array[..., k]))) for k in range(array.shape[-1]))
    raise InputError(f"{source} has {count} voxels that are NaN or infinite. Replace them by real values before use.")
