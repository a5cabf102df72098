"""Where a NIfTI image lies: sform, qform, units, and what to do where they are spoilt or contradict each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.grid import Affine, check_affine, corners, largest_distance

_UNITS = {0: ("mm", 1.0), 1: ("metres", 1e3), 2: ("mm", 1.0), 3: ("microns", 1e-3)}
_LIKELY_EDGES = (0.02, 60.0)  # mm, of a voxel of a person
_POSSIBLE_EDGES = (0.001, 200.0)
_UNIT_LENGTH = 1e-6, 1e-3  # of a quaternion beyond 1: rounding of 32 bits, and what still is one
_LAST_CODE = 5  # of what sform and qform map to
_APART = 0.2  # of the smallest voxel edge, at the worst corner: here sform and qform contradict each other


def nifti_affine(header: Any, shape: tuple[int, ...], path: Path, said: list[str], doubts: list[str]) -> Affine:
    """(4, 4) to RAS+ mm: the sform where it is usable, else the qform.

    Args:
        header: of nibabel, of any class.
        shape: of the volume.
        path: for messages.
        said: gets a sentence for what was passed over or converted.
        doubts: gets a sentence for what contradicts the reading that was taken.

    Raises:
        InputError: neither form is usable, or its voxels are of no size that an image of a person has.
    """
    factor = _millimetres(header, path, said, doubts)
    sform, why_no_sform = _usable(_sform, header, path, "sform_code")
    qform, why_no_qform = _usable(_qform, header, path, "qform_code")
    taken = sform if sform is not None else qform
    if taken is None:
        if why_no_sform is None and why_no_qform is None:
            raise InputError(
                f"{path} does not say how it lies in the patient (sform and qform codes are 0), so left and "
                "right are unknown. Convert it again from its source, or set the sform."
            )
        raise why_no_sform or why_no_qform  # type: ignore[misc]  # one of them is there
    for form, affine in (("sform", sform), ("qform", qform)):
        if affine is not None and int(header[f"{form}_code"]) > _LAST_CODE:
            said.append(f"{form}_code is {int(header[f'{form}_code'])}, which means nothing; the {form} counts as set.")
    name, other = ("sform", "qform") if sform is not None else ("qform", "sform")
    if unusable := (why_no_qform if sform is not None else why_no_sform):
        said.append(f"The {other} cannot be used, the {name} was taken ({_reason(unusable, path)}).")
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    second: Affine | None = qform
    if sform is not None and second is None and why_no_qform is None:
        if not (np.isfinite(spacing) & (spacing > 0)).all():
            said.append(f"pixdim is {by_numbers(spacing)}; the spacing was taken from the sform.")
        else:
            second, other = sform.copy(), "pixdim"
            second[:3, :3] *= spacing / np.linalg.norm(sform[:3, :3], axis=0)
    elif qform is not None:
        length = float(np.linalg.norm([float(header[f"quatern_{axis}"]) for axis in "bcd"]))
        if length > 1 + _UNIT_LENGTH[0] / 10:
            said.append(f"The quaternion of the qform is too long by {length - 1:.1g} and was shortened to 1.")
    if sform is not None and second is not None:
        apart = largest_distance(corners(shape, sform), corners(shape, second))
        edge = float(np.linalg.norm(sform[:3, :3], axis=0).min())
        if apart > _APART * edge:
            doubts.append(
                f"sform and {other} contradict each other: they place the corners of the image up to "
                f"{apart * factor:.3g} mm apart. The sform was taken; programs that take the other see another image."
            )
    affine = taken.copy()
    affine[:3] *= factor
    return affine


def _usable(
    read: Callable[[Any, Path], Affine], header: Any, path: Path, code: str
) -> tuple[Affine | None, InputError | None]:
    """An affine, or why there is none: neither where its code says that none was stored."""
    if int(header[code]) <= 0:
        return None, None
    try:
        affine = read(header, path)
        check_affine(affine, path)
    except InputError as error:
        return None, error
    return affine, None


def _sform(header: Any, path: Path) -> Affine:
    return np.array([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]], dtype=np.float64)


def _qform(header: Any, path: Path) -> Affine:
    """By method 2 of the standard, with the quaternion at length 1."""
    from nibabel.quaternions import quat2mat

    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    handedness = float(header["pixdim"][0])
    length = float(np.linalg.norm(vector))
    if not length <= 1 + _UNIT_LENGTH[1]:
        raise InputError(f"{path} has a quaternion of length {length:.3g} in its qform. Export the image again.")
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            f"{path} has a spacing of {by_numbers(spacing)} mm; every edge of a voxel must be positive. "
            "Correct the header or export the image again."
        )
    if handedness not in (-1, 0, 1):
        raise InputError(
            f"{path} does not say whether its qform is mirrored: pixdim[0] is {handedness:g}, not 1 or -1. "
            "Export the image again."
        )
    rotation = quat2mat([math.sqrt(max(0.0, 1 - length**2)), *(vector / max(length, 1.0))])
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * [1, 1, -1 if handedness == -1 else 1]
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _millimetres(header: Any, path: Path, said: list[str], doubts: list[str]) -> float:
    """mm per unit of length of the header: as it says, unless only mm make voxels of a person."""
    code = int(header["xyzt_units"]) & 7
    if code not in _UNITS:
        said.append(f"The unit of length has the unknown code {code}; mm were taken.")
    name, factor = _UNITS.get(code, ("mm", 1.0))
    rows = np.array([header["srow_x"], header["srow_y"], header["srow_z"]], dtype=np.float64)[:, :3]
    edges = np.linalg.norm(rows, axis=0) if int(header["sform_code"]) > 0 else np.asarray(header["pixdim"][1:4], float)
    if not (np.isfinite(edges) & (edges > 0)).all():
        return factor  # refused elsewhere, or the other form is taken
    low, high = float(edges.min()), float(edges.max())
    if factor != 1 and _LIKELY_EDGES[0] <= factor * low and factor * high <= _LIKELY_EDGES[1]:
        said.append(f"The header counts in {name}; lengths were converted to mm.")
        return factor
    if factor != 1 and _LIKELY_EDGES[0] <= low and high <= _LIKELY_EDGES[1]:
        doubts.append(
            f"The header says that it counts in {name}, which would make voxels of {by_numbers(edges * factor)} mm; "
            "mm were taken."
        )
        return 1.0
    if factor * low < _POSSIBLE_EDGES[0] or factor * high > _POSSIBLE_EDGES[1]:
        raise InputError(
            f"{path} has a spacing of {by_numbers(edges * factor)} mm, which no image of a person has. Correct the "
            "header (units, sform, pixdim) or export the image again."
        )
    return factor


def by_numbers(values: np.ndarray) -> str:
    """Lengths as people write them: `0.9 x 0.9 x 3`."""
    return " x ".join(f"{value:g}" for value in values)


def _reason(error: InputError, path: Path) -> str:
    """The finding of a refusal, without the path and the remedy."""
    return str(error).removeprefix(f"{path} ").split(". ")[0].split("; ")[0].rstrip(".")
