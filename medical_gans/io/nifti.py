"""NIfTI-1 and NIfTI-2 files and pairs as a Volume: read where their meaning is certain, refused where it is not.

The header is laid out by nibabel's classes, but judged here: nibabel stops at a quaternion that is too long by
4e-7, turns a spacing of 0 into 1 mm without a word, and stops reading before the checksum of a .gz. What was mended
is in `Volume.repairs`; where the file contradicts itself and one of two readings was taken, in `Volume.doubts`.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io import mapped
from medical_gans.io.formats import (
    Affine,
    by,
    check_affine,
    check_scaled,
    corners,
    largest_distance,
    real_values,
    volume_of_several,
)
from medical_gans.io.volumes import Volume, damaged_image

_UNITS = {0: ("mm", 1.0), 1: ("metres", 1e3), 2: ("mm", 1.0), 3: ("microns", 1e-3)}
_LIKELY_EDGES = (0.02, 60.0)  # mm, of a voxel of a person
_POSSIBLE_EDGES = (0.001, 200.0)
_UNIT_LENGTH = 1e-6, 1e-3  # of a quaternion beyond 1: rounding of 32 bits, and what still is one
_LAST_CODE = 5  # of what sform and qform map to
_APART = 0.2  # of the smallest voxel edge, at the worst corner: here sform and qform contradict each other


def nifti_affine(header: Any, shape: tuple[int, ...], path: Path, said: list[str], doubts: list[str]) -> Affine:
    """(4, 4) to RAS+ mm: the sform where it is usable, else the qform.

    Args:
        header: of nibabel, of any class.
        shape: of the volume.
        path: for messages.
        said: gets a sentence for what was passed over or converted.
        doubts: gets a sentence for what contradicts the reading that was taken.

    Raises:
        InputError: neither form is usable, or its voxels are of no size that an image of a person has.
    """
    factor = _millimetres(header, path, said, doubts)
    sform, why_no_sform = _usable(_sform, header, path, "sform_code")
    qform, why_no_qform = _usable(_qform, header, path, "qform_code")
    taken = sform if sform is not None else qform
    if taken is None:
        if why_no_sform is None and why_no_qform is None:
            raise InputError(
                f"{path} does not say how it lies in the patient (sform and qform codes are 0), so left and "
                "right are unknown. Convert it again from its source, or set the sform."
            )
        raise why_no_sform or why_no_qform  # type: ignore[misc]  # one of them is there
    for form, affine in (("sform", sform), ("qform", qform)):
        if affine is not None and int(header[f"{form}_code"]) > _LAST_CODE:
            said.append(f"{form}_code is {int(header[f'{form}_code'])}, which means nothing; the {form} counts as set.")
    name, other = ("sform", "qform") if sform is not None else ("qform", "sform")
    if unusable := (why_no_qform if sform is not None else why_no_sform):
        said.append(f"The {other} cannot be used, the {name} was taken ({_reason(unusable, path)}).")
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    second: Affine | None = qform
    if sform is not None and second is None and why_no_qform is None:
        if not (np.isfinite(spacing) & (spacing > 0)).all():
            said.append(f"pixdim is {by_numbers(spacing)}; the spacing was taken from the sform.")
        else:
            second, other = sform.copy(), "pixdim"
            second[:3, :3] *= spacing / np.linalg.norm(sform[:3, :3], axis=0)
    elif qform is not None:
        length = float(np.linalg.norm([float(header[f"quatern_{axis}"]) for axis in "bcd"]))
        if length > 1 + _UNIT_LENGTH[0] / 10:
            said.append(f"The quaternion of the qform is too long by {length - 1:.1g} and was shortened to 1.")
    if sform is not None and second is not None:
        apart = largest_distance(corners(shape, sform), corners(shape, second))
        edge = float(np.linalg.norm(sform[:3, :3], axis=0).min())
        if apart > _APART * edge:
            doubts.append(
                f"sform and {other} contradict each other: they place the corners of the image up to "
                f"{apart * factor:.3g} mm apart. The sform was taken; programs that take the other see another image."
            )
    affine = taken.copy()
    affine[:3] *= factor
    return affine


def _usable(
    read: Callable[[Any, Path], Affine], header: Any, path: Path, code: str
) -> tuple[Affine | None, InputError | None]:
    """An affine, or why there is none: neither where its code says that none was stored."""
    if int(header[code]) <= 0:
        return None, None
    try:
        affine = read(header, path)
        check_affine(affine, path)
    except InputError as error:
        return None, error
    return affine, None


def _sform(header: Any, path: Path) -> Affine:
    return np.array([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]], dtype=np.float64)


def _qform(header: Any, path: Path) -> Affine:
    """By method 2 of the standard, with the quaternion at length 1."""
    from nibabel.quaternions import quat2mat

    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    handedness = float(header["pixdim"][0])
    length = float(np.linalg.norm(vector))
    if not length <= 1 + _UNIT_LENGTH[1]:
        raise InputError(f"{path} has a quaternion of length {length:.3g} in its qform. Export the image again.")
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            f"{path} has a spacing of {by_numbers(spacing)} mm; every edge of a voxel must be positive. "
            "Correct the header or export the image again."
        )
    if handedness not in (-1, 0, 1):
        raise InputError(
            f"{path} does not say whether its qform is mirrored: pixdim[0] is {handedness:g}, not 1 or -1. "
            "Export the image again."
        )
    rotation = quat2mat([math.sqrt(max(0.0, 1 - length**2)), *(vector / max(length, 1.0))])
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * [1, 1, -1 if handedness == -1 else 1]
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _millimetres(header: Any, path: Path, said: list[str], doubts: list[str]) -> float:
    """mm per unit of length of the header: as it says, unless only mm make voxels of a person."""
    code = int(header["xyzt_units"]) & 7
    if code not in _UNITS:
        said.append(f"The unit of length has the unknown code {code}; mm were taken.")
    name, factor = _UNITS.get(code, ("mm", 1.0))
    rows = np.array([header["srow_x"], header["srow_y"], header["srow_z"]], dtype=np.float64)[:, :3]
    edges = np.linalg.norm(rows, axis=0) if int(header["sform_code"]) > 0 else np.asarray(header["pixdim"][1:4], float)
    if not (np.isfinite(edges) & (edges > 0)).all():
        return factor  # refused elsewhere, or the other form is taken
    low, high = float(edges.min()), float(edges.max())
    if factor != 1 and _LIKELY_EDGES[0] <= factor * low and factor * high <= _LIKELY_EDGES[1]:
        said.append(f"The header counts in {name}; lengths were converted to mm.")
        return factor
    if factor != 1 and _LIKELY_EDGES[0] <= low and high <= _LIKELY_EDGES[1]:
        doubts.append(
            f"The header says that it counts in {name}, which would make voxels of {by_numbers(edges * factor)} mm; "
            "mm were taken."
        )
        return 1.0
    if factor * low < _POSSIBLE_EDGES[0] or factor * high > _POSSIBLE_EDGES[1]:
        raise InputError(
            f"{path} has a spacing of {by_numbers(edges * factor)} mm, which no image of a person has. Correct the "
            "header (units, sform, pixdim) or export the image again."
        )
    return factor


def by_numbers(values: np.ndarray) -> str:
    """Lengths as people write them: `0.9 x 0.9 x 3`."""
    return " x ".join(f"{value:g}" for value in values)


def _reason(error: InputError, path: Path) -> str:
    """The finding of a refusal, without the path and the remedy."""
    return str(error).removeprefix(f"{path} ").split(". ")[0].split("; ")[0].rstrip(".")


_CHUNK = 1 << 20  # bytes
_PACKED = b"\x1f\x8b"  # how what gzip packed begins
_LARGEST_RATIO = 1100  # of gzip: deflate cannot do better
_MAGIC = {"Nifti1Header": slice(344, 348), "Nifti2Header": slice(4, 8)}
_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}
_FIRST_VOXEL = {"Nifti1Header": 352, "Nifti2Header": 544}
_DAMAGED = (EOFError, OSError, zlib.error, ValueError, MemoryError, OverflowError)


@np.errstate(invalid="ignore")  # of signalling NaN in a header, which are judged below
def read_nifti(path: Path, select: str | None = None) -> Volume:
    """Read a .nii, .nii.gz, or the .hdr of a pair with its .img (NIfTI, or ANALYZE 7.5).

    Args:
        path: of the file.
        select: which volume of a 4D file, such as ``volume 2``.

    Raises:
        InputError: it is damaged, no NIfTI, not one 3D volume of real numbers, or does not say how it lies.
    """
    said: list[str] = []
    doubts: list[str] = []
    try:
        with _opened(path, said) as stream:
            header, kind = _header(stream.read(540), path, said)
            if _is_analyze(header, kind, path):
                from medical_gans.io.image_files import read_analyze

                return read_analyze(path, select)
            shape, volume = volume_of_several(_shape(header, path, said), path, select)
            voxels_in = _second_file(path, header, kind, said)
            if voxels_in is None:
                stored = _voxels(stream, header, shape, volume, _FIRST_VOXEL[kind], path, said)
            else:
                with _opened(voxels_in, said) as second:
                    stored = _voxels(second, header, shape, volume, 0, voxels_in, said)
    except (InputError, PermissionError):
        raise
    except _DAMAGED as error:
        raise damaged_image(path) from error
    slope, intercept = _scaling(header, path, said)
    check_scaled(stored, slope, intercept, path)
    array = real_values(stored, slope, intercept)
    affine = nifti_affine(header, stored.shape, path, said, doubts)
    return Volume(array, affine, path, repairs=tuple(said), doubts=tuple(doubts))


def _opened(path: Path, said: list[str]) -> IO[bytes]:
    """The file, unpacked where its first bytes say that it is packed, whatever its name says."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _PACKED
    if packed != path.name.lower().endswith(".gz"):
        said.append(f"The file is {'' if packed else 'not '}packed by gzip although its name says otherwise.")
    if not packed:
        return path.open("rb")
    with gzip.open(path, "rb") as unpacked:
        twice = unpacked.read(2) == _PACKED
    if not twice:
        return cast(IO[bytes], gzip.open(path, "rb"))
    said.append("The file is packed by gzip twice.")  # a download that was packed on its way
    return io.BytesIO(gzip.decompress(gzip.decompress(path.read_bytes())))


