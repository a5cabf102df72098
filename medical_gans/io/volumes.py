"""An image file or DICOM folder becomes a Volume, or an error that says why not; a volume becomes NIfTI.

Affines map voxel indices (i, j, k) to RAS+ millimetres, whatever the file counts in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import IOBase
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike

from medical_gans.errors import InputError
from medical_gans.io import mapped
from medical_gans.io.formats import (
    IMAGE_SUFFIXES,
    KEPT_TYPES,
    Affine,
    by,
    check_affine,
    check_finite,
    corners,
    image_suffix,
    integer_type,
    largest_distance,
    may_hold_dicom,
    without_missing,
)
from medical_gans.io.writing import whole_file

if TYPE_CHECKING:
    import nibabel as nib
    import pydicom

    from medical_gans.io.dicom.index import DicomSource

_ONE_GRID = 0.2  # of a voxel, that programs which round leave between images of one grid
_LABEL_TOLERANCE = 1e-3  # around a whole number, that interpolation and scaling leave
_GRID_TOLERANCE = 0.01  # of the smallest voxel edge, at the worst corner
_NIFTI_1_TOLERANCE = 1e-4  # mm; ITK, and so 3D Slicer and ITK-SNAP, cannot open NIfTI-2
_QFORM_TOLERANCE = 1e-3  # mm at the worst corner; a sheared affine is further off and gets no qform


@dataclass(frozen=True, eq=False)
class Volume:
    """An image with its place in the patient."""

    array: np.ndarray  # (i, j, k) in stored index order; real values (HU for CT)
    affine: Affine  # (4, 4), voxel index -> RAS+ mm
    source: Path
    modality: str | None = None  # "MR" or "CT" when the file says so (DICOM)
    headers: tuple[pydicom.Dataset, ...] = ()  # DICOM source headers in slice order, without pixel data
    repairs: tuple[str, ...] = ()  # sentences: what the intake mended
    doubts: tuple[str, ...] = ()  # sentences: where the source contradicts itself, and which reading was taken

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths (mm) along i, j, k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person should know of the intake."""
        return *self.repairs, *self.doubts

    def check_certain(self) -> None:
        """Refuse a volume that could be read in two ways.

        Raises:
            InputError: there are doubts.
        """
        if self.doubts:
            raise InputError(f"{self.source}: {self.doubts[0]} strict refuses what can be read in two ways.")


def read_volume(
    source: DicomSource,
    series_uid: str | None = None,
    repair: bool = False,
    *,
    select: str | None = None,
    modality: str | None = None,
) -> Volume:
    """Read a 3D image: NIfTI, MetaImage, NRRD, MGH, or a DICOM series (strict intake).

    Integer types are kept where the stored values are the real ones, everything else is float32.

    Args:
        source: image file, or anything that `read_series` takes: a DICOM folder, a DICOMDIR, a list of files.
        series_uid: which series to take when a DICOM source holds several.
        repair: resample a tilted DICOM stack instead of refusing it.
        select: words of the header that choose where a source holds several: ``water``, ``echo 2``, ``volume 3``.
        modality: MR or CT: what a DICOM source is read for, so that series of other kinds are passed over.

    Raises:
        InputError: the image is missing, damaged, not 3D, in colour, constant, without a usable
            grid, or holds NaN or infinity.
    """
    volume = _load(source, series_uid, repair, select, modality)
    low, high = mapped.extremes(volume.array)
    if low == high:
        raise InputError(
            f"{volume.source} is constant: every voxel is {low:g}. An image with content is needed; "
            "check that the right file was exported."
        )
    return volume


def read_mask(path: str | os.PathLike[str]) -> Volume:
    """Read a mask as a boolean volume, true where the stored value exceeds 0.5.

    Raises:
        InputError: as `read_volume`, or the mask has nothing in it.
    """
    volume = _load(path)
    inside = volume.array > 0.5
    if not inside.any():
        raise InputError(f"Mask {volume.source} is empty: no voxel exceeds 0.5. Give a mask with content.")
    return Volume(inside, volume.affine, volume.source)


