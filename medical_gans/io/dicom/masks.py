"""Structures of RTSTRUCT and SEG objects as masks on the grid of an image."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.uid import SegmentationStorage

from medical_gans.errors import InputError
from medical_gans.io.dicom.headers import UNREADABLE, damaged
from medical_gans.io.dicom.segmentation import read_segmentation
from medical_gans.io.dicom.structure_set import read_structure_set, structure_mask
from medical_gans.io.volumes import Volume


def read_dicom_structure(path: Path, name: str, grid: Volume) -> Volume:
    """One structure of an RTSTRUCT or SEG as a boolean volume on the grid of an image.

    Raises:
        InputError: the file holds no such structure, or it does not lie on the grid.
    """
    if _is_segmentation(path):
        masks = read_segmentation(path, grid)
        _check_name(path, name, list(masks))
        return Volume(masks[name], grid.affine, path)
    structures = {structure.name: structure for structure in read_structure_set(path)[0]}
    _check_name(path, name, list(structures))
    return Volume(structure_mask(structures[name], grid.array.shape, grid.affine), grid.affine, path)


def dicom_structure_names(path: Path) -> list[str]:
    """Names of the structures of an RTSTRUCT that have contours, or of the segments of a SEG.

    Raises:
        InputError: it is neither, or damaged.
    """
    if _is_segmentation(path):
        return [str(item.SegmentLabel) for item in pydicom.dcmread(path, stop_before_pixels=True).SegmentSequence]
    return [structure.name for structure in read_structure_set(path)[0]]


def _is_segmentation(path: Path) -> bool:
    try:
        return bool(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPClassUID == SegmentationStorage)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except UNREADABLE as error:
        raise damaged(path) from error


def _check_name(path: Path, name: str, known: list[str]) -> None:
    if name not in known:
        raise InputError(f"{path} has no structure {name}. It has {', '.join(sorted(known)) or 'none'}.")
