"""A phantom's MR as the DICOM series that a scanner would send, to try on what a clinic does with DICOM."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from medical_gans.errors import SettingError

from .sequences import PulseSequence

_DATE, _TIME = "20200101", "120000"


def write_mr_series(folder: Path, name: str, array: np.ndarray, affine: np.ndarray, sequence: PulseSequence) -> None:
    """Write an axial volume as MR Image Storage, one file a slice, equal files for equal voxels.

    Args:
        folder: for the files ``0001.dcm``, ``0002.dcm``, ...; made where it is missing.
        name: of the patient and of the study.
        array: ``(x, y, z)``, whole numbers from 0 to 32767.
        affine: voxel to mm (RAS), without rotation.
        sequence: whose repetition and echo time are written.

    Raises:
        SettingError: the volume is rotated against the scanner's axes.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

    axes = affine[:3, :3]
    spacing = np.abs(np.diag(axes))
    if not np.allclose(np.abs(axes), np.diag(spacing)):
        raise SettingError("The volume is rotated against the scanner's axes. Write a phantom series on an axial grid.")
    # DICOM counts towards left and back, NIfTI towards right and front
    flipped = array[:: -1 if axes[0, 0] > 0 else 1, :: -1 if axes[1, 1] > 0 else 1, :: 1 if axes[2, 2] > 0 else -1]
    corners = affine @ np.array([[0, n - 1] for n in array.shape] + [[1, 1]], dtype=float)
    first = np.array([-corners[0].max(), -corners[1].max(), corners[2].min()])
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes() + affine.tobytes() + name.encode()).hexdigest()

    def uid(part: str) -> UID:
        return UID(f"2.25.{int(hashlib.sha256(f'{content}{part}'.encode()).hexdigest()[:30], 16)}")

    times = vars(sequence)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(array.shape[2]):
        image = pydicom.Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(f"image {number}")
        image.StudyInstanceUID, image.SeriesInstanceUID = uid("study"), uid("series")
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = uid("frame"), ""
        image.PatientName, image.PatientID, image.PatientSex, image.PatientBirthDate = f"Phantom^{name}", name, "O", ""
        image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
        for when in ("Study", "Series", "Acquisition", "Content"):
            setattr(image, f"{when}Date", _DATE)
            setattr(image, f"{when}Time", _TIME)
        image.Modality, image.Manufacturer, image.PatientPosition = "MR", "medical-gans phantom", "HFS"
        image.ImageType, image.BodyPartExamined = ["DERIVED", "SECONDARY", "OTHER"], "HEAD"
        image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 1, 1, number + 1
        image.SeriesDescription = f"{type(sequence).__name__} phantom"
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = (
            "RM",
            "NONE",
            "",
            "2D",
        )
        image.EchoTrainLength = 1
        image.RepetitionTime, image.EchoTime = (f"{times[part]:.6g}" for part in ("repetition_time_ms", "echo_time_ms"))
        image.ImagePositionPatient = [f"{v:.9g}" for v in (first[0], first[1], first[2] + number * spacing[2])]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing = [f"{spacing[1]:.9g}", f"{spacing[0]:.9g}"]
        image.SliceThickness = image.SpacingBetweenSlices = f"{spacing[2]:.9g}"
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = array.shape[1], array.shape[0]
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.PixelData = np.ascontiguousarray(flipped[:, :, number].T, dtype="<u2").tobytes()
        image.save_as(folder / f"{number + 1:04d}.dcm", enforce_file_format=True)
