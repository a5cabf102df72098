"""Writing DICOM files, fast where many objects share most of their elements."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.charset import convert_encodings
from pydicom.dataset import FileMetaDataset, validate_file_meta
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

_DECIMALS = 10  # of mm and direction cosines: finer than any scanner, and free of binary noise
_PREAMBLE = bytes(128) + b"DICM"
_INSTANCE, _META_INSTANCE = 0x00080018, 0x00020003


class SharedElements:
    """The elements that many images have in common, encoded once (Explicit VR Little Endian)."""

    def __init__(self, shared: Dataset) -> None:
        self._encodings = convert_encodings(shared.get("SpecificCharacterSet") or "iso8859")
        self._shared = self._encode(shared)
        meta = _file_meta(shared.SOPClassUID, "2.25.0")
        validate_file_meta(meta)  # adds what every file has
        self._meta = self._encode(meta)

    def write(self, path: Path, own: Dataset, pixels: np.ndarray) -> None:
        """Write the image that has the shared elements and those of `own`, which replace shared ones.

        Args:
            path: file.
            own: with a SOPInstanceUID.
            pixels: ``(row, column)``, 16 bits.
        """
        elements = self._shared | self._encode(own)
        meta = self._meta | {_META_INSTANCE: struct.pack("<HH", 0x0002, 0x0003) + elements[_INSTANCE][4:]}
        group = _in_order(meta)
        stored = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
        with path.open("wb") as file:
            file.write(_PREAMBLE + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(group)) + group)
            file.write(_in_order(elements) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, stored.nbytes))
            file.write(stored.data)

    def _encode(self, dataset: Dataset) -> dict[int, bytes]:
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, False
        encoded = {}
        for element in dataset:
            begin = stream.tell()
            write_data_element(stream, element, self._encodings)
            encoded[int(element.tag)] = stream.getvalue()[begin:]
        return encoded


def save_object(path: Path, dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> None:
    """Write one DICOM file with its file meta information."""
    dataset.file_meta = _file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID, transfer_syntax)
    dcmwrite(path, dataset, enforce_file_format=True)


def decimals(values: list[float] | np.ndarray, digits: int = _DECIMALS) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    return [format_number_as_ds(round(float(value), digits) + 0.0) for value in values]


def _in_order(elements: dict[int, bytes]) -> bytes:
    return b"".join(elements[tag] for tag in sorted(elements))


def _file_meta(sop_class: str, instance: str, transfer_syntax: str = ExplicitVRLittleEndian) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    return meta
