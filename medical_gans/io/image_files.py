"""MetaImage and NRRD through ITK, .mgz and ANALYZE through nibabel: as a Volume, or a sentence that says why not.

ITK fills in what a header leaves out without a word; what it would fill in is looked up in the header first.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.formats import Affine, check_scaled, check_spacing, lps_to_ras, real_values, volume_of_several
from medical_gans.io.volumes import Volume, damaged_image

if TYPE_CHECKING:
    import SimpleITK as sitk

_MALFORMED = (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError)  # what nibabel raises
_HEADER = 1 << 14  # bytes: more than any text header
_NRRD_SPACES = ("lps", "ras", "las", "left-posterior-superior", "right-anterior-superior", "left-anterior-superior")


def read_itk(path: Path, select: str | None = None) -> Volume:
    """Read a .mha, .mhd, .nrrd or .nhdr file; ``select`` as for `nifti.read_nifti`.

    Raises:
        InputError: it is damaged, not what its suffix says, or not one 3D volume of real numbers.
    """
    import SimpleITK as sitk

    with path.open("rb") as stream:
        header = stream.read(_HEADER)
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    doubts = _check_nrrd(header, path) if is_nrrd else _check_metaimage(header, path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        components = reader.GetNumberOfComponents()
        listed = components > 1 and is_nrrd and _is_listed(header)
        size = tuple(reader.GetSize())
        shape, volume = volume_of_several((*size, components) if listed else size, path, select)
        if (components != 1 and not listed) or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
            raise InputError(f"{path} holds colour or complex values; one real value per voxel is needed.")
        image = reader.Execute()
    except RuntimeError as error:
        raise _itk_refusal(path, str(error)) from error
    stored = np.array(sitk.GetArrayViewFromImage(image)).T
    stored = stored[volume] if listed else stored.reshape(shape, order="F")[..., volume]
    check_scaled(stored, 1.0, 0.0, path)
    return Volume(real_values(stored), lps_to_ras(_itk_affine(image)), path, doubts=doubts)


def read_mgh(path: Path, select: str | None = None) -> Volume:
    """Read a .mgz or .mgh file of FreeSurfer.

    Raises:
        InputError: it is damaged, does not say how it lies, or is not one 3D volume.
    """
    from nibabel.freesurfer.mghformat import MGHError, MGHImage
    from nibabel.spatialimages import HeaderDataError

    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        image = MGHImage.from_bytes(content)
        header = image.header
        shape, volume = volume_of_several(tuple(int(length) for length in header.get_data_shape()), path, select)
        check_spacing(header["delta"], path)
        if content[28:30] != b"\0\1":  # nibabel would fill in a coronal orientation
            raise InputError(
                f"{path} does not say how it lies in the patient (its flag of orientation is not set), so left and "
                "right are unknown. Convert it again from its source."
            )
        stored = np.asarray(image.dataobj).reshape(shape)[..., volume]
    except InputError:
        raise
    except PermissionError:
        raise
    except (MGHError, HeaderDataError, EOFError, OSError, zlib.error, *_MALFORMED) as error:
        raise damaged_image(path) from error
    stored = np.asfortranarray(stored).astype(stored.dtype.newbyteorder("="), copy=False)
    check_scaled(stored, 1.0, 0.0, path)
    return Volume(real_values(stored), np.asarray(image.affine, dtype=np.float64), path)


def read_analyze(path: Path, select: str | None = None) -> Volume:
    """Read the .hdr of an ANALYZE 7.5 image with its .img: the format does not say how it lies, but by a code.

    Code 0 (transverse, unflipped) counts from the right, the back and the foot; SPM keeps an affine in a .mat beside.

    Raises:
        InputError: it is damaged, its voxels are missing, it is stored in another order, or is not one 3D volume.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    stem = path.name[: path.name.lower().rindex(".hdr")]
    voxels = next((one for end in (".img", ".img.gz", ".IMG") if (one := path.with_name(stem + end)).is_file()), None)
    if voxels is None:
        raise InputError(f"{path} is a header whose voxels are missing: {stem}.img is not beside it. Copy both files.")
    has_affine = path.with_name(f"{stem}.mat").is_file()
    try:
        image = nib.Spm2AnalyzeImage.from_filename(voxels)
        header = image.header
        if (order := int(header["orient"].item()[0]) if header["orient"].item() else 0) and not has_affine:
            raise InputError(
                f"{path} is an ANALYZE image that is not stored from right to left, back to front, foot to head (its "
                f"orient is {order}), and programs do not agree on what that means. Convert it to NIfTI."
            )
        check_spacing(header["pixdim"][1:4], path)
        shape, volume = volume_of_several(tuple(int(length) for length in header.get_data_shape()), path, select)
        if header.get_data_dtype().kind not in "iuf":
            raise InputError(f"{path} holds colour or complex values; one real value per voxel is needed.")
        stored = np.asarray(image.dataobj).reshape(shape, order="F")[..., volume]
    except (InputError, PermissionError):
        raise
    except (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, *_MALFORMED) as error:
        raise damaged_image(path) from error
    stored = np.asfortranarray(stored).astype(stored.dtype.newbyteorder("="), copy=False)
    check_scaled(stored, 1.0, 0.0, path)
    affine = np.asarray(image.affine, dtype=np.float64)
    if has_affine:
        said = (f"An ANALYZE image does not say how it lies; {stem}.mat of SPM does.",)
        return Volume(real_values(stored), affine, path, repairs=said)
    said = (
        "An ANALYZE image does not say how it lies: it was taken to count from the right, the back and the foot, as "
        "the format describes it; programs that take it otherwise see it mirrored.",
    )
    return Volume(real_values(stored), affine, path, doubts=said)


