"""The pixels of DICOM slices in real values (HU for CT), each slice by its own factors, exactly.

Decoding is pydicom's where it can; what it cannot decode (12-bit JPEG among them) goes to the GDCM inside SimpleITK.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSNearLossless,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
)

from medical_gans.errors import InputError
from medical_gans.io import mapped
from medical_gans.io.dicom.headers import UNREADABLE, DicomSlice, damaged, quiet, value_of, whole
from medical_gans.io.formats import integer_type

_JPEG = {0xC0: JPEGBaseline8Bit, 0xC1: JPEGExtended12Bit, 0xC3: JPEGLossless, 0xF7: JPEGLSNearLossless}
_MOST_SEGMENTS, _FIRST_SEGMENT = 15, b"\x40\0\0\0"  # of RLE (PS3.5, G.5)
_JPEG_START, _JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"


def real_stack(name: str, slices: Sequence[DicomSlice]) -> np.ndarray:
    """(column, row, slice): integers where every rescale keeps values whole, else float32."""
    planes = _Planes(len(slices))
    low, high, whole_numbers = np.inf, -np.inf, True
    for one, plane in zip(slices, _stored_planes(name, slices), strict=True):
        slope, intercept = one.rescale or (1.0, 0.0)
        ends = [float(end) * slope + intercept for end in (plane.min(), plane.max())]
        low, high = min(low, *ends), max(high, *ends)
        whole_numbers = whole_numbers and plane.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
        planes.append(plane)
    if not (np.isfinite([low, high]).all() and max(-low, high) <= float(np.finfo(np.float32).max)):
        raise InputError(
            f"{name} has pixels or factors (RescaleSlope, RescaleIntercept) beyond what can be held. Export it again."
        )
    dtype = integer_type(int(low), int(high)) if whole_numbers else np.dtype(np.float32)
    if any(plane.shape != planes.stored.shape[1::-1] for plane in planes.odd.values()):
        raise InputError(f"{name} has pixels of several sizes in one file. Export it again.")
    rescales = [one.rescale or (1.0, 0.0) for one in slices]
    alike = planes.stored.dtype.itemsize == dtype.itemsize and planes.stored.dtype.kind in "iu" and dtype.kind in "iu"
    real = planes.stored.view(dtype) if alike else mapped.empty(planes.stored.shape, dtype)  # whose values both hold
    if alike and not planes.odd and set(rescales) == {(1.0, 0.0)}:
        return real
    for k, (slope, intercept) in enumerate(rescales):
        plane = planes[k]
        real[..., k] = plane if (slope, intercept) == (1.0, 0.0) else plane * np.float64(slope) + intercept
        mapped.give_back()
    return real


class _Planes:
    """Stored numbers of slices, gathered one by one.

    Attributes:
        stored: (column, row, slice), of the size and type of the first one.
        odd: (row, column) of those that have another size or type, by number.
    """

    def __init__(self, count: int) -> None:
        self.count, self.number = count, 0
        self.stored = np.empty((0, 0, count))
        self.odd: dict[int, np.ndarray] = {}

    def append(self, plane: np.ndarray) -> None:
        if not self.number:
            self.stored = mapped.empty((*plane.shape[::-1], self.count), plane.dtype.newbyteorder("="))
        if plane.T.shape == self.stored.shape[:2] and plane.dtype.newbyteorder("=") == self.stored.dtype:
            self.stored[..., self.number] = plane.T
        else:
            self.odd[self.number] = plane
        self.number += 1
        mapped.give_back()

    def __getitem__(self, number: int) -> np.ndarray:
        """Slice ``(column, row)``."""
        return self.odd[number].T if number in self.odd else self.stored[..., number]


def same_pixels(name: str, first: DicomSlice, second: DicomSlice) -> bool:
    """Whether two slices hold the same real values."""
    return np.array_equal(real_stack(name, [first]), real_stack(name, [second]))


def without_padding(array: np.ndarray, slices: Sequence[DicomSlice]) -> tuple[np.ndarray, tuple[str, ...]]:
    """An MR whose padding (PixelPaddingValue) is background: where it is not 0 it becomes the lowest value beside it.

    Returns:
        The array, changed in place, and a sentence about it.
    """
    if not any("PixelPaddingValue" in one.header for one in slices):
        return array, ()
    count, low = 0, None
    ranges = [_padding(one) for one in slices]
    for pad in {pad for pad in ranges if pad}:
        planes = [k for k, other in enumerate(ranges) if other == pad]
        inside = [(array[..., k] < pad[0]) | (array[..., k] > pad[1]) for k in planes]
        lows = [array[..., k][mask].min() for k, mask in zip(planes, inside, strict=True) if mask.any()]
        low = min([*lows, *([] if low is None else [low])], default=None)
    if low is None:
        return array, ()
    for k, padding in enumerate(ranges):
        if padding:
            padded = (array[..., k] >= padding[0]) & (array[..., k] <= padding[1])
            count += int(np.count_nonzero(padded))
            array[..., k][padded] = low
    said = f"{count} voxels of padding (PixelPaddingValue) count as background ({low:g})."
    return array, (said,) if count else ()


def without_inversion(array: np.ndarray) -> tuple[np.ndarray, str]:
    """An MR of MONOCHROME1, which is shown with its lowest values white (PS3.3, C.7.6.3.1.2), and a sentence about it.

    That says how it is shown, not what is stored. Where the outermost voxels are the bright ones, though, what is
    stored is the negative of an MR, and is turned round.
    """
    ends = [np.take(array, index, axis).ravel() for axis in range(3) for index in (0, -1)]
    low, high = (float(value) for value in np.percentile(array, (0.1, 99.9)))
    if float(np.median(np.concatenate(ends))) <= 0.5 * (low + high):
        return array, "The images are to be shown inverted (MONOCHROME1); their values were taken as they are stored."
    lowest, highest = array.min(), array.max()
    turned = (highest.astype(np.float64) + lowest.astype(np.float64)) - array
    said = "The images are negatives (MONOCHROME1, with a bright background); their values were turned round."
    return turned.astype(array.dtype), said


def decoded_by_itk(path: Path, syntax: UID | None = None) -> np.ndarray:
    """Stored numbers (frame, row, column) as SimpleITK decodes them, which brings GDCM along.

    SimpleITK applies the rescale while it reads; the pixels are handed to it in a file without one.
    """
    import SimpleITK as sitk

    source = pydicom.dcmread(path, force=True)
    bare = pydicom.Dataset({element.tag: element for element in source if element.tag.group in (0x0028, 0x7FE0)})
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit"):
        bare.pop(keyword, None)
    if bare.get("PhotometricInterpretation") == "MONOCHROME1":
        bare.PhotometricInterpretation = "MONOCHROME2"  # which ITK leaves as it is stored
    bare.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    bare.SOPInstanceUID = "2.25.1"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax or source.file_meta.TransferSyntaxUID
    with TemporaryDirectory() as folder:
        copy = Path(folder, "pixels.dcm")
        pydicom.dcmwrite(copy, bare, enforce_file_format=True)
        frames = sitk.GetArrayFromImage(sitk.ReadImage(str(copy)))
    return frames.reshape(-1, *frames.shape[-2:])


def _padding(one: DicomSlice) -> tuple[float, float] | None:
    """The real values that are padding, lowest and highest; None where there are none, or 0 is among them."""
    ends = [_stored_number(one, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    slope, intercept = one.rescale or (1.0, 0.0)
    real = sorted(end * slope + intercept for end in ends if end is not None)
    return None if real[0] <= 0 <= real[-1] else (real[0], real[-1])


def _stored_number(one: DicomSlice, keyword: str) -> int | None:
    """A value of the type of the pixels, which pydicom leaves as bytes, or reads with the other sign."""
    value = value_of(one.header, keyword)
    bits = whole(one.header, "BitsAllocated") or 16
    if isinstance(value, bytes):
        value = int.from_bytes(value[:2], "little") if len(value) >= 2 else None
    if not isinstance(value, int):
        return None
    signed = whole(one.header, "PixelRepresentation") == 1
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _stored_planes(name: str, slices: Sequence[DicomSlice]) -> Iterator[np.ndarray]:
    """Stored numbers (row, column) slice by slice; a multi-frame file is decoded once for all its frames."""
    wanted = Counter(one.path for one in slices if one.frame is not None)
    decoded: dict[Path, np.ndarray] = {}
    for one in slices:
        if wanted[one.path] > 1 and one.path not in decoded:
            decoded = {one.path: _stored(name, one, None, 3)}
        if one.path in decoded and one.frame is not None and one.frame >= len(decoded[one.path]):
            raise damaged(one.path)
        yield decoded[one.path][one.frame] if one.path in decoded else _stored(name, one, one.frame, 2)


def _stored(name: str, one: DicomSlice, frame: int | None, dimensions: int) -> np.ndarray:
    syntax = one.header.file_meta.get("TransferSyntaxUID")
    try:
        if syntax is None:
            plane, syntax = _without_syntax(name, one, frame)
        elif syntax == DeflatedExplicitVRLittleEndian:
            plane = _of_dataset(pydicom.dcmread(one.path), syntax, frame)
        elif _is_shifted(one) and not syntax.is_compressed:
            plane = _in_the_upper_bits(name, one, frame)
        else:
            plane = _of_file(one.path, syntax, frame)
    except InputError:
        raise
    except NotImplementedError as error:
        plane = _by_other_codec(name, one, frame, error)
    except UNREADABLE as error:
        raise damaged(one.path) from error
    except RuntimeError as error:
        plane = _by_other_codec(name, one, frame, error)
    if plane.ndim != dimensions:
        raise damaged(one.path)
    return plane


def _is_shifted(one: DicomSlice) -> bool:
    high, stored = whole(one.header, "HighBit"), whole(one.header, "BitsStored")
    return high is not None and stored is not None and high > stored - 1


def _in_the_upper_bits(name: str, one: DicomSlice, frame: int | None) -> np.ndarray:
    """Pixels whose HighBit says that they do not begin at the lowest bit, as old scanners wrote them.

    Where no bit above the stored ones is used, HighBit is what is wrong.
    """
    allocated, stored = (int(whole(one.header, keyword) or 0) for keyword in ("BitsAllocated", "BitsStored"))
    shift = int(whole(one.header, "HighBit") or 0) + 1 - stored
    source = pydicom.dcmread(one.path, force=True)
    source.BitsStored, source.HighBit = allocated, allocated - 1
    words = pixel_array(source, index=frame)
    if not (words & ((1 << shift) - 1)).any():
        return words >> shift
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if words.dtype.kind == "i" else (0, (1 << stored) - 1)
    if words.min() < low or words.max() > high:
        raise InputError(
            f"{name} says that its pixels lie in {stored} bits up to bit {shift + stored - 1} (HighBit), but other "
            "bits are used too, so that they cannot be told. Export it again."
        )
    return words


def _without_syntax(name: str, one: DicomSlice, frame: int | None) -> tuple[np.ndarray, UID]:
    """Pixels of a file that does not name its transfer syntax: what the data are, they show themselves."""
    source = pydicom.dcmread(one.path, force=True)
    syntax = _shown_syntax(source)
    if syntax is None:
        raise InputError(
            f"{name} does not name its transfer syntax (TransferSyntaxUID), and its pixels do not show it. Export it "
            "from its source again."
        )
    return _of_dataset(source, syntax, frame), syntax


def _of_file(path: Path, syntax: UID, frame: int | None) -> np.ndarray:
    plane = pixel_array(path, index=frame)
    if not syntax.is_compressed and plane.flat[:4].tobytes()[:4] == plane.nbytes.to_bytes(8, "little")[:4]:
        plane = _of_dataset(pydicom.dcmread(path, force=True), syntax, frame)
    return plane


def _of_dataset(source: pydicom.Dataset, syntax: UID, frame: int | None) -> np.ndarray:
    if not hasattr(source, "file_meta"):
        source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_compressed or syntax.is_deflated:
        _drop_own_length(source)
    return pixel_array(source, index=frame)


def _drop_own_length(source: pydicom.Dataset) -> None:
    """Where pixels begin with the number of bytes that follow them, it is no pixel.

    A program that did not know the kind of their element took its length for a part of it.
    """
    counts = [whole(source, keyword) or 1 for keyword in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    size = math.prod(counts) * (whole(source, "BitsAllocated") or 16) // 8
    stored = source["PixelData"].value
    if len(stored) == size + 4 and int.from_bytes(stored[:4], "little") == size:
        source["PixelData"].value = stored[4:]


def _shown_syntax(source: pydicom.Dataset) -> UID | None:
    """The transfer syntax by which a data set was read, or that its compressed pixels begin as."""
    element = source["PixelData"]
    if not element.is_undefined_length:
        implicit, little = source.original_encoding
        if not little:
            return None if implicit else ExplicitVRBigEndian
        return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    first = next(generate_frames(element.value, number_of_frames=whole(source, "NumberOfFrames") or 1))
    if first.startswith(_JPEG_2000_START):
        return JPEG2000
    if 1 <= int.from_bytes(first[:4], "little") <= _MOST_SEGMENTS and first[4:8] == _FIRST_SEGMENT:
        return RLELossless
    at = 2
    while first.startswith(_JPEG_START) and at + 4 <= len(first) and first[at] == 0xFF:
        if first[at + 1] in _JPEG:
            return _JPEG[first[at + 1]]
        at += 2 + int.from_bytes(first[at + 2 : at + 4], "big")
    return None


def _by_other_codec(name: str, one: DicomSlice, frame: int | None, error: Exception) -> np.ndarray:
    """Pixels that no plugin of pydicom decodes: by the GDCM inside SimpleITK, or a refusal that says why not."""
    syntax = one.header.file_meta.TransferSyntaxUID
    try:
        with quiet():
            frames = decoded_by_itk(one.path, syntax)
    except RuntimeError as failure:
        if _can_decode(syntax):
            raise damaged(one.path) from error
        raise InputError(
            f"{name} is compressed as {syntax.name}, which no installed codec decodes. Export it uncompressed, or "
            "pip install 'medical-gans[dicom]' and try again."
        ) from failure
    except UNREADABLE as failure:
        raise damaged(one.path) from failure
    return frames if frame is None and len(frames) > 1 else frames[frame or 0]


def _can_decode(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
