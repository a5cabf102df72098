"""Structure sets: closed contours in the patient's space, and masks made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import ArrayLike
from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from medical_gans.errors import InputError
from medical_gans.io import mapped
from medical_gans.io.dicom.attributes import instance_reference, patient_and_study, series_number, stamp
from medical_gans.io.dicom.files import decimals, save_object
from medical_gans.io.dicom.headers import UNREADABLE, damaged, quiet, text
from medical_gans.io.dicom.polygons import area, filled, outlines
from medical_gans.io.dicom.uids import NewUIDs
from medical_gans.io.formats import lps_to_ras
from medical_gans.io.writing import whole_file

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
_OFF_SLICE = 0.25  # of the slice spacing: contours farther off a slice do not belong to this grid
_DECIMALS = 4  # of a millimetre
_CONTOUR_DATA = Tag("ContourData")
_COLORS = ((255, 160, 0), (0, 190, 255), (255, 70, 130), (120, 220, 60), (180, 120, 255), (255, 230, 60))
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which every structure set names here


@dataclass(frozen=True, eq=False)
class Structure:
    """A named region of closed planar contours.

    Attributes:
        name: ROIName.
        contours: each ``(points, 3)``, mm in LPS as DICOM counts; inside is what an odd number of them enclose.
        kind: RTROIInterpretedType, such as ``GTV``, ``ORGAN`` or ``EXTERNAL``.
        volume_ml: enclosed, where it was computed.
    """

    name: str
    contours: tuple[np.ndarray, ...]
    kind: str = ""
    volume_ml: float | None = None


@dataclass(frozen=True)
class StructureVolume:
    """What contours of a mask enclose, beside what the mask holds."""

    mask_ml: float
    contour_ml: float

    @property
    def error_percent(self) -> float:
        """How much more the contours enclose."""
        return 100 * (self.contour_ml / self.mask_ml - 1)


def structure_from_mask(
    name: str, mask: np.ndarray, affine: ArrayLike, kind: str = ""
) -> tuple[Structure, StructureVolume]:
    """Contours of a mask ``(i, j, k)``, slice by slice along k.

    Read back on the same grid they give the mask exactly. Lines pass half-way between pixel centres and so cut
    corners: they enclose a little less than the mask, which the volumes state.

    Raises:
        InputError: the mask is empty.
    """
    lps = lps_to_ras(affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    contours, squares = [], 0.0
    voxels = 0
    for k in range(mask.shape[2]):
        plane = mask[:, :, k]
        voxels += int(np.count_nonzero(plane))
        for polygon in outlines(plane) if plane.any() else ():
            index = np.column_stack([polygon, np.full(len(polygon), k)])
            contours.append(index @ lps[:3, :3].T + lps[:3, 3])
            squares += area(polygon)
        mapped.give_back()
    if not contours:
        raise InputError(f"The mask of {name} is empty. Give a mask with content.")
    pixel_ml = float(spacing.prod()) / 1000
    volume = StructureVolume(float(voxels) * pixel_ml, squares * pixel_ml)
    return Structure(name, tuple(contours), kind, volume.contour_ml), volume


def structure_mask(structure: Structure, shape: tuple[int, ...], affine: ArrayLike) -> np.ndarray:
    """Voxels ``(i, j, k)`` whose centres a structure encloses; its contours must lie in the slices along k.

    Raises:
        InputError: contours lie between or across the slices, or none is on the grid.
    """
    inverse = np.linalg.inv(lps_to_ras(affine))
    planes: dict[int, list[np.ndarray]] = {}
    for contour in structure.contours:
        index = contour @ inverse[:3, :3].T + inverse[:3, 3]
        k = round(float(index[:, 2].mean()))
        if np.abs(index[:, 2] - k).max() > _OFF_SLICE:
            raise InputError(
                f"Structure {structure.name} has contours that do not lie in the slices of the image. Give the image "
                "that it was drawn on, or a mask."
            )
        planes.setdefault(k, []).append(index[:, :2])
    mask = mapped.zeros(shape, bool)
    for k, polygons in planes.items():
        if 0 <= k < shape[2]:
            mask[:, :, k] = filled(polygons, (shape[0], shape[1]))
    if not mask.any():
        raise InputError(f"Structure {structure.name} encloses no voxel of the image. Check that both belong together.")
    return mask


def read_structure_set(path: Path) -> tuple[list[Structure], Dataset]:
    """The structures of an RTSTRUCT that have closed contours, and the whole object.

    Raises:
        InputError: it is no structure set, or damaged.
    """
    with quiet():
        try:
            dataset = pydicom.dcmread(path)
            if dataset.SOPClassUID != RTStructureSetStorage:
                raise InputError(f"{path} is no structure set (RTSTRUCT).")
            kinds = {
                int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType") or "")
                for item in dataset.get("RTROIObservationsSequence") or ()
            }
            drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
            structures = []
            for roi in dataset.StructureSetROISequence:
                number = int(roi.ROINumber)
                contours = _closed_contours(drawn[number]) if number in drawn else ()
                if contours:
                    structures.append(Structure(str(roi.ROIName), contours, kinds.get(number, "")))
        except InputError:
            raise
        except UNREADABLE as error:
            raise damaged(path) from error
    return structures, dataset


def write_structure_set(
    path: Path, structures: Sequence[Structure], headers: Sequence[Dataset], *, label: str, seed: int | None = None
) -> Path:
    """Write an RTSTRUCT on an image series, whole or not at all.

    Implicit VR, since explicit VR has no room for long contours.

    Args:
        path: file.
        structures: with contours in the slices of the series.
        headers: of the series, with identity, position and SOP instances.
        label: StructureSetLabel, 16 characters at most.
        seed: None makes new UIDs; a number makes the same ones for the same content.
    """
    with quiet():
        names = [(one.name, one.kind) for one in structures]
        points = b"".join(contour.tobytes() for one in structures for contour in one.contours)
        uids = NewUIDs(seed, text(headers[0], "SeriesInstanceUID"), label, names, points)
        dataset = new_structure_set(headers, uids, label, datetime.now().astimezone())
        finder = SliceFinder(headers)
        for structure in structures:
            add_structure(dataset, structure, finder)
        with whole_file(path) as temporary:
            save_object(temporary, dataset, ImplicitVRLittleEndian)
    return path


def new_structure_set(headers: Sequence[Dataset], uids: NewUIDs, label: str, moment: datetime) -> Dataset:
    """A structure set without structures on the series of `headers`."""
    dataset = patient_and_study(headers[0])
    stamp(dataset, moment)
    dataset.SOPClassUID, dataset.Modality = RTStructureSetStorage, "RTSTRUCT"
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = uids("structures"), uids("series")
    dataset.SeriesNumber = series_number(headers[0], 1)
    dataset.InstanceNumber = 1
    dataset.OperatorsName = None
    dataset.SeriesDescription = dataset.StructureSetLabel = label[:16]
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.ContentDate, dataset.ContentTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [frame_reference(headers)]
    dataset.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = headers[0].get("PositionReferenceIndicator")
    return dataset


def frame_reference(headers: Sequence[Dataset]) -> Dataset:
    """Frame of reference, study, series and all images that contours are drawn on."""
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ContourImageSequence = [instance_reference(header) for header in headers]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_COMPONENT, headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def add_structure(dataset: Dataset, structure: Structure, finder: SliceFinder) -> None:
    """Append a structure to a structure set under the next free number."""
    for keyword in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, [])
    number = 1 + max((int(roi.ROINumber) for roi in dataset.StructureSetROISequence), default=0)
    dataset.StructureSetROISequence.append(_roi(number, structure, dataset.FrameOfReferenceUID))
    drawn = Dataset()
    drawn.ROIDisplayColor = list(_COLORS[(number - 1) % len(_COLORS)])
    drawn.ReferencedROINumber = number
    drawn.ContourSequence = [_contour_item(contour, finder) for contour in structure.contours]
    dataset.ROIContourSequence.append(drawn)
    observation = Dataset()
    observed = [int(item.ObservationNumber) for item in dataset.RTROIObservationsSequence]
    observation.ObservationNumber = 1 + max(observed, default=0)
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType, observation.ROIInterpreter = structure.kind, None
    dataset.RTROIObservationsSequence.append(observation)


class SliceFinder:
    """Finds the image of a series that points lie on."""

    def __init__(self, headers: Sequence[Dataset]) -> None:
        row, column = np.array(headers[0].ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        self.normal = np.cross(row, column)
        self._headers = headers
        self._places = np.array([header.ImagePositionPatient for header in headers], dtype=np.float64) @ self.normal
        self.spacing = float(np.ptp(self._places)) / max(len(headers) - 1, 1)

    def __call__(self, points: np.ndarray) -> Dataset | None:
        """The image within half a slice of all points, LPS mm; None where there is none."""
        along = points @ self.normal
        nearest = int(np.abs(self._places - along.mean()).argmin())
        near = np.abs(along - self._places[nearest]).max() <= (0.5 + 1e-3) * self.spacing
        return self._headers[nearest] if near else None


def _closed_contours(drawn: Dataset) -> tuple[np.ndarray, ...]:
    return tuple(
        np.array(item.ContourData, dtype=np.float64).reshape(-1, 3)
        for item in drawn.get("ContourSequence") or ()
        if item.ContourGeometricType in _CLOSED and len(item.ContourData) >= 9
    )


def _roi(number: int, structure: Structure, frame_of_reference_uid: str) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, structure.name
    roi.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    if structure.volume_ml is not None:
        roi.ROIVolume = decimals([structure.volume_ml], _DECIMALS)[0]
    return roi


def _contour_item(contour: np.ndarray, finder: SliceFinder) -> Dataset:
    item = Dataset()
    if (header := finder(contour)) is not None:
        item.ContourImageSequence = [instance_reference(header)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(contour)
    item.add(DataElement(_CONTOUR_DATA, "OB", _decimal_strings(contour)))
    return item


def _decimal_strings(contour: np.ndarray) -> bytes:
    """Points as implicit VR holds them, which names no VR: as OB, pydicom does not check number by number."""
    text = "\\".join(map(_decimal_string, (contour.ravel() + 0.0).tolist())).encode()
    return text + b" " * (len(text) % 2)


@lru_cache(maxsize=1 << 14)  # on an axial grid the same few coordinates come again and again; it takes -0.0 for 0.0
def _decimal_string(millimetres: float) -> str:
    return f"{millimetres:.{_DECIMALS}f}"
