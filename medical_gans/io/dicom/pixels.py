"""The pixels of DICOM slices in real values (HU for CT), each slice by its own rescale, exactly."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from medical_gans.errors import InputError
from medical_gans.io.stored_values import integer_type

UNREADABLE = (InvalidDicomError, AttributeError, KeyError, ValueError, EOFError, OSError, struct.error)
_HU_TYPES = ("", "HU", "HU_MOD", "US")


@dataclass(frozen=True)
class DicomSlice:
    """One file of a series."""

    path: Path
    header: pydicom.Dataset  # without pixel data
    frame: int | None = None  # its number in a multi-frame file, from 0

    @property
    def rescale(self) -> tuple[float, float] | None:
        """Slope and intercept, None when the header lacks either."""
        slope, intercept = self.header.get("RescaleSlope"), self.header.get("RescaleIntercept")
        return None if slope is None or intercept is None else (float(slope), float(intercept))


def check_rescale(name: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse a series that does not say, for every slice alike, how stored numbers become real ones."""
    if any("ModalityLUTSequence" in one.header for one in slices):
        raise InputError(f"{name} maps its values through a Modality LUT, which cannot be read. Convert it to NIfTI.")
    factors = [one.rescale for one in slices]
    missing = factors.count(None)
    is_ct = slices[0].header.Modality == "CT"
    if missing and (is_ct or missing < len(factors)):
        raise InputError(
            f"{name} lacks RescaleSlope or RescaleIntercept in {missing} of {len(slices)} images, "
            "so its real values are unknown. Export it from its source again."
        )
    if any(pair is not None and not (np.isfinite(pair).all() and pair[0]) for pair in factors):
        raise InputError(f"{name} has a RescaleSlope that is zero or no number. Export it again.")
    units = {str(one.header.get("RescaleType") or "") for one in slices} - set(_HU_TYPES)
    if is_ct and units:
        raise InputError(f"{name} is in {', '.join(sorted(units))}, not in HU (RescaleType). Give the series in HU.")


def real_stack(name: str, slices: Sequence[DicomSlice]) -> np.ndarray:
    """(column, row, slice): integers where every rescale keeps values whole, else float32."""
    planes: list[np.ndarray] = []
    low, high, whole = np.inf, -np.inf, True
    for one, plane in zip(slices, _stored_planes(name, slices), strict=True):
        slope, intercept = one.rescale or (1.0, 0.0)
        ends = [float(end) * slope + intercept for end in (plane.min(), plane.max())]
        low, high = min(low, *ends), max(high, *ends)
        whole = whole and plane.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
        planes.append(plane)
    dtype = integer_type(int(low), int(high)) if whole else np.dtype(np.float32)
    rows, columns = planes[0].shape
    real = np.empty((columns, rows, len(slices)), dtype, order="F")
    for k in reversed(range(len(slices))):  # from the end, so that each plane is freed once copied
        slope, intercept = slices[k].rescale or (1.0, 0.0)
        plane = planes.pop().T
        real[..., k] = plane if (slope, intercept) == (1.0, 0.0) else plane * np.float64(slope) + intercept
    return real


def same_pixels(name: str, first: DicomSlice, second: DicomSlice) -> bool:
    """Whether two slices hold the same real values."""
    return np.array_equal(real_stack(name, [first]), real_stack(name, [second]))


def damaged(path: Path) -> InputError:
    """The error for a file that cannot be read to its end."""
    return InputError(f"{path} is a truncated or damaged DICOM file. Copy or export it again.")


def _stored_planes(name: str, slices: Sequence[DicomSlice]) -> Iterator[np.ndarray]:
    """Stored numbers (row, column) slice by slice; a multi-frame file is decoded once for all its frames."""
    wanted = Counter(one.path for one in slices if one.frame is not None)
    decoded: dict[Path, np.ndarray] = {}
    for one in slices:
        if wanted[one.path] > 1 and one.path not in decoded:
            decoded = {one.path: _stored(name, one, None, 3)}
        yield decoded[one.path][one.frame] if one.path in decoded else _stored(name, one, one.frame, 2)


def _stored(name: str, one: DicomSlice, frame: int | None, dimensions: int) -> np.ndarray:
    try:
        plane = pixel_array(one.path, index=frame)
    except UNREADABLE as error:
        raise damaged(one.path) from error
    except (RuntimeError, NotImplementedError) as error:
        plane = _without_plugin(name, one, frame, error)
    if plane.ndim != dimensions:
        raise damaged(one.path)
    return plane


def _without_plugin(name: str, one: DicomSlice, frame: int | None, error: Exception) -> np.ndarray:
    """Pixels that no plugin of pydicom decodes: by the GDCM inside SimpleITK, or a refusal that says why not."""
    syntax = one.header.file_meta.TransferSyntaxUID
    if _can_decode(syntax):
        raise damaged(one.path) from error
    try:
        frames = decoded_by_itk(one.path)
    except RuntimeError as failure:
        raise InputError(
            f"{name} is compressed as {syntax.name}, which no installed codec decodes. Export it uncompressed, or "
            "pip install 'medical-gans[dicom]' and try again."
        ) from failure
    except UNREADABLE as failure:
        raise damaged(one.path) from failure
    return frames if frame is None and len(frames) > 1 else frames[frame or 0]


def decoded_by_itk(path: Path) -> np.ndarray:
    """Stored numbers (frame, row, column) as SimpleITK decodes them, which brings GDCM along.

    SimpleITK applies the rescale while it reads; the pixels are handed to it in a file without one.
    """
    import SimpleITK as sitk

    source = pydicom.dcmread(path)
    bare = pydicom.Dataset({element.tag: element for element in source if element.tag.group in (0x0028, 0x7FE0)})
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        bare.pop(keyword, None)
    bare.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    bare.SOPInstanceUID = "2.25.1"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    with TemporaryDirectory() as folder:
        copy = Path(folder, "pixels.dcm")
        pydicom.dcmwrite(copy, bare, enforce_file_format=True)
        frames = sitk.GetArrayFromImage(sitk.ReadImage(str(copy)))
    return frames.reshape(-1, *frames.shape[-2:])


def _can_decode(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
