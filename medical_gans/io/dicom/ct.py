"""Volumes to series of single-frame files: CT, and beside it the MR where it had to be resampled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from medical_gans.io import mapped
from medical_gans.io.dicom.attributes import check_source, ct_image, illegal_values, mr_image, references_to
from medical_gans.io.dicom.ct_grid import SliceGrid, onto, slice_grid
from medical_gans.io.dicom.files import SharedElements, decimals
from medical_gans.io.dicom.headers import quiet, text
from medical_gans.io.dicom.uids import NewUIDs
from medical_gans.io.formats import Affine, integer_type, lps_to_ras
from medical_gans.io.ownership import Origin, Source
from medical_gans.io.writing import whole_folder

LOWEST_HU, HIGHEST_HU = -1024, 3071
CT_FOLDER = "ct"
MR_FOLDER = "mr_axial"
_LONGEST_DESCRIPTION = 64


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A synthetic CT as it was written.

    Attributes:
        folder: holds ``ct/`` and, where the MR was not axial, ``mr_axial/`` on the same grid.
        headers: of the CT's files in slice order, without pixel data.
        hounsfield: int16 HU as written, ``(column, row, slice)``.
        affine: ``(4, 4)``, its index -> RAS+ mm.
        is_native: whether it lies on the grid of its MR.
        warnings: sentences on what differs from the array that was given.
    """

    folder: Path
    headers: tuple[Dataset, ...]
    hounsfield: np.ndarray
    affine: Affine
    is_native: bool
    warnings: tuple[str, ...]


def write_ct_series(
    hounsfield: np.ndarray,
    affine: ArrayLike,
    source_headers: Sequence[Dataset],
    folder: str | os.PathLike[str],
    *,
    mr: np.ndarray | None = None,
    seed: int | None = None,
    description: str = "Synthetic CT from MR",
) -> CtSeries:
    """Write a synthetic CT as a CT series in the study and frame of reference of its MR, whole or not at all.

    An axial MR gives the CT on its own grid. For any other, tools lose contours, so CT and MR are resampled
    to one axial grid and both are written, and a warning says so.

    Args:
        hounsfield: whole HU, ``(i, j, k)``; for an axial MR, k counts its slices.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
        source_headers: of the MR, one per slice along k.
        folder: gets ``ct/`` and, where it is needed, ``mr_axial/``.
        mr: on the grid of `hounsfield`; needed where the MR is not axial.
        seed: None makes new UIDs; a number makes the same UIDs for the same content again.
        description: SeriesDescription, of which 64 characters are kept.

    Raises:
        InputError: as `check_source`.
        OutputError: the folder cannot be written.
    """
    with quiet():
        check_source(source_headers)
        grid = slice_grid(hounsfield.shape, affine)
        values, warnings = _within_limits(hounsfield)
        uids = NewUIDs(seed, text(source_headers[0], "SeriesInstanceUID"), b"" if seed is None else values.tobytes())
        moment = datetime.now().astimezone()
        if not grid.is_native:
            warnings.append(_resampled(grid, mr is not None))
        warnings += _about_source(source_headers[0])
        values = onto(grid, values, affine, LOWEST_HU)
        template = ct_image(source_headers, uids("ct"), description[:_LONGEST_DESCRIPTION], moment)
        sources = _sources(grid, source_headers, affine)
        with whole_folder(folder, _origin(source_headers)) as place:
            (place / CT_FOLDER).mkdir()
            planes = ((plane - np.int16(LOWEST_HU)).astype(np.uint16) for plane in _slices(values))
            headers = _write_slices(place / CT_FOLDER, planes, grid, template, sources, uids, "ct")
            if mr is not None and not grid.is_native:
                (place / MR_FOLDER).mkdir()
                resampled = onto(grid, mr, affine, min(float(mapped.extremes(mr)[0]), 0.0))
                template = mr_image(source_headers, uids("mr"), _axial_name(source_headers[0]), moment)
                stored = _as_stored(resampled, template)
                _write_slices(place / MR_FOLDER, _slices(stored), grid, template, sources, uids, "mr")
    return CtSeries(Path(folder), headers, values, lps_to_ras(grid.affine), grid.is_native, tuple(warnings))


def _origin(headers: Sequence[Dataset]) -> Origin:
    named = text(headers[0], "SeriesInstanceUID") or text(headers[0], "SOPInstanceUID")
    return Origin("synthetic CT series", [Source((), named)])