def read_label_map(path: str | os.PathLike[str]) -> Volume:
    """Read whole numbers from 0 to 255 as uint8; a map without any label is allowed.

    Raises:
        InputError: as `read_volume`, or the values are no labels.
    """
    volume = _load(path)
    rounded = np.rint(volume.array)
    odd = volume.array[(np.abs(rounded - volume.array) > _LABEL_TOLERANCE) | (rounded < 0) | (rounded > 255)]
    if odd.size:
        raise InputError(f"{path} is no label map: it holds {odd[0]:g}. Whole numbers from 0 to 255 are needed.")
    return Volume(rounded.astype(np.uint8), volume.affine, volume.source)


def save_volume(path: str | os.PathLike[str], array: np.ndarray, affine: ArrayLike) -> Path:
    """Write NIfTI whole or not at all, with sform and qform set and millimetres as unit.

    Types stay as given (int16 for HU), except those that NIfTI readers do not share: bool becomes
    uint8, other floats float32, other integers what holds them. The affine is exact where it came
    from a NIfTI file. NIfTI-1 holds it in 32 bits: 1e-5 mm for origins below 256 mm, 6e-5 mm below 2 m;
    beyond that NIfTI-2 is written, which fewer programs open.

    Args:
        path: file name ending in .nii or .nii.gz.
        array: (i, j, k).
        affine: (4, 4), voxel index -> RAS+ mm.

    Raises:
        OutputError: the disk is full or the place cannot be written.
    """
    import nibabel as nib

    target, grid = Path(path), np.asarray(affine, dtype=np.float64)
    if image_suffix(target) not in (".nii", ".nii.gz"):
        raise ValueError(f"{target} must end in .nii or .nii.gz")
    if array.ndim != 3 or grid.shape != (4, 4):
        raise ValueError(f"need a 3D array and a 4 x 4 affine, got {array.shape} and {grid.shape}")
    stored = array.astype(_stored_type(array), copy=False)
    fits = np.abs(grid.astype(np.float32).astype(np.float64) - grid).max() <= _NIFTI_1_TOLERANCE
    image = (nib.Nifti1Image if fits else nib.Nifti2Image)(stored, grid)
    image.set_sform(grid, code="scanner")
    image.set_qform(grid, code="scanner", strip_shears=True)
    points, by_qform = corners(array.shape, grid), corners(array.shape, image.get_qform())
    if largest_distance(points, by_qform) > _QFORM_TOLERANCE:
        image.set_qform(None)
    image.header.set_xyzt_units("mm")
    with whole_file(target) as temporary:
        (_save_mapped if mapped.is_mapped(stored) else nib.save)(image, temporary)
    return target


def aligned_to(first: Volume, second: Volume) -> Volume:
    """The second volume in the order of the first one's voxels, where both lie on one grid of the patient.

    Axes may be stored in another order or direction, and the grids may be apart by a fifth of a voxel, as programs that
    round leave them; that is said among the repairs.

    Raises:
        InputError: the grids differ.
    """
    to_first = np.linalg.inv(first.affine) @ second.affine
    turn = np.rint(to_first[:3, :3]).astype(int)
    if not np.array_equal(np.abs(turn) @ np.ones(3, int), np.ones(3, int)) or abs(np.linalg.det(turn)) != 1:
        check_same_grid(first, second)  # which says how far apart they are
        return second
    axes = [int(np.flatnonzero(row)[0]) for row in turn]
    flips = [int(turn[row, axis]) for row, axis in enumerate(axes)]
    array = second.array.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
    order = np.zeros((4, 4))
    order[3, 3] = 1.0
    for row, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        order[axis, row] = flip
        order[axis, 3] = second.array.shape[axis] - 1 if flip < 0 else 0.0
    stored = replace(second, array=array, affine=second.affine @ order)
    offset = largest_distance(corners(first.array.shape, first.affine), corners(array.shape, stored.affine))
    if array.shape != first.array.shape or offset > _ONE_GRID * min(*first.spacing, *second.spacing):
        check_same_grid(first, second)
    if not np.array_equal(turn, np.eye(3, dtype=int)):
        said = f"{_file(second)} is stored in another order of axes than {_file(first)}; it was brought to that order."
    elif offset > _GRID_TOLERANCE * min(*first.spacing, *second.spacing):
        said = f"{_file(second)} lies {offset:.2g} mm beside {_file(first)}, less than a fifth of a voxel: one grid."
    else:
        return stored
    return replace(stored, array=np.ascontiguousarray(array), repairs=(*second.repairs, said))


