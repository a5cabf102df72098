"""Simulated scanners: a phantom on a grid becomes a CT in HU, or the magnitude image of an MR sequence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import WaveField
from .grid import Grid
from .phantom import Phantom
from .sequences import PulseSequence, named_sequence
from .tissues import Tissue, table

_FWHM = np.sqrt(8 * np.log(2))  # full width at half maximum of a Gaussian, in standard deviations
_PART_MM, _MOST_PARTS = 2.0, 3  # along an axis: wider voxels are averaged over parts, so many at most
BRIGHTEST = 1000.0  # signal of the brightest tissue of a sequence, before the bias field
_BODY_HU = -400.0  # above: body, below: air
_COUCH_RADIUS_MM, _COUCH_DEPTH_MM, _COUCH_RIM_MM, _COUCH_SHELL_MM = 220.0, 30.0, 50.0, 2.5
_COUCH_SHELL_HU, _COUCH_FOAM_HU = -300.0, -940.0


def simulate_ct(
    phantom: Phantom,
    grid: Grid,
    *,
    blur_mm: float = 1.0,
    noise_hu: float = 10.0,
    couch: bool = False,
    seed: int = 0,
) -> NDArray[np.int16]:
    """CT of the phantom in HU, int16, never below -1024.

    Args:
        phantom: what lies in the scanner.
        grid: where the voxels are; wide ones average the tissues in them.
        blur_mm: full width at half maximum of the point spread.
        noise_hu: standard deviation of the noise, which is as smooth as the point spread makes it.
        couch: add a curved table under the back (towards posterior).
        seed: of the noise.
    """
    hu, texture = table("hu"), table("hu_texture")
    image = _average(phantom, grid, lambda labels, field: hu[labels] + texture[labels] * field)
    if couch:
        _add_couch(image, grid)
    sigma = blur_mm / _FWHM / np.asarray(grid.spacing)
    image = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
    noise = np.random.default_rng(seed).standard_normal(grid.shape, dtype=np.float32)
    image += np.float32(noise_hu / _remaining_deviation(sigma)) * ndimage.gaussian_filter(noise, sigma, truncate=3)
    return np.clip(np.rint(image), -1024, 32767).astype(np.int16)


def simulate_mr(
    phantom: Phantom,
    grid: Grid,
    sequence: str | PulseSequence = "T1w",
    *,
    repetition_time_ms: float | None = None,
    echo_time_ms: float | None = None,
    inversion_time_ms: float | None = None,
    flip_angle_deg: float | None = None,
    blur_mm: float = 1.0,
    bias: float = 0.1,
    noise: float = 0.012,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Magnitude MR image of the phantom, float32; the brightest tissue gives 1000 before bias and noise.

    Args:
        phantom: what lies in the scanner.
        grid: where the voxels are; wide ones average the tissues in them.
        sequence: "T1w" (spoiled gradient echo), "T2w" and "PD" (spin echo), "FLAIR" (inversion recovery),
            or any object with a `signal` method such as those of `sequences.py`.
        repetition_time_ms: instead of the named sequence's own.
        echo_time_ms: instead of the named sequence's own.
        inversion_time_ms: instead of the named sequence's own.
        flip_angle_deg: instead of the named sequence's own.
        blur_mm: full width at half maximum of the point spread.
        bias: standard deviation of the logarithm of the smooth receive field.
        noise: standard deviation of the noise in each of the two channels, relative to the brightest tissue;
            the magnitude is Rician (Gudbjartsson and Patz, MRM 34:910, 1995).
        seed: of bias field and noise.

    Raises:
        SettingError: unknown sequence, or a parameter that it lacks.
    """
    if isinstance(sequence, str):
        sequence = named_sequence(
            sequence,
            repetition_time_ms=repetition_time_ms,
            echo_time_ms=echo_time_ms,
            inversion_time_ms=inversion_time_ms,
            flip_angle_deg=flip_angle_deg,
        )
    signal = sequence.signal(table("t1"), table("t2"), table("t2_star"), table("proton_density"))
    signal = (signal * (BRIGHTEST / signal.max())).astype(np.float32)
    texture = signal * table("density_texture")
    image = _average(phantom, grid, lambda labels, field: signal[labels] + texture[labels] * field)
    image = blurred(image, grid, blur_mm)
    rng = np.random.default_rng(seed)
    image *= receive_field(grid, bias, rng)
    return add_rician_noise(image, noise * BRIGHTEST, rng)


