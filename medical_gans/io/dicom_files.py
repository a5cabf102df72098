"""Writing DICOM files, fast where many objects share most of their elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.charset import convert_encodings
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

_DECIMALS = 10  # of mm and direction cosines: finer than any scanner, and free of binary noise
_PREAMBLE = bytes(128) + b"DICM"


class SharedElements:
    """The elements that many objects have in common, encoded once (Explicit VR Little Endian)."""

    def __init__(self, shared: Dataset) -> None:
        self._shared = shared
        self._encodings = convert_encodings(shared.get("SpecificCharacterSet") or "iso8859")
        self._encoded = self._encode(shared)

    def write(self, path: Path, own: Dataset) -> None:
        """Write the object that has the shared elements and those of `own`, which replace shared ones."""
        meta = _file_meta(own.get("SOPClassUID") or self._shared.SOPClassUID, own.SOPInstanceUID)
        stream = DicomBytesIO()
        stream.write(_PREAMBLE)
        write_file_meta_info(stream, meta, enforce_standard=True)
        elements = self._encoded | self._encode(own)
        path.write_bytes(b"".join([stream.getvalue(), *(elements[tag] for tag in sorted(elements))]))

    def _encode(self, dataset: Dataset) -> dict[int, bytes]:
        encoded = {}
        for element in dataset:
            stream = DicomBytesIO()
            stream.is_little_endian, stream.is_implicit_VR = True, False
            write_dataset(stream, Dataset({element.tag: element}), self._encodings)
            encoded[int(element.tag)] = stream.getvalue()
        return encoded


def save_object(path: Path, dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> None:
    """Write one DICOM file with its file meta information."""
    dataset.file_meta = _file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID, transfer_syntax)
    dcmwrite(path, dataset, enforce_file_format=True)


def decimals(values: list[float] | np.ndarray, digits: int = _DECIMALS) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    return [format_number_as_ds(round(float(value), digits) + 0.0) for value in values]


def _file_meta(sop_class: str, instance: str, transfer_syntax: str = ExplicitVRLittleEndian) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    return meta