def _itk_affine(image: sitk.Image) -> Affine:
    dimensions = image.GetDimension()
    directions = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = np.array(image.GetOrigin())[:3]
    return affine


def _check_metaimage(header: bytes, path: Path) -> tuple[str, ...]:
    """ITK turns a negative spacing into a flipped axis, a missing one into 1 mm; other readers do not."""
    found = re.search(rb"^\s*ElementSpacing\s*=(.*)$", header, re.MULTILINE)
    found = found or re.search(rb"^\s*ElementSize\s*=(.*)$", header, re.MULTILINE)  # of a voxel; ITK takes it so too
    if not found:
        if re.search(rb"^\s*ElementDataFile\s*=", header, re.MULTILINE):
            raise InputError(
                f"{path} does not say how large its voxels are (no ElementSpacing). Export the image again."
            )
        raise damaged_image(path)
    try:
        spacing = [float(value) for value in found.group(1).split()[:3]]
    except ValueError as error:
        raise damaged_image(path) from error
    check_spacing(spacing, path)
    if data := re.search(rb"^\s*ElementDataFile\s*=\s*([^\r\n]*)", header, re.MULTILINE):
        _check_is_beside(path, data.group(1))
    if not re.search(rb"^\s*(TransformMatrix|Rotation|Orientation)\s*=", header, re.MULTILINE):
        return ("The header does not say how the image lies (no TransformMatrix); left, back and up were taken.",)
    return ()


def _check_nrrd(header: bytes, path: Path) -> tuple[str, ...]:
    """ITK takes a file without a space, or with an unknown one, to count to the left and back."""
    text = header.split(b"\n\n")[0].split(b"\r\n\r\n")[0]
    if not text.startswith(b"NRRD"):
        raise damaged_image(path)
    fields = {
        key.strip().lower(): value.strip().decode("ascii", "replace")
        for key, _, value in (line.partition(b":") for line in text.splitlines())
    }
    _check_is_beside(path, (fields.get(b"data file") or fields.get(b"datafile") or "").encode())
    if (encoding := fields.get(b"encoding", "raw").lower()) in ("bzip2", "bz2", "zrl"):
        raise InputError(f"{path} is packed by {encoding}, which is not read. Save it with the encoding gzip or raw.")
    directions = fields.get(b"space directions", "")
    if not directions and b"spacings" not in fields:
        raise InputError(f"{path} does not say how large its voxels are (no space directions). Export it again.")
    space = fields.get(b"space", "")
    if space.lower().removesuffix("-time").removesuffix("t") in _NRRD_SPACES and directions:
        return ()
    return (
        f"The header {f'names the unknown space {space!r}' if space else 'does not name the space of its axes'}"
        f"{'' if directions else ' and gives no directions'}; left, back and up (LPS) were taken.",
    )


def _check_is_beside(path: Path, named: bytes) -> None:
    """Refuse a header whose one file of voxels is not there; ITK writes on the screen, and then names no reason."""
    name = named.strip().decode("utf-8", "surrogateescape")
    if not name or name.upper().startswith(("LOCAL", "LIST")) or "%" in name or (path.parent / name).is_file():
        return
    near = next((one.name for one in path.parent.iterdir() if one.name.lower() == Path(name).name.lower()), None)
    raise InputError(
        f"{path} is a header whose voxels are missing: {name} is not beside it"
        + (f" ({near} is). Rename it." if near and near != name else ". Copy both files.")
    )


def _is_listed(header: bytes) -> bool:
    """Whether the values of a voxel are those of several volumes, as Slicer stores sequences, and not of a colour."""
    kinds = re.search(rb"^kinds:\s*(.*)$", header, re.MULTILINE)
    return kinds is not None and b"list" in kinds.group(1).lower().split()


def _itk_refusal(path: Path, message: str) -> InputError:
    if "Bad direction" in message:
        return InputError(f"{path} has a singular affine: its axes lie in one plane. Export the image again.")
    if "spacing" in message:
        return InputError(f"{path} has a zero or non-finite spacing. Correct the header or export it again.")
    return damaged_image(path)
