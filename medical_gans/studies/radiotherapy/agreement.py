"""Before any dose: are these two CT in HU, and do they lie at the same place?

A left-right flip changes a dose by almost nothing, and evaluation tools that copy the geometry of the reference
onto the synthetic CT never see a wrong affine. So both are looked for here.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from medical_gans.errors import InputError
from medical_gans.io import Volume
from medical_gans.transforms import body_mask

_AIR_BELOW = -500.0
_TISSUE = (-300.0, 300.0)
_MIRROR_MARGIN = 0.01  # in correlation, by which a mirror image must fit better: registration is never perfect
_SMOOTH_VOXELS = 1.0
_MIRRORS = {"left and right": 0, "front and back": 1, "head and foot": 2}


def check_hounsfield(ct: Volume, name: str) -> np.ndarray:
    """Refuse values that are no HU: without intercept, rescaled, with the intercept applied twice.

    Args:
        ct: to be checked.
        name: of the image, for the error.

    Returns:
        The body on it, boolean.

    Raises:
        InputError: there is no air, no body, or the body is not made of tissue.
    """
    lowest, highest = (float(value) for value in np.percentile(ct.array, (0.5, 99.9)))
    hint = f"Check the rescale intercept and the units of {ct.source.name}."
    if lowest > _AIR_BELOW:
        raise InputError(
            f"The {name} is not in Hounsfield units: its values run from {lowest:.0f} to {highest:.0f}, but air is at "
            f"-1000. {hint}"
        )
    body = body_mask(ct.array, ct.spacing, "CT")
    if not body.any():
        raise InputError(f"The {name} shows no body above -400 HU. {hint}")
    middle = float(np.median(ct.array[body]))
    if not _TISSUE[0] < middle < _TISSUE[1]:
        raise InputError(
            f"The {name} is not in Hounsfield units: half of its body lies above {middle:.0f}, but tissue lies between "
            f"{_TISSUE[0]:.0f} and {_TISSUE[1]:.0f} HU. {hint}"
        )
    return body


def check_place(reference: np.ndarray, synthetic: np.ndarray, spacing: float, largest_offset: float) -> np.ndarray:
    """Refuse a synthetic CT that is mirrored or displaced against the reference.

    Args:
        reference: density relative to water, ``(x, y, z)`` along right, anterior, superior, cubic voxels.
        synthetic: the same of the synthetic CT, sampled at the same places by its own affine.
        spacing: mm.
        largest_offset: mm.

    Returns:
        Displacement of the synthetic CT to the right, front and head in mm, from the peak of the
        cross-correlation; a tenth of a voxel or so.

    Raises:
        InputError: a mirror image fits better, or the displacement is larger than allowed.
    """
    peak, offset = _best_fit(reference, synthetic, spacing)
    mirrored = {sides: _best_fit(reference, np.flip(synthetic, axis), spacing)[0] for sides, axis in _MIRRORS.items()}
    sides = max(mirrored, key=lambda name: mirrored[name])
    if mirrored[sides] > peak + _MIRROR_MARGIN:
        raise InputError(
            f"The synthetic CT fits the reference better with {sides} exchanged (correlation {mirrored[sides]:.3f} "
            f"instead of {peak:.3f}): one of them is mirrored. Check the affine, and how the file was converted."
        )
    distance = float(np.linalg.norm(offset))
    if distance > largest_offset:
        shown = ", ".join(f"{value:+.1f}" for value in offset)
        raise InputError(
            f"The synthetic CT lies {distance:.1f} mm off the reference ({shown} mm to the right, front and head; at "
            f"most {largest_offset:g} mm is allowed). Check the affine, register the two, or raise largest_offset."
        )
    return offset


def _best_fit(reference: np.ndarray, moved: np.ndarray, spacing: float) -> tuple[float, np.ndarray]:
    """Largest normalised cross-correlation of edges over all shifts, and the shift of `moved` in mm."""
    # Edges, not values: they are nothing outside the body, so that a picture that cuts the body does not pull.
    first, second = (
        ndimage.gaussian_gradient_magnitude(array, _SMOOTH_VOXELS, mode="nearest") for array in (reference, moved)
    )
    size = [fft.next_fast_len(2 * count - 1, real=True) for count in reference.shape]
    spectrum = np.conj(fft.rfftn(first, size)) * fft.rfftn(second, size)
    correlation = fft.irfftn(spectrum, size) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12)
    top = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    shift = [_refined(correlation, top, axis) for axis in range(3)]
    return float(correlation[top]), spacing * np.array(shift)


def _refined(correlation: np.ndarray, top: tuple[np.intp, ...], axis: int) -> float:
    """Position of the peak along an axis in voxels, by the parabola through it and its neighbours."""
    count = correlation.shape[axis]
    line = np.take(correlation[tuple(slice(None) if a == axis else top[a] for a in range(3))], range(count))
    at = int(top[axis])
    before, here, after = line[at - 1], line[at], line[(at + 1) % count]
    curvature = before - 2 * here + after
    exact = at + (0.5 * (before - after) / curvature if curvature < 0 else 0.0)
    return float(exact if at <= count // 2 else exact - count)