def _header(content: bytes, path: Path, said: list[str]) -> tuple[Any, str]:
    """The header, and the name of its class."""
    import nibabel as nib

    orders: dict[str, Any] = {"<": "little", ">": "big"}
    found = [
        (name, order)
        for size, name in _SIZES.items()
        for order, word in orders.items()
        if int.from_bytes(content[:4], word) == size and len(content) >= size
    ]
    if not found:
        found = [
            (name, order)
            for size, name in _SIZES.items()
            for order in orders
            if len(content) >= size and content[_MAGIC[name]][:3] in (b"n+1", b"ni1", b"n+2", b"ni2")
            if 1 <= int(getattr(nib, name)(content[:size], endianness=order, check=False)["dim"][0]) <= 7
        ]
        if len(found) != 1:
            raise damaged_image(path)
        said.append("The header does not give its own size; it is NIfTI by its other marks.")
    name, order = found[0]
    size = next(length for length, known in _SIZES.items() if known == name)
    return getattr(nib, name)(content[:size], endianness=order, check=False), name


def _is_analyze(header: Any, kind: str, path: Path) -> bool:
    """Whether a pair has the header of ANALYZE 7.5, which NIfTI grew out of and which has no mark."""
    is_pair = path.name.lower().endswith((".hdr", ".hdr.gz"))
    return is_pair and kind == "Nifti1Header" and not header.binaryblock[_MAGIC[kind]].strip(b"\0")


