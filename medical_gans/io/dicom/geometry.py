"""Slices of a series -> one regular grid, or a named refusal: gap, uneven spacing, tilt, mixed orientation.

Positions and orientations are those of DICOM (LPS mm, PS3.3 C.7.6.2.1.1). Scanners write both with few decimals, so
slices lie beside a regular grid by what was rounded away: how much that can be is read from the decimals themselves.
Slice numbers in messages count from 1 along the slice normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io.formats import Affine, corners, lps_to_ras

Vectors = NDArray[np.float64]

_ORIENTATION_JITTER = 1e-3  # largest difference of a direction cosine that counts as rounding, whatever its decimals
_COARSEST_COSINE = 0.005  # half of the second decimal: coarser cosines explain nothing
_SPACING_JITTER = 0.01  # of the slice spacing, and never less than the rounding of positions: always accepted
_UNEVEN = 0.03  # of the slice spacing: accepted, for scanners round before they write
_COARSEST_POSITION = 1.0  # mm sideways: rounding beyond it explains nothing
_ROUNDING = 0.02  # mm
_LATERAL_JITTER = 0.1  # of a pixel, over the whole stack
_SAME_PLACE = 0.01  # mm
_WHOLE = 1e-6  # of a pixel


class SeveralStacks(InputError):
    """Slices that are no single stack, but might be several."""


@dataclass(frozen=True)
class Places:
    """Where the slices of a series say that they lie.

    Attributes:
        positions: (slices, 3), ImagePositionPatient.
        orientations: (slices, 6), ImageOrientationPatient.
        pixel: mm between rows, mm between columns, as in PixelSpacing.
        shape: columns, rows.
        position_rounding: mm, half of the last decimal of the positions.
        cosine_rounding: half of the last decimal of the orientations.
    """

    positions: Vectors
    orientations: Vectors
    pixel: tuple[float, float]
    shape: tuple[int, int]
    position_rounding: float
    cosine_rounding: float


def slice_directions(name: str, orientations: Vectors, rounding: float = 0.0) -> Vectors:
    """Unit vectors (3, 3) along a row, along a column and along the normal, one per row of the result.

    Args:
        name: what to call the series in messages.
        orientations: (slices, 6), ImageOrientationPatient of every slice.
        rounding: half of the last decimal of the direction cosines.

    Raises:
        SeveralStacks: orientations differ by more than rounding.
        InputError: they are no pair of orthogonal axes.
    """
    rounded = rounding if rounding <= _COARSEST_COSINE else 0.0
    spread = np.abs(orientations - orientations[0]).max(axis=1)
    if spread.max() > max(_ORIENTATION_JITTER, 2.01 * rounded):
        count = len(np.unique(np.round(orientations, 2), axis=0))
        raise SeveralStacks(
            f"{name} mixes slices of {max(count, 2)} orientations (a localizer or several stacks). "
            "Export each stack as its own series."
        )
    pair = orientations.mean(axis=0).reshape(2, 3)
    lengths = np.linalg.norm(pair, axis=1)
    off = max(abs(float(pair[0] @ pair[1])), float(np.abs(lengths - 1).max()))
    if not off <= max(_ORIENTATION_JITTER, 3.5 * rounded):
        raise InputError(
            f"{name} has an ImageOrientationPatient that is no pair of orthogonal unit vectors. "
            "Export the series again."
        )
    if off > _ORIENTATION_JITTER:  # both axes share what rounding did to them
        left, _, right = np.linalg.svd(pair, full_matrices=False)
        pair = left @ right
    row = pair[0] / np.linalg.norm(pair[0])
    normal = np.cross(row, pair[1])
    normal /= np.linalg.norm(normal)
    return np.stack([row, np.cross(normal, row), normal])


def at_one_place(positions: Vectors) -> list[list[int]]:
    """Indices of slices grouped by position; `positions` (slices, 3) is ordered along the normal."""
    groups: list[list[int]] = [[0]]
    for index in range(1, len(positions)):
        if np.linalg.norm(positions[index] - positions[groups[-1][0]]) < _SAME_PLACE:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def regular_grid(
    name: str, places: Places, directions: Vectors, allow_tilt: bool = False
) -> tuple[Affine, tuple[str, ...]]:
    """Affine (column, row, slice) -> RAS+ mm of slices ordered along the normal, and how far they lie off it.

    Args:
        name: what to call the series in messages.
        places: of the slices, one for each position.
        directions: as `slice_directions` gives them.
        allow_tilt: give a steadily sheared stack an affine whose slice step leans, instead of refusing it.

    Raises:
        InputError: a slice is missing, spacing is uneven, or the stack is tilted.
    """
    if len(places.positions) < 2:
        raise InputError(
            f"{name} has slices at {len(places.positions)} position only; a volume needs at least 2. "
            "Export the whole series."
        )
    directions, drift, rounded = _upright(name, places, directions, allow_tilt)
    row, column, normal = directions
    along = (places.positions - places.positions[0]) @ normal
    rounded = _check_spacing(name, along, float(np.abs(normal).sum()) * places.position_rounding) or rounded
    count = np.arange(len(along)) - (len(along) - 1) / 2
    spacing = float(count @ along / (count @ count))
    affine = np.eye(4)
    affine[:3, 0] = row * places.pixel[1]
    affine[:3, 1] = column * places.pixel[0]
    affine[:3, 2] = (normal + drift @ directions[:2]) * spacing
    affine[:3, 3] = places.positions.mean(axis=0) - affine[:3, 2] * (len(along) - 1) / 2
    if not rounded and np.abs(directions[:2].ravel() - places.orientations).max() <= 1.01 * _ORIENTATION_JITTER:
        return lps_to_ras(affine), ()
    said = (
        "Positions and directions of the slices are rounded: their corners lie up to "
        f"{_largest(places, affine):.2f} mm off the regular grid that was taken."
    )
    return lps_to_ras(affine), (said,)


def _largest(places: Places, affine: Affine) -> float:
    """Largest distance (mm) between the corners of a slice as its header places them, and as the grid does."""
    worst = 0.0
    for k, (position, orientation) in enumerate(zip(places.positions, places.orientations, strict=True)):
        own = np.eye(4)
        own[:3, 0], own[:3, 1] = orientation[:3] * places.pixel[1], orientation[3:] * places.pixel[0]
        own[:3, 3] = position
        grid = affine.copy()
        grid[:3, 3] += k * affine[:3, 2]
        apart = corners((*places.shape, 1), own) - corners((*places.shape, 1), grid)
        worst = max(worst, float(np.linalg.norm(apart, axis=0).max()))
    return worst


def _upright(
    name: str, places: Places, directions: Vectors, allow_tilt: bool
) -> tuple[Vectors, NDArray[np.float64], bool]:
    """Directions; mm along rows and columns per mm along the normal (that of a tilted gantry); was it rounded."""
    tolerance = _LATERAL_JITTER * min(places.pixel)
    beside = float(np.abs(directions[:2]).sum(axis=1).max()) * places.position_rounding
    explained = 2 * beside if beside <= _COARSEST_POSITION else 0.0
    sideways = (places.positions - places.positions[0]) @ directions[:2].T
    if np.linalg.norm(sideways, axis=1).max() <= tolerance:
        return directions, np.zeros(2), False
    if np.linalg.norm(sideways - sideways.mean(axis=0), axis=1).max() <= explained:
        return directions, np.zeros(2), True
    along = (places.positions - places.positions[0]) @ directions[2]
    from_middle = along - along.mean()
    drift = from_middle @ sideways / max(float(from_middle @ from_middle), _SAME_PLACE**2)
    straight = sideways - sideways.mean(axis=0) - from_middle[:, None] * drift
    if np.linalg.norm(straight, axis=1).max() <= max(tolerance, _ROUNDING, explained):
        angle = math.atan(float(np.linalg.norm(drift)))
        if places.cosine_rounding <= _COARSEST_COSINE and angle <= math.sqrt(6) * places.cosine_rounding:
            return _turned(directions, drift), np.zeros(2), True
        if allow_tilt:
            return directions, drift, False
        raise InputError(
            f"{name} is tilted: its slices are sheared by {math.degrees(angle):.1f} degrees (gantry tilt). Resample it "
            "to an upright grid first; mr_to_ct inference does so itself with --repair true."
        )
    steps = np.linalg.norm(np.diff(sideways, axis=0), axis=1)
    worst = int(steps.argmax())
    raise SeveralStacks(
        f"{name} shifts sideways by {steps[worst]:.2f} mm between slices {worst + 1} and {worst + 2}, "
        "so its slices form no straight stack. Export each stack as its own series."
    )


def _turned(directions: Vectors, drift: Vectors) -> Vectors:
    """The directions with their normal along the positions of the slices, which say it more exactly."""
    normal = directions[2] + drift @ directions[:2]
    normal /= np.linalg.norm(normal)
    row = directions[0] - (directions[0] @ normal) * normal
    row /= np.linalg.norm(row)
    return np.stack([row, np.cross(normal, row), normal])


def _check_spacing(name: str, along: NDArray[np.float64], rounding: float) -> bool:
    """Whether slices lie beside a regular grid by more than need be said; refused where rounding is no reason."""
    steps = np.diff(along)
    usual = max(float(np.median(steps)), _SAME_PLACE)
    tolerance = max(_ROUNDING, _SPACING_JITTER * usual)
    count = np.arange(len(along)) - (len(along) - 1) / 2
    off = float(np.abs(along - along.mean() - count * (count @ along) / (count @ count)).max())
    if off <= tolerance:
        return off > _ROUNDING
    explained = 2 * rounding if rounding < 0.5 * _deviation_of_a_gap(len(along)) * usual else 0.0
    if off <= _UNEVEN * usual or (explained and _smallest_deviation(along) <= 1.001 * rounding):
        return True
    widest = int(steps.argmax())
    multiples = np.maximum(np.round(steps / usual), 1)
    if np.abs(steps - multiples * usual).max() <= max(tolerance, explained) and multiples[widest] > 1:
        missing = int(multiples.sum()) - len(steps)
        raise InputError(
            f"{name} has a gap of {steps[widest]:.2f} mm between slices {widest + 1} and {widest + 2} "
            f"(spacing {usual:.2f} mm; {missing} missing in all). Export the whole series again."
        )
    narrowest = int(steps.argmin())
    raise SeveralStacks(
        f"{name} has uneven slice spacing: {steps[narrowest]:.2f} mm between slices {narrowest + 1} and "
        f"{narrowest + 2}, {steps[widest]:.2f} mm between {widest + 1} and {widest + 2}. "
        "Export a series with one spacing, or resample it first."
    )


def _deviation_of_a_gap(count: int) -> float:
    """How far slices with one missing among them lie off every regular grid, at least; in slice spacings.

    A step of 1 between slices m - 1 and m leaves a straight line (1 - 1 / m) / 2 or more, on its longer side.
    """
    return 0.5 * (1 - 1 / math.ceil(count / 2))


def _smallest_deviation(along: NDArray[np.float64]) -> float:
    """The largest distance of slices from the regular grid for which it is smallest (mm)."""
    count = np.arange(len(along))
    slope = float(np.polyfit(count, along, 1)[0])
    reach = float(np.ptp(along - slope * count))  # another slope than within this turns the stack by more
    low, high = slope - reach, slope + reach
    for _ in range(60):  # the width is convex in the slope
        third = (high - low) / 3
        if np.ptp(along - (low + third) * count) < np.ptp(along - (high - third) * count):
            high -= third
        else:
            low += third
    return 0.5 * float(np.ptp(along - 0.5 * (low + high) * count))


def straightened(array: np.ndarray, affine: Affine) -> tuple[np.ndarray, Affine]:
    """Undo the shear of a stack (gantry tilt) by linear interpolation inside each slice; planes stay where they are.

    The field of view grows by the drift of the stack; what no slice covers gets the lowest value.

    Args:
        array: ``(column, row, slice)``.
        affine: ``(4, 4)``; columns and rows are orthogonal, the slice step may lean.

    Returns:
        The array, and its affine with orthogonal axes.
    """
    column, row, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    drift = np.array([step @ column / (column @ column), step @ row / (row @ row)])  # pixels per slice
    slices = array.shape[2]
    total = drift * (slices - 1)
    first = np.floor(np.minimum(total, 0) + _WHOLE)
    last = np.ceil(np.maximum(total, 0) - _WHOLE)
    columns, rows = (int(size + extra) for size, extra in zip(array.shape[:2], last - first, strict=True))
    upright = np.full((columns, rows, slices), array.min(), array.dtype, order="F")
    for k in range(slices):
        upright[:, :, k] = ndimage.affine_transform(
            array[:, :, k],
            np.ones(2),
            first - drift * k,
            output_shape=(columns, rows),
            order=1,
            mode="grid-constant",
            cval=float(array.min()),
        )
    straight = affine.copy()
    straight[:3, 2] = step - drift[0] * column - drift[1] * row
    straight[:3, 3] = affine[:3, 3] + first[0] * column + first[1] * row
    return upright, straight


def shear_degrees(affine: Affine) -> float:
    """Angle between the slice step and the normal of the slices."""
    step = affine[:3, 2]
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return math.degrees(math.atan2(np.linalg.norm(np.cross(step, normal)), abs(step @ normal)))
