"""How close a synthetic CT is to the CT of the same patient, inside the body.

MAE, PSNR, SSIM and MS-SSIM follow the evaluation code of the SynthRAD challenges of 2023 and 2025,
so that figures compare with theirs on equal masks.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects, uniform_filter

from medical_gans.errors import InputError

AIR_BELOW_HU = -200.0
BONE_ABOVE_HU = 250.0
RANGE_2023_HU = (-1024.0, 3000.0)
RANGE_2025_HU = (-1024.0, 3071.0)

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST_MS_SSIM_SIZE = 97
_RADIUS = 3
_SLAB = 32


def synthetic_ct_metrics(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """All figures of one case.

    The error of a tissue is taken where the reference, not the prediction, has it: air below -200 HU (lung
    included), bone above 250 HU, soft tissue between.

    Args:
        prediction: synthetic CT in HU, `(x, y, z)`.
        reference: CT of the same patient on the same grid, in HU.
        mask: where to judge, usually the body; every value but 0 counts.

    Returns:
        In HU: `mae`, `mean_error` (prediction - reference), `mae_air`, `mae_soft_tissue`, `mae_bone`.
        In dB: `psnr_2023`, `psnr_2025`, infinite for equal images. In [0, 1]: `ssim_2023`, `ms_ssim_2025`,
        `dice_air`, `dice_bone`. A figure of which nothing lies in the mask is `nan`: the error of an
        absent tissue, the Dice of a tissue that neither image has, the SSIM of a mask that comes nowhere
        further than 3 voxels from the border of the volume (at any of five scales for MS-SSIM).

    Raises:
        InputError: shapes differ or are not 3D, a value is not finite, or the mask is empty.
    """
    inside = _check(prediction, reference, mask)
    predicted, expected = prediction[inside].astype(np.float64), reference[inside].astype(np.float64)
    error = predicted - expected
    tissues = {
        "air": expected < AIR_BELOW_HU,
        "soft_tissue": (expected >= AIR_BELOW_HU) & (expected <= BONE_ABOVE_HU),
        "bone": expected > BONE_ABOVE_HU,
    }
    return {
        "mae": float(np.abs(error).mean()),
        "mean_error": float(error.mean()),
        **{f"mae_{name}": _mean(np.abs(error[tissue])) for name, tissue in tissues.items()},
        "psnr_2023": _psnr(predicted, expected, RANGE_2023_HU),
        "psnr_2025": _psnr(predicted, expected, RANGE_2025_HU),
        "ssim_2023": _ssim_2023(prediction, reference, inside),
        "ms_ssim_2025": _ms_ssim_2025(prediction, reference, inside),
        "dice_air": _dice(predicted < AIR_BELOW_HU, tissues["air"]),
        "dice_bone": _dice(predicted > BONE_ABOVE_HU, tissues["bone"]),
    }


def _check(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask as a boolean array, once all three arrays are fit for use."""
    if not prediction.shape == reference.shape == mask.shape or prediction.ndim != 3:
        raise InputError(
            f"Prediction, reference and mask must be 3D and of one shape, "
            f"got {prediction.shape}, {reference.shape} and {mask.shape}: resample them to one grid."
        )
    for name, image in (("prediction", prediction), ("reference", reference), ("mask", mask)):
        if not np.isfinite(image).all():
            raise InputError(f"The {name} holds NaN or infinite values: every voxel must be a finite number.")
    inside: np.ndarray = mask != 0
    if not inside.any():
        raise InputError("The mask is empty, so there is nothing to judge: give a mask that covers the body.")
    return inside


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def _psnr(predicted: np.ndarray, expected: np.ndarray, hounsfield_range: tuple[float, float]) -> float:
    low, high = hounsfield_range
    squared_error = float(np.mean((predicted.clip(low, high) - expected.clip(low, high)) ** 2))
    return float(10 * np.log10((high - low) ** 2 / squared_error)) if squared_error else float("inf")


def _above_air(image: np.ndarray, inside: np.ndarray, hounsfield_range: tuple[float, float]) -> np.ndarray:
    """HU above the low end of the range, where what lies outside the mask is put, in float32."""
    low, high = hounsfield_range
    above: np.ndarray = np.clip(image.astype(np.float32), low, high) - np.float32(low)
    above[~inside] = 0
    return above


def _ssim_2023(prediction: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> float:
    first, second = (_above_air(image, inside, RANGE_2023_HU) for image in (prediction, reference))
    return _mean(_ssim_in_mask(first, second, inside, RANGE_2023_HU))


def _ms_ssim_2025(prediction: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> float:
    """Product over five scales of the mean in the mask of SSIM to the power of the scale's weight."""
    missing = [max(_SMALLEST_MS_SSIM_SIZE - size, 0) for size in inside.shape]
    padding = [(total // 2, total - total // 2) for total in missing]
    first, second = (
        np.pad(_above_air(image, inside, RANGE_2025_HU), padding, mode="edge") for image in (prediction, reference)
    )
    inside = np.pad(inside, padding, mode="edge")
    product = 1.0
    for weight in _SCALE_WEIGHTS:
        values = _ssim_in_mask(first, second, inside, RANGE_2025_HU)
        # Luminance, contrast and structure have one weight, and only structure can be negative, where it is
        # cut: so their weighted product is a power of the whole SSIM.
        product *= _mean(values.clip(min=0) ** weight)
        first, second = (uniform_filter(image, 2, mode="constant")[::2, ::2, ::2] for image in (first, second))
        inside = inside[::2, ::2, ::2]
    return product


def _ssim_in_mask(
    first: np.ndarray, second: np.ndarray, inside: np.ndarray, hounsfield_range: tuple[float, float]
) -> np.ndarray:
    """SSIM (Wang et al. 2004, uniform window of 7^3) in the voxels of the mask, 3 or more from the border.

    Works in slabs within the box of the mask, which needs little memory beyond the images.
    """
    core = np.zeros_like(inside)
    interior = (slice(_RADIUS, -_RADIUS),) * 3
    core[interior] = inside[interior]
    box = find_objects(core.astype(np.uint8))
    if not box:
        return np.empty(0)
    planes, *others = box[0]
    around = [slice(axis.start - _RADIUS, axis.stop + _RADIUS) for axis in others]
    values = []
    for start in range(planes.start, planes.stop, _SLAB):
        stop = min(start + _SLAB, planes.stop)
        slab = (slice(start - _RADIUS, stop + _RADIUS), *around)
        values.append(_ssim_map(first[slab], second[slab], hounsfield_range)[core[start:stop, *others]])
    return np.concatenate(values, dtype=np.float64)


def _ssim_map(first: np.ndarray, second: np.ndarray, hounsfield_range: tuple[float, float]) -> np.ndarray:
    """SSIM with sample covariance, `(x - 6, y - 6, z - 6)`: where the window lies within the images."""
    size = 2 * _RADIUS + 1

    def window_mean(image: np.ndarray) -> np.ndarray:
        filtered: np.ndarray = uniform_filter(image, size)
        return filtered[(slice(_RADIUS, -_RADIUS),) * 3]

    sample = size**3 / (size**3 - 1)
    mean_first, mean_second = window_mean(first), window_mean(second)
    covariance = sample * (window_mean(first * second) - mean_first * mean_second)
    squared_means = mean_first**2 + mean_second**2
    variances = sample * (window_mean(first**2) + window_mean(second**2) - squared_means)
    low, high = hounsfield_range
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    luminance = (2 * mean_first * mean_second + c1) / (squared_means + c1)
    similarity: np.ndarray = luminance * (2 * covariance + c2) / (variances + c2)
    return similarity
