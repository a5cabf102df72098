"""Label maps as DICOM Segmentation objects, through highdicom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from medical_gans import __version__
from medical_gans.errors import InputError
from medical_gans.io.dicom.attributes import patient_and_study, series_number, stamp
from medical_gans.io.dicom.files import decimals
from medical_gans.io.dicom.headers import UNREADABLE, damaged, quiet, text
from medical_gans.io.dicom.uids import NewUIDs
from medical_gans.io.formats import by
from medical_gans.io.volumes import Volume
from medical_gans.io.writing import whole_file

LESION = Code("52988006", "SCT", "Lesion")


def write_segmentation(
    path: Path,
    labels: np.ndarray,
    names: Mapping[int, str],
    headers: Sequence[Dataset],
    *,
    seed: int | None = None,
    segment_type: Code = LESION,
    description: str = "Segmentation (research)",
) -> Path:
    """Write a label map as a binary DICOM SEG on an image series, whole or not at all.

    Args:
        path: file.
        labels: ``(column, row, slice)`` on the grid of the series; 0 is background.
        names: of each label.
        headers: of the series, or of the frames of an enhanced multi-frame image, in slice order, as `Volume.headers`
            holds them.
        seed: None makes new UIDs; a number makes the same ones for the same content.
        segment_type: coded type of all segments.
        description: SeriesDescription.

    Raises:
        InputError: a label has no name, nothing is labelled, or the images do not fit the labels.
    """
    present = [int(label) for label in np.unique(labels) if label]
    if not present or not set(present) <= set(names):
        missing = sorted(set(present) - set(names))
        raise InputError(f"The label map has {f'labels without a name: {missing}' if present else 'no label but 0'}.")
    if len(headers) != labels.shape[2]:
        raise InputError(
            f"A segmentation of {by(labels.shape)} voxels needs an image or frame per slice, and the series has "
            f"{len(headers)}. Give the series that was segmented."
        )
    import highdicom

    positions = [np.array(header.ImagePositionPatient, dtype=np.float64) for header in headers]
    spacing = float(np.linalg.norm(positions[-1] - positions[0])) / max(len(positions) - 1, 1)
    renumbered = np.searchsorted([0, *present], labels).astype(np.uint8)
    with quiet():
        uids = NewUIDs(seed, text(headers[0], "SeriesInstanceUID"), renumbered.tobytes())
        segmentation = highdicom.seg.Segmentation(
            source_images=_source_images(headers, spacing),
            pixel_array=np.ascontiguousarray(renumbered.transpose(2, 1, 0)),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_segments([names[label] for label in present], segment_type),
            series_instance_uid=uids("series"),
            series_number=series_number(headers[0], 3000),
            sop_instance_uid=uids("segmentation"),
            instance_number=1,
            manufacturer="medical-gans",
            manufacturer_model_name="medical-gans",
            software_versions=__version__,
            device_serial_number="none",
            series_description=description,
        )
        _name_stored_frames(segmentation, headers)
        stamp(segmentation, datetime.now().astimezone())
        with whole_file(path) as temporary:
            segmentation.save_as(temporary)
    return path


def _segments(names: Sequence[str], segment_type: Code) -> list[Any]:
    """Descriptions of the segments 1, 2, ..., in the order of their names."""
    import highdicom

    program = highdicom.AlgorithmIdentificationSequence("medical-gans", codes.DCM.ArtificialIntelligence, __version__)
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=segment_type,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=program,
        )
        for number, name in enumerate(names, start=1)
    ]


def _source_images(headers: Sequence[Dataset], spacing: float) -> list[Dataset]:
    """What highdicom takes: the images of a series, or one enhanced image with a frame per slice.

    Raises:
        InputError: the slices come from several multi-frame files.
    """
    if "ReferencedFrameNumber" not in headers[0]:
        return [_complete(header, spacing) for header in headers]
    if len({header.SOPInstanceUID for header in headers}) > 1:
        raise InputError(
            "The slices of this volume come from several multi-frame files, and a segmentation refers to one. Write "
            "NIfTI or a structure set."
        )
    image, shared = _complete(headers[0], spacing), Dataset()
    shared.PixelMeasuresSequence = [_only(image, "PixelSpacing", "SliceThickness", "SpacingBetweenSlices")]
    shared.PlaneOrientationSequence = [_only(image, "ImageOrientationPatient")]
    frames = []
    for header in headers:
        frame = Dataset()
        frame.PlanePositionSequence = [_only(header, "ImagePositionPatient")]
        frames.append(frame)
    image.NumberOfFrames = len(headers)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], frames
    return [image]


def _only(header: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    item.update({header[keyword].tag: header[keyword] for keyword in keywords if keyword in header})
    return item


def _name_stored_frames(segmentation: Dataset, headers: Sequence[Dataset]) -> None:
    """Let references to frames, which are counted in slice order, name frames as the file has them."""
    derivations = [
        derivation
        for frame in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
    ]
    items = [item for derivation in derivations for item in derivation.SourceImageSequence]
    for item in {id(item): item for item in items}.values():  # segments may share them
        if "ReferencedFrameNumber" in item:
            item.ReferencedFrameNumber = headers[item.ReferencedFrameNumber - 1].ReferencedFrameNumber


def _complete(header: Dataset, spacing: float) -> Dataset:
    """A header with all that highdicom copies from it; what the source lacks is empty."""
    complete = Dataset()
    complete.update(header)
    complete.update(patient_and_study(header))
    complete.file_meta = getattr(header, "file_meta", FileMetaDataset())
    if not complete.get("SliceThickness"):
        complete.SliceThickness = decimals([spacing])[0]
    return complete


def read_segmentation(path: Path, grid: Volume) -> dict[str, np.ndarray]:
    """Boolean masks ``(i, j, k)`` of the segments of a SEG by their labels, on the grid of a volume.

    Raises:
        InputError: it is no segmentation, or lies on another grid.
    """
    import highdicom

    with quiet():
        try:
            dataset = pydicom.dcmread(path)
            if dataset.SOPClassUID != SegmentationStorage:
                raise InputError(f"{path} is no segmentation (SEG).")
            segmentation = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
            found = segmentation.get_volume(combine_segments=False)
        except InputError:
            raise
        except (*UNREADABLE, RuntimeError) as error:
            raise damaged(path) from error
    names = [str(item.SegmentLabel) for item in segmentation.SegmentSequence]
    here = np.argwhere(found.array.any(axis=-1))
    lps = here @ found.affine[:3, :3].T + found.affine[:3, 3]
    inverse = np.linalg.inv(grid.affine)
    index = (lps * [-1, -1, 1]) @ inverse[:3, :3].T + inverse[:3, 3]
    place = np.rint(index).astype(int)
    if np.abs(index - place).max(initial=0) > 0.01 or (place < 0).any() or (place >= grid.array.shape).any():
        raise InputError(f"{path} lies on another grid than {grid.source}. Give the image that it was made on.")
    masks = {}
    for number, name in enumerate(names):
        masks[name] = np.zeros(grid.array.shape, dtype=bool)
        masks[name][tuple(place.T)] = found.array[tuple(here.T)][:, number] > 0
    return masks