def _second_file(path: Path, header: Any, kind: str, said: list[str]) -> Path | None:
    """The .img of a pair; None where the voxels follow the header. Refuses what is no NIfTI by its magic."""
    magic = header.binaryblock[_MAGIC[kind]]
    digit = b"1" if kind == "Nifti1Header" else b"2"
    is_pair = path.name.lower().endswith((".hdr", ".hdr.gz"))
    if not magic.strip(b"\0"):
        raise InputError(
            f"{path} has lost its mark of NIfTI, so it cannot be told what its header says of left and right. Convert "
            "it to NIfTI from its source."
        )
    if magic[:3].lower() not in (b"n+" + digit, b"ni" + digit):
        raise damaged_image(path)
    if magic not in (b"n+%b\0" % digit, b"ni%b\0" % digit):
        said.append(f"The mark of NIfTI is misspelt: {magic!r}.")
    if not is_pair:
        if magic[:2] == b"ni":
            said.append("The header says that the voxels are in a second file, but they follow it.")
        return None
    stem = path.name[: path.name.lower().rindex(".hdr")]
    for suffix in (".img", ".img.gz", ".IMG"):
        if (other := path.with_name(stem + suffix)).is_file():
            return other
    if magic[:2] == b"n+":
        return None
    raise InputError(f"{path} is a header whose voxels are missing: {stem}.img is not beside it. Copy both files.")