def _file(volume: Volume) -> str:
    return Path(volume.source).name


def check_same_grid(first: Volume, second: Volume) -> None:
    """Refuse two volumes whose voxels do not coincide (to a hundredth of the smallest voxel edge)."""
    shapes = first.array.shape, second.array.shape
    offset = largest_distance(corners(shapes[0], first.affine), corners(shapes[1], second.affine))
    if shapes[0] == shapes[1] and offset <= _GRID_TOLERANCE * min(*first.spacing, *second.spacing):
        return
    raise InputError(
        f"{first.source} and {second.source} lie on different grids: {by(shapes[0])} and {by(shapes[1])} "
        f"voxels, corners up to {offset:.3g} mm apart. Resample one onto the grid of the other."
    )


def _load(
    source: DicomSource,
    series_uid: str | None = None,
    repair: bool = False,
    select: str | None = None,
    modality: str | None = None,
) -> Volume:
    if not isinstance(source, str | os.PathLike):
        from medical_gans.io.dicom.series import read_series

        return read_series(source, series_uid, repair, select=select, modality=modality)
    path = Path(os.path.expanduser(source))
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist. Check the path.")
        path = _header_beside(path)
        suffix = image_suffix(path)
        if suffix is None and may_hold_dicom(path):
            from medical_gans.io.dicom.series import read_series

            return read_series(path, series_uid, repair, select=select, modality=modality)
        if suffix is None:
            raise InputError(
                f"{path} is no image that can be read ({', '.join(IMAGE_SUFFIXES)} or a DICOM folder). "
                "Convert it, for example to NIfTI."
            )
        volume = _reader(suffix)(path, select)
    except PermissionError as error:
        raise InputError(f"{path} may not be read: permission denied. Change its permissions.") from error
    check_affine(volume.affine, path)
    array, repairs = without_missing(volume.array)
    check_finite(array, path)
    return replace(volume, array=array, repairs=volume.repairs + repairs)


def _reader(suffix: str) -> Callable[[Path, str | None], Volume]:
    from medical_gans.io import image_files, nifti

    if suffix in (".nii", ".nii.gz", ".hdr", ".hdr.gz"):
        return nifti.read_nifti
    return image_files.read_mgh if suffix in (".mgz", ".mgh") else image_files.read_itk


def _header_beside(path: Path) -> Path:
    """The header of a pair where its voxels were named."""
    for suffix in (".img", ".img.gz"):
        if path.name.lower().endswith(suffix):
            for header in (".hdr", ".hdr.gz", ".HDR"):
                if (other := path.with_name(path.name[: -len(suffix)] + header)).is_file():
                    return other
    return path


def damaged_image(path: Path) -> InputError:
    """The error for an image file that cannot be read to its end."""
    return InputError(
        f"{path} cannot be read: the file is truncated, damaged, or not what its suffix says. Copy or export it again."
    )


def _save_mapped(image: nib.Nifti1Image, path: Path) -> None:
    """As `nibabel.save`, which writes slice by slice; the pages of each are given back."""
    from nibabel.openers import ImageOpener

    class Slices(ImageOpener):
        def write(self, content: bytes, /) -> int | None:
            written = super().write(content)
            mapped.give_back()
            return written

    with Slices(str(path), "wb") as stream:
        image.to_file_map(image.make_file_map({"image": cast(IOBase, stream)}))


def _stored_type(array: np.ndarray) -> np.dtype:
    if array.dtype == np.bool_:
        return np.dtype(np.uint8)
    if array.dtype in KEPT_TYPES:
        return array.dtype
    if array.dtype.kind in "iu":
        return integer_type(int(array.min()), int(array.max()))
    return np.dtype(np.float32)