def blurred(image: NDArray[np.float32], grid: Grid, blur_mm: float) -> NDArray[np.float32]:
    """The image after a Gaussian point spread of this full width at half maximum in mm."""
    sigma = blur_mm / _FWHM / np.asarray(grid.spacing)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
    return smooth


def receive_field(grid: Grid, bias: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth positive field around 1 whose logarithm has the standard deviation `bias`."""
    waves = WaveField(rng, (200, 450), waves=8, deviation=bias)
    field = np.empty(grid.shape, dtype=np.float32)
    for planes, points in grid.slabs():
        field[planes] = np.exp(waves(points)).reshape(field[planes].shape)
    return field


def add_rician_noise(image: NDArray[np.float32], deviation: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Magnitude of the image plus Gaussian noise of this deviation in the real and imaginary channels."""
    real = image + np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
    magnitude: NDArray[np.float32] = np.hypot(real, imaginary, out=real)
    return magnitude


def _average(
    phantom: Phantom,
    grid: Grid,
    appearance: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """What each voxel shows: `appearance(labels, texture)`, averaged over the parts of wide voxels."""
    parts = np.clip(np.ceil(np.asarray(grid.spacing) / _PART_MM), 1, _MOST_PARTS).astype(int).tolist()
    fine = grid.subdivided(parts)
    labels = phantom.tissues(fine)
    image = np.empty(fine.shape, dtype=np.float32)
    for planes, points in fine.slabs():
        found = labels[planes].ravel()
        texture = np.zeros(found.shape, dtype=np.float32)
        body = np.flatnonzero(found > Tissue.CAVITY_AIR)
        texture[body] = phantom.texture(points[:, body])
        image[planes] = appearance(found, texture).reshape(image[planes].shape)
    blocks = [size for pair in zip(grid.shape, parts, strict=True) for size in pair]
    return image.reshape(blocks).mean(axis=(1, 3, 5))


def _remaining_deviation(sigma: NDArray[np.float64]) -> float:
    """Standard deviation of white noise of deviation 1 after the Gaussian filter of `simulate_ct`."""
    remaining = 1.0
    for width in sigma:
        impulse = np.zeros(2 * int(np.ceil(4 * width)) + 3)
        impulse[len(impulse) // 2] = 1
        remaining *= float(np.linalg.norm(ndimage.gaussian_filter(impulse, width, truncate=3)))
    return remaining


def _add_couch(image: NDArray[np.float32], grid: Grid) -> None:
    """A trough of foam between two thin shells, along z, that the lowest point of the body touches."""
    middle, floor = 0.0, np.inf
    for planes, points in grid.slabs():
        body = points[:, image[planes].ravel() > _BODY_HU]
        if body.size and body[1].min() < floor:
            middle, floor = body[:2, body[1].argmin()].tolist()
    if not np.isfinite(floor):
        return
    for planes, points in grid.slabs():
        depth = np.hypot(points[0] - middle, points[1] - floor - _COUCH_RADIUS_MM) - _COUCH_RADIUS_MM
        below = points[1] < floor + _COUCH_RIM_MM
        shell = (np.abs(depth - _COUCH_DEPTH_MM / 2) > _COUCH_DEPTH_MM / 2 - _COUCH_SHELL_MM) & below
        couch = np.where(shell, np.float32(_COUCH_SHELL_HU), np.float32(_COUCH_FOAM_HU))
        inside = below & (depth > 0) & (depth < _COUCH_DEPTH_MM) & (image[planes].ravel() < _BODY_HU)
        image[planes] = np.where(inside, couch, image[planes].ravel()).reshape(image[planes].shape)
