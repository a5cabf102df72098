"""One door to nodules, whatever they are stored in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from medical_gans.errors import InputError, SettingError
from medical_gans.io.nodules.archive import read_archive
from medical_gans.io.nodules.lidc import is_lidc, lidc_database, read_lidc
from medical_gans.io.nodules.patches import NodulePatches
from medical_gans.io.nodules.positions import find_table, read_positions
from medical_gans.io.nodules.series import Marked, read_marked

UNDERSTOOD = (
    "an .npz with hu, malignancy, patient and pixel_spacing_mm; a folder of CT series (DICOM, NIfTI, MetaImage) with a "
    "table annotations.csv (seriesuid, coordX, coordY, coordZ in LPS mm as LUNA16, malignancy, patient); or the folder "
    "of LIDC-IDRI"
)


def read_nodules(
    dataset_dir: str | os.PathLike[str],
    *,
    size: int = 56,
    spacing: float | None = 0.6,
    spatial_dims: int = 2,
    window: Sequence[float] = (-1000, 400),
    completeness: str | os.PathLike[str] | None = None,
) -> NodulePatches:
    """Every nodule of a data set as a patch about its centre.

    Args:
        dataset_dir: see `UNDERSTOOD`.
        size: voxels along each edge of a patch.
        spacing: mm of a voxel along each axis; None keeps the pixels of the source (npz only).
        spatial_dims: 2 for axial slices, 3 for cubes (CT series only).
        window: HU that patches are clipped to.
        completeness: CSV file to be written that says of each CT series how many nodules were read, and why not all.

    Raises:
        InputError: nothing usable is there, or the source contradicts itself.
        SettingError: a setting is out of range.
        OutputError: the CSV file cannot be written.
    """
    low, high = (float(edge) for edge in window)
    if size < 1 or (spacing is not None and not spacing > 0) or spatial_dims not in (2, 3) or not low < high:
        raise SettingError(
            f"size is {size}, spacing {spacing}, spatial_dims {spatial_dims}, window {list(window)}; needed are a "
            "positive size and spacing (mm), 2 or 3 dimensions, and a window from low to high HU."
        )
    place = Path(os.path.expanduser(dataset_dir))
    if not place.exists():
        raise InputError(f"{place} does not exist. Give {UNDERSTOOD}.")
    if place.is_dir() and len(archives := list(place.glob("*.npz"))) == 1:
        place = archives[0]
    if place.suffix.lower() == ".npz":
        if spatial_dims == 3:
            raise InputError(f"{place} holds single slices, but spatial_dims is 3. Give CT series with positions.")
        return read_archive(place, size, spacing, (low, high))
    nodules, images = _listed(place)
    if spacing is None:
        raise SettingError("spacing is null, but CT series differ in voxel size. Give spacing in mm, such as 0.6.")
    return read_marked(
        nodules,
        images,
        size=size,
        spacing=spacing,
        spatial_dims=spatial_dims,
        window=(low, high),
        completeness=None if completeness is None else Path(completeness),
    )


def _listed(place: Path) -> tuple[list[Marked], Path]:
    """Nodules and the folder of their CT series."""
    if place.is_file() and place.suffix.lower() == ".csv":
        return read_positions(place), place.parent
    if place.is_dir():
        if table := find_table(place):
            return read_positions(table), place
        if is_lidc(place):
            return read_lidc(lidc_database()), place
    raise InputError(f"{place} holds no nodules that can be read. Understood are: {UNDERSTOOD}.")
