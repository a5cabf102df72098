"""DICOM images made for tests; values are random, identities are planted."""

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid


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