def _write_slices(
    folder: Path,
    planes: Iterable[np.ndarray],
    grid: SliceGrid,
    template: Dataset,
    sources: Dataset | list[Dataset],
    uids: NewUIDs,
    kind: str,
) -> tuple[Dataset, ...]:
    """Write planes ``(column, row)`` of 16 bits as one file per slice; return the headers."""
    column, row, step = grid.spacing
    template.Columns, template.Rows = grid.shape[:2]
    template.PixelSpacing = decimals([row, column])
    template.SliceThickness = template.SpacingBetweenSlices = decimals([step])[0]
    template.ImageOrientationPatient = decimals(grid.orientation)
    normal = np.cross(*np.reshape(grid.orientation, (2, 3)))
    if isinstance(sources, Dataset):
        template.update(sources)
    shared = SharedElements(template)
    headers = []
    for k, plane in enumerate(planes):
        own = Dataset()
        own.SOPInstanceUID = uids(kind, k)
        own.InstanceNumber = k + 1
        own.ImagePositionPatient = decimals(grid.position(k))
        own.SliceLocation = decimals([float(np.dot(grid.position(k), normal))])[0]
        if not isinstance(sources, Dataset):
            own.update(sources[k])
        headers.append(Dataset({**dict(template.items()), **dict(own.items())}))  # far faster than Dataset.update
        shared.write(folder / f"{kind.upper()}{k + 1:04}.dcm", own, plane.T)
    return tuple(headers)


def _sources(grid: SliceGrid, headers: Sequence[Dataset], affine: ArrayLike) -> Dataset | list[Dataset]:
    """References to source images: on the native grid each slice to its own, else to all from every slice."""
    if not grid.is_native or len(headers) != grid.shape[2]:
        return references_to(headers)
    same_way = np.allclose(grid.affine[:3, 2], lps_to_ras(affine)[:3, 2])
    return [references_to([header]) for header in (headers if same_way else headers[::-1])]


def _within_limits(hounsfield: np.ndarray) -> tuple[np.ndarray, list[str]]:
    low, high = map(int, mapped.extremes(hounsfield))
    if low >= LOWEST_HU and high <= HIGHEST_HU:
        return hounsfield, []
    count = int(np.count_nonzero((hounsfield < LOWEST_HU) | (hounsfield > HIGHEST_HU)))
    sentence = (
        f"{count} voxels of {low} to {high} HU were clipped to [{LOWEST_HU}, {HIGHEST_HU}] HU in DICOM, "
        "as planning systems need; the NIfTI holds them as they are."
    )
    return np.clip(hounsfield, LOWEST_HU, HIGHEST_HU), [sentence]


def _slices(array: np.ndarray) -> Iterator[np.ndarray]:
    """Planes ``(column, row)``, one after the other."""
    for k in range(array.shape[2]):
        yield array[:, :, k]
        mapped.give_back()


def _resampled(grid: SliceGrid, with_mr: bool) -> str:
    size = " x ".join(str(length) for length in grid.shape)
    spacing = " x ".join(f"{edge:.3g}" for edge in grid.spacing)
    beside = f", and beside it the MR on the same grid ({MR_FOLDER}) for contouring" if with_mr else ""
    return (
        "The MR is not axial, and contouring tools lose structures on such grids: the DICOM CT was resampled "
        f"to an axial grid ({size} voxels of {spacing} mm){beside}. The NIfTI keeps the grid of the MR."
    )


def _about_source(header: Dataset) -> list[str]:
    sentences = []
    if not header.get("PatientID"):
        sentences.append("The MR has no PatientID; archives may file the CT under another patient.")
    if illegal := illegal_values(header):
        sentences.append(
            f"DICOM does not allow what the MR has as {' and '.join(illegal)} (too long, or characters not allowed); "
            "left empty in the CT."
        )
    return sentences


def _axial_name(header: Dataset) -> str:
    return f"{header.get('SeriesDescription') or 'MR'} axial"[-_LONGEST_DESCRIPTION:]


def _as_stored(real: np.ndarray, image: Dataset) -> np.ndarray:
    """16-bit pixels of an MR, with a rescale only where whole numbers of 16 bits do not hold its values."""
    low, high = map(float, mapped.extremes(real))
    kind = integer_type(int(low), int(high)) if real.dtype.kind in "iu" else None
    if kind in (np.int16, np.uint16):
        image.PixelRepresentation = int(kind == np.int16)
        return real.astype(kind)
    slope = float(format_number_as_ds((high - low) / 65535 or 1.0))
    image.PixelRepresentation = 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = decimals([slope], 16)[0], decimals([low])[0], "US"
    intercept = float(image.RescaleIntercept)
    return np.rint((real - intercept) / slope).clip(0, 65535).astype(np.uint16)
