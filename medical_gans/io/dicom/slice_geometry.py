"""Slices of a series -> one regular grid, or a named refusal: gap, uneven spacing, tilt, mixed orientation.

Positions and orientations are those of DICOM (LPS mm, PS3.3 C.7.6.2.1.1). Slice numbers in messages
count from 1 along the slice normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medical_gans.errors import InputError
from medical_gans.io.grid import Affine, lps_to_ras

_ORIENTATION_JITTER = 1e-3  # largest difference of a direction cosine that counts as rounding
_NOT_ORTHOGONAL = 1e-3
_SPACING_JITTER = 0.01  # of the slice spacing, and never less than the rounding of positions
_ROUNDING = 0.02  # mm
_LATERAL_JITTER = 0.1  # of a pixel, over the whole stack
_SAME_PLACE = 0.01  # mm


def slice_directions(name: str, orientations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (3, 3) along a row, along a column and along the normal, one per row of the result.

    Args:
        name: what to call the series in messages.
        orientations: (slices, 6), ImageOrientationPatient of every slice.

    Raises:
        InputError: orientations differ by more than rounding, or are no pair of orthogonal axes.
    """
    spread = np.abs(orientations - orientations[0]).max(axis=1)
    if spread.max() > _ORIENTATION_JITTER:
        count = len(np.unique(np.round(orientations, 2), axis=0))
        raise InputError(
            f"{name} mixes slices of {max(count, 2)} orientations (a localizer or several stacks). "
            "Export each stack as its own series."
        )
    row, column = orientations.mean(axis=0).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(row @ column) > _NOT_ORTHOGONAL or np.abs(np.array(lengths) - 1).max() > _NOT_ORTHOGONAL:
        raise InputError(
            f"{name} has an ImageOrientationPatient that is no pair of orthogonal unit vectors. "
            "Export the series again."
        )
    row = row / lengths[0]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    return np.stack([row, np.cross(normal, row), normal])


def at_one_place(positions: NDArray[np.float64]) -> list[list[int]]:
    """Indices of slices grouped by position; `positions` (slices, 3) is ordered along the normal."""
    groups: list[list[int]] = [[0]]
    for index in range(1, len(positions)):
        if np.linalg.norm(positions[index] - positions[groups[-1][0]]) < _SAME_PLACE:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def stack_affine(
    name: str,
    positions: NDArray[np.float64],
    directions: NDArray[np.float64],
    pixel_spacing: tuple[float, float],
    allow_tilt: bool = False,
) -> Affine:
    """Affine (column, row, slice) -> RAS+ mm of slices ordered along the normal.

    Args:
        name: what to call the series in messages.
        positions: (slices, 3), ImagePositionPatient.
        directions: as `slice_directions` gives them.
        pixel_spacing: mm between rows, mm between columns, as in PixelSpacing.
        allow_tilt: give a steadily sheared stack an affine whose slice step leans, instead of refusing it.

    Raises:
        InputError: a slice is missing, spacing is uneven, or the stack is tilted.
    """
    if len(positions) < 2:
        raise InputError(
            f"{name} has slices at {len(positions)} position only; a volume needs at least 2. Export the whole series."
        )
    row, column, normal = directions
    along = (positions - positions[0]) @ normal
    drift = _drift(name, positions, directions, _LATERAL_JITTER * min(pixel_spacing), allow_tilt)
    _check_spacing(name, along)
    spacing = along[-1] / (len(along) - 1)
    affine = np.eye(4)
    affine[:3, 0] = row * pixel_spacing[1]
    affine[:3, 1] = column * pixel_spacing[0]
    affine[:3, 2] = (normal + drift @ directions[:2]) * spacing
    affine[:3, 3] = positions[0]
    return lps_to_ras(affine)


def _drift(
    name: str,
    positions: NDArray[np.float64],
    directions: NDArray[np.float64],
    tolerance: float,
    allow_tilt: bool,
) -> NDArray[np.float64]:
    """How far the slices move along rows and columns per mm along the normal: (0, 0), or that of a tilted gantry."""
    sideways = (positions - positions[0]) @ directions[:2].T
    if np.linalg.norm(sideways, axis=1).max() <= tolerance:
        return np.zeros(2)
    along = (positions - positions[0]) @ directions[2]
    drift = sideways[-1] / max(along[-1], _SAME_PLACE)
    if np.linalg.norm(sideways - along[:, None] * drift, axis=1).max() <= max(tolerance, _ROUNDING):
        if allow_tilt:
            return np.asarray(drift, dtype=np.float64)
        angle = np.degrees(np.arctan(np.linalg.norm(drift)))
        raise InputError(
            f"{name} is tilted: its slices are sheared by {angle:.1f} degrees (gantry tilt). Resample it to an "
            "upright grid first; mr_to_ct inference does so itself with --repair true."
        )
    steps = np.linalg.norm(np.diff(sideways, axis=0), axis=1)
    worst = int(steps.argmax())
    raise InputError(
        f"{name} shifts sideways by {steps[worst]:.2f} mm between slices {worst + 1} and {worst + 2}, "
        "so its slices form no straight stack. Export each stack as its own series."
    )


def _check_spacing(name: str, along: NDArray[np.float64]) -> None:
    steps = np.diff(along)
    usual = max(float(np.median(steps)), _SAME_PLACE)
    tolerance = max(_ROUNDING, _SPACING_JITTER * usual)
    regular = along[0] + np.arange(len(along)) * along[-1] / (len(along) - 1)
    if np.abs(along - regular).max() <= tolerance:
        return
    widest = int(steps.argmax())
    multiples = np.maximum(np.round(steps / usual), 1)
    if np.abs(steps - multiples * usual).max() <= tolerance and multiples[widest] > 1:
        missing = int(multiples.sum()) - len(steps)
        raise InputError(
            f"{name} has a gap of {steps[widest]:.2f} mm between slices {widest + 1} and {widest + 2} "
            f"(spacing {usual:.2f} mm; {missing} missing in all). Export the whole series again."
        )
    narrowest = int(steps.argmin())
    raise InputError(
        f"{name} has uneven slice spacing: {steps[narrowest]:.2f} mm between slices {narrowest + 1} and "
        f"{narrowest + 2}, {steps[widest]:.2f} mm between {widest + 1} and {widest + 2}. "
        "Export a series with one spacing, or resample it first."
    )
