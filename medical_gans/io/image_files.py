"""NIfTI, MetaImage and NRRD files as (array, affine), refused where they are damaged or ambiguous.

NIfTI is parsed with nibabel's header classes but without its repairs: nibabel turns a zero spacing
into 1 mm, and stops reading before the checksum of a .gz.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.grid import Affine, check_shape, check_spacing, lps_to_ras
from medical_gans.io.stored_values import real_values

if TYPE_CHECKING:
    import SimpleITK as sitk

_CHUNK = 1 << 20  # bytes
_HEADER_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}
_MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_DAMAGED = (EOFError, OSError, zlib.error, ValueError, MemoryError, OverflowError)


def read_nifti(path: Path) -> tuple[np.ndarray, Affine]:
    """Array (i, j, k) of real values and affine (RAS+ mm) of a .nii or .nii.gz file."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            header = _nifti_header(cast(IO[bytes], stream), path)
            stored = _nifti_voxels(cast(IO[bytes], stream), header, path)
    except (InputError, PermissionError):
        raise
    except _DAMAGED as error:
        raise _damaged(path) from error
    slope, intercept = header.get_slope_inter()
    array = real_values(stored, 1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    affine = header.get_best_affine().astype(np.float64)
    affine[:3] *= _MILLIMETRES[header.get_xyzt_units()[0]]
    return array, affine


def _nifti_header(stream: IO[bytes], path: Path) -> Any:
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    size = stream.read(4)
    stream.seek(0)
    name = next(
        (
            _HEADER_SIZES.get(int.from_bytes(size, order))
            for order in ("little", "big")
            if int.from_bytes(size, order) in _HEADER_SIZES
        ),
        None,
    )
    if name is None:
        raise _damaged(path)
    try:
        header = getattr(nib, name).from_fileobj(stream, check=False)
        check_shape(header.get_data_shape(), path)
        check_spacing(header["pixdim"][1:4], path)
        header.check_fix(logger=logging.Logger("nifti", logging.CRITICAL))
    except (HeaderDataError, WrapStructError) as error:
        raise _damaged(path) from error
    if not header["sform_code"] and not header["qform_code"]:
        raise InputError(
            f"{path} does not say how it lies in the patient (sform and qform codes are 0), so left and "
            "right are unknown. Convert it again from its source, or set the sform."
        )
    return header


def _nifti_voxels(stream: IO[bytes], header: Any, path: Path) -> np.ndarray:
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds colour or complex values; one real value per voxel is needed.")
    shape = check_shape(header.get_data_shape(), path)
    stream.seek(int(header.get_data_offset()))
    content = np.empty(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, np.uint8)
    filled, view = 0, content.data
    while filled < len(content):
        count = stream.readinto(view[filled : filled + _CHUNK])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"{filled} of {len(content)} bytes")
        filled += count
    while stream.read(_CHUNK):  # to the end, where gzip keeps its checksum
        pass
    array = content.view(dtype).reshape(shape, order="F")
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_itk(path: Path) -> tuple[np.ndarray, Affine]:
    """Array (i, j, k) of real values and affine (RAS+ mm) of a .mha, .mhd or .nrrd file."""
    import SimpleITK as sitk

    _check_metaimage_spacing(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape = check_shape(reader.GetSize(), path)
        if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
            raise InputError(f"{path} holds colour or complex values; one real value per voxel is needed.")
        image = reader.Execute()
    except RuntimeError as error:
        raise _itk_refusal(path, str(error)) from error
    stored = np.array(sitk.GetArrayViewFromImage(image)).T.reshape(shape, order="F")
    return real_values(stored), lps_to_ras(_itk_affine(image))


def _itk_affine(image: sitk.Image) -> Affine:
    dimensions = image.GetDimension()
    directions = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = np.array(image.GetOrigin())[:3]
    return affine


def _check_metaimage_spacing(path: Path) -> None:
    """ITK turns a negative spacing into a flipped axis without a word; other readers do not."""
    with path.open("rb") as stream:
        found = re.search(rb"^\s*ElementSpacing\s*=(.*)$", stream.read(1 << 14), re.MULTILINE)
    if path.suffix.lower() == ".nrrd" or not found:
        return
    try:
        spacing = [float(value) for value in found.group(1).split()[:3]]
    except ValueError as error:
        raise _damaged(path) from error
    check_spacing(spacing, path)


def _itk_refusal(path: Path, message: str) -> InputError:
    if "Bad direction" in message:
        return InputError(f"{path} has a singular affine: its axes lie in one plane. Export the image again.")
    if "spacing" in message:
        return InputError(f"{path} has a zero or non-finite spacing. Correct the header or export it again.")
    return _damaged(path)


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} cannot be read: the file is truncated, damaged, or not what its suffix says. Copy or export it again."
    )
