"""DICOM series and affines made for tests; values are random, identities are planted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Change = Callable[[int, pydicom.Dataset], None]


def dicom_slice(modality: str, pixels: np.ndarray, position, orientation, series_uid: str) -> pydicom.Dataset:
    """One legal-looking single-frame image of int16 pixels (rows, columns)."""
    image = pydicom.Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    image.SOPInstanceUID = generate_uid()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.Modality = modality
    image.PatientName, image.PatientID = "Planted^Name", "planted-id"
    image.StudyInstanceUID, image.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2"
    image.SeriesInstanceUID, image.SeriesDescription = series_uid, "made for a test"
    image.PatientPosition = "HFS"
    image.ImagePositionPatient = [f"{value:.9g}" for value in position]
    image.ImageOrientationPatient = list(orientation)
    image.PixelSpacing = ["0.75", "1.25"]  # between rows, between columns
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    if modality == "CT":
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "1", "-1024", "HU"
    image.PixelData = pixels.astype(np.int16).tobytes()
    return image


@pytest.fixture
def write_series(tmp_path: Path):
    """Write a series with shuffled file names and instance numbers; return its folder and its pixels.

    `change(k, image)` may alter the k-th slice along the normal; setting `image.left_out` drops it.
    """

    def write(
        modality: str = "MR",
        orientation=AXIAL,
        slices: int = 5,
        spacing: float = 2.5,
        origin=(-20.0, -30.0, 40.0),
        folder: str = "series",
        uid: str = "1.2.3.100",
        change: Change | None = None,
    ) -> tuple[Path, np.ndarray]:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(7)
        pixels = random.integers(0, 2000, (slices, 6, 4)).astype(np.int16)  # slice, row, column
        axes = np.array(orientation).reshape(2, 3)
        normal = np.cross(*axes) / np.linalg.norm(np.cross(*axes))
        for k, number in enumerate(random.permutation(slices)):
            position = np.array(origin) + k * spacing * normal
            image = dicom_slice(modality, pixels[k], position, orientation, uid)
            image.InstanceNumber = int(number) + 1
            if change:
                change(k, image)
            if "left_out" not in vars(image):
                image.save_as(place / f"{uid}-{number:03}.dcm", enforce_file_format=True)
        return place, pixels

    return write
