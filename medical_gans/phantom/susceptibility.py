"""The field that susceptibility makes in the scanner, and what it does to a gradient echo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .grid import Grid

HERTZ_PER_PPM_AND_TESLA = 42.577  # of protons
_MARGIN_MM = 30.0  # of surroundings that continue the border, so that the periodic copies stay away
_WINDOW_PER_MM = 0.125  # half width of the 64 x 64 central window on a field of view of 256 mm


def dipole_field(susceptibility: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Shift of the field along z in ppm that a map of susceptibilities in ppm makes, Lorentz sphere corrected.

    Product with 1/3 - kz^2 / k^2 in Fourier space: Salomir et al., Concepts MR 19B:26 (2003); Marques and
    Bowtell, Concepts MR 25B:65 (2005).
    """
    margin = [int(np.ceil(_MARGIN_MM / step)) for step in grid.spacing]
    shape = [fft.next_fast_len(n + 2 * pad, real=True) for n, pad in zip(grid.shape, margin, strict=True)]
    pads = [(pad, full - n - pad) for n, pad, full in zip(grid.shape, margin, shape, strict=True)]
    spectrum = fft.rfftn(np.pad(susceptibility, pads, mode="edge"))
    first, second = map(fft.fftfreq, shape[:2])
    x, y, z = np.meshgrid(first, second, fft.rfftfreq(shape[2]), indexing="ij", sparse=True)
    to_wave = np.linalg.inv(grid.affine[:3, :3]).T.astype(np.float32)  # cycles per voxel -> cycles per mm
    waves = np.stack([row[0] * x + row[1] * y + row[2] * z for row in to_wave])
    length = np.einsum("i...,i...->...", waves, waves)
    length[0, 0, 0] = np.inf  # the mean field is the scanner's to set
    spectrum *= 1 / 3 - waves[2] ** 2 / length
    spectrum[0, 0, 0] = 0
    field = fft.irfftn(spectrum, s=shape)
    inner = tuple(slice(pad, pad + n) for n, pad in zip(grid.shape, margin, strict=True))
    cropped: NDArray[np.float32] = field[inner].astype(np.float32)
    return cropped


def dephasing(
    field_ppm: NDArray[np.float32], grid: Grid, *, tesla: float, echo_time_ms: float, voxel_mm: tuple[float, ...]
) -> NDArray[np.float32]:
    """Share of the signal that a voxel keeps although the field varies linearly across it, 0 to 1.

    The product over the axes of |sinc| of the cycles that the phase makes across the acquired voxel, which
    may differ from the grid's (Reichenbach et al., JMRI 7:266, 1997). The slope is the smaller of the two
    to the neighbours, so that a jump at a surface counts for neither side of it.
    """
    kept = np.ones(grid.shape, dtype=np.float32)
    cycles_per_ppm = HERTZ_PER_PPM_AND_TESLA * tesla * echo_time_ms / 1000
    for axis, (spacing, width) in enumerate(zip(grid.spacing, voxel_mm, strict=True)):
        step = np.abs(np.diff(field_ppm, axis=axis))
        one_sided = [[(0, 0)] * 3, [(0, 0)] * 3]
        one_sided[0][axis], one_sided[1][axis] = (1, 0), (0, 1)
        before, after = (np.pad(step, pads, mode="edge") for pads in one_sided)
        slope = np.minimum(before, after) / np.float32(spacing)
        kept *= np.abs(np.sinc(np.float32(cycles_per_ppm * width) * slope)).astype(np.float32)
    return kept


def phase_mask(image: NDArray[np.complex64], grid: Grid) -> NDArray[np.float32]:
    """The mask of susceptibility weighting, from 0 at phase -pi to 1 where the phase is not negative.

    The phase is first freed of what varies slowly within each slice: the image is divided by its low
    frequencies, a Hann window of the central 64 x 64 points of a field of view of 256 mm (Haacke et al.,
    MRM 52:612, 2004). The third array axis is the slice's normal.
    """
    smooth = fft.fft2(image, axes=(0, 1))
    for axis in (0, 1):
        frequency = np.abs(fft.fftfreq(image.shape[axis], grid.spacing[axis])) / _WINDOW_PER_MM
        window = np.where(frequency < 1, np.cos(np.pi / 2 * np.minimum(frequency, 1)) ** 2, 0).astype(np.float32)
        smooth *= window.reshape([-1 if other == axis else 1 for other in range(3)])
    phase = np.angle(image * np.conj(fft.ifft2(smooth, axes=(0, 1))))
    mask: NDArray[np.float32] = (1 + np.minimum(phase, 0) / np.pi).astype(np.float32)
    return mask