def _shape(header: Any, path: Path, said: list[str]) -> tuple[int, ...]:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise InputError(f"{path} says that it has {count} dimensions; 3 are needed. Export the image again.")
    lengths = [int(length) for length in header["dim"][1 : count + 1]]
    if any(length < 1 for length in lengths[3:]):
        said.append("The header gives a length below 1 for axes beyond the third; they count as 1.")
        lengths[3:] = [max(length, 1) for length in lengths[3:]]
    if any(length < 1 for length in lengths):
        raise InputError(f"{path} has {by(tuple(lengths))} voxels. Export the image again.")
    return tuple(lengths)


def _voxels(
    stream: IO[bytes], header: Any, shape: tuple[int, ...], volume: int, first: int, path: Path, said: list[str]
) -> np.ndarray:
    """Stored numbers of one volume of ``shape``: three lengths, then the number of volumes."""
    from nibabel.spatialimages import HeaderDataError

    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise InputError(f"{path} has the unknown data type {code}. Export it again.") from error
    if dtype.itemsize == 0 or code == 1:
        raise InputError(f"{path} has the unknown data type {code}. Export it again.")
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds colour or complex values; one real value per voxel is needed.")
    size = math.prod(shape[:3]) * dtype.itemsize
    total = size * shape[3]
    if total > path.stat().st_size * _LARGEST_RATIO:
        raise EOFError(f"{total} bytes wanted")
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and offset >= first and offset.is_integer()):
        offset = _found_offset(stream, total, first, offset, path, said)
    stream.seek(int(offset) + volume * size)
    content = mapped.empty((size,), np.uint8)
    filled = 0
    for part in mapped.slabs(content):
        view, end = part.data, filled + len(part)
        while filled < end:
            count = stream.readinto(view[len(view) - (end - filled) :][:_CHUNK])  # type: ignore[attr-defined]
            if not count:
                raise EOFError(f"{filled} of {size} bytes")
            filled += count
    beyond = -size * (shape[3] - 1 - volume)
    while piece := _read_on(stream, said):  # to the end, where gzip keeps its checksum
        beyond += len(piece)
    if beyond < 0:
        raise EOFError(f"{-beyond} bytes are missing")
    bits = int(header["bitpix"])
    if bits not in (0, 8 * dtype.itemsize):
        if beyond:
            raise InputError(
                f"{path} contradicts itself: its data type has {8 * dtype.itemsize} bits, its bitpix is {bits}. "
                "Export it again."
            )
        said.append(f"bitpix is {bits}; the data type and the length of the file say {8 * dtype.itemsize}.")
    elif beyond:
        said.append(f"{beyond} bytes after the last voxel were not read.")
    array = content.view(dtype).reshape(shape[:3], order="F")
    return array if dtype.isnative else mapped.converted(array, dtype.newbyteorder("="))


def _read_on(stream: IO[bytes], said: list[str]) -> bytes:
    """The next bytes, none where the packed data end, with whatever behind them, as tapes and downloads leave it."""
    try:
        return stream.read(_CHUNK)
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):  # but a wrong checksum
            raise
        said.append("Behind the packed data are bytes that are not packed; they were not read.")
        return b""


def _found_offset(stream: IO[bytes], total: int, first: int, offset: float, path: Path, said: list[str]) -> int:
    """Where the voxels begin, if the length of the file leaves one place only."""
    stream.seek(0)
    length = 0
    while piece := _read_on(stream, []):
        length += len(piece)
    begin = length - total
    if begin not in ({first} if first != 352 else {348, 352}):
        raise InputError(
            f"{path} says that its voxels begin at byte {offset:g}, which is inside the header, and its length does "
            "not tell where they begin. Export it again."
        )
    if offset or first:
        said.append(
            f"The header says that the voxels begin at byte {offset:g}; by the length of the file it is {begin}."
        )
    return begin


def _scaling(header: Any, path: Path, said: list[str]) -> tuple[float, float]:
    """Slope and intercept as the standard means them: a slope of 0 (or no number) scales nothing."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        if math.isinf(slope) or (math.isfinite(intercept) and intercept):
            said.append(f"scl_slope is {slope:g}: the stored values count as they are, scl_inter ({intercept:g}) too.")
        return 1.0, 0.0
    if not math.isfinite(intercept):
        said.append(f"scl_inter is {intercept:g}; 0 was taken.")
        return slope, 0.0
    return slope, intercept
