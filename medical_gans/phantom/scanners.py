"""Scanners of two field strengths and the images that each makes of a head's tissue maps."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import SettingError

from .acquisition import BRIGHTEST, add_rician_noise, blurred, receive_field
from .sequences import (
    SEQUENCES,
    InversionRecovery,
    PulseSequence,
    SpinEcho,
    SpoiledGradientEcho,
    SusceptibilityWeighted,
)
from .susceptibility import HERTZ_PER_PPM_AND_TESLA, dephasing, dipole_field, phase_mask
from .tissue_maps import TissueMaps
from .tissues import TISSUES

NamedSequence = SpinEcho | InversionRecovery | SpoiledGradientEcho
Range = tuple[float, float]


@dataclass(frozen=True)
class Scanner:
    """A scanner with its sequences and how its images vary between patients, each between two bounds.

    `voxels_mm` is the acquired voxel of a gradient echo along the grid's axes (1 mm cubes where unnamed),
    `noise` and `bias` are as in `simulate_mr`, `timing` multiplies TR, TE and TI.
    """

    tesla: float
    sequences: dict[str, NamedSequence]
    voxels_mm: dict[str, tuple[float, float, float]]
    noise: Range
    blur_mm: Range
    bias: Range
    timing: Range


# GRE: 2D slices, long TR and low flip angle, so that density and T2* weigh and fluid is bright. SWI: 3D, TR
# near TE, so that T1 weighs and fluid is dark; TE 40 ms at 1.5 T and 20 ms at 3 T give the same phase
# (Haacke et al., AJNR 30:19, 2009). At 3 T acceleration spends the signal gained on time, and the radio
# frequency field is less even.
SCANNERS: dict[str, Scanner] = {
    "source": Scanner(
        tesla=1.5,
        sequences=SEQUENCES | {"SWI": SusceptibilityWeighted(50, 40, 20)},
        voxels_mm={"GRE": (1.0, 1.0, 3.0), "SWI": (0.5, 1.0, 2.0)},
        noise=(0.006, 0.016),
        blur_mm=(0.8, 1.3),
        bias=(0.05, 0.12),
        timing=(0.92, 1.08),
    ),
    "target": Scanner(
        tesla=3.0,
        sequences=SEQUENCES
        | {"GRE": SpoiledGradientEcho(700, 20, 20), "SWI": SusceptibilityWeighted(29, 20, 15)}
        | {"T2w": SpinEcho(5000, 85), "PD": SpinEcho(3500, 12), "FLAIR": InversionRecovery(9500, 95, 2450)},
        voxels_mm={"GRE": (1.0, 1.0, 3.0), "SWI": (0.5, 1.0, 2.0)},
        noise=(0.012, 0.024),
        blur_mm=(1.0, 1.8),
        bias=(0.12, 0.25),
        timing=(0.92, 1.08),
    ),
}


def named_scanner(domain: str) -> Scanner:
    """A scanner of `SCANNERS`. Raises SettingError for an unknown name."""
    if domain not in SCANNERS:
        raise SettingError(f'There is no domain "{domain}"; choose one of {", ".join(SCANNERS)}.')
    return SCANNERS[domain]


def timed(sequence: NamedSequence, factor: float) -> NamedSequence:
    """The sequence with TR, TE and TI multiplied."""
    times = {field.name: factor * getattr(sequence, field.name) for field in fields(sequence) if "_ms" in field.name}
    return replace(sequence, **times)


def scan(
    maps: TissueMaps,
    sequence: PulseSequence,
    *,
    tesla: float,
    voxel_mm: tuple[float, ...] = (1.0, 1.0, 1.0),
    field_ppm: NDArray[np.float32] | None = None,
    blur_mm: float = 1.0,
    bias: float = 0.1,
    noise: float = 0.012,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Magnitude image of the maps, float32; the brightest tissue of `TISSUES` gives 1000 before bias and noise.

    Gradient echoes lose signal where the field varies across the acquired voxel: haemorrhages bloom, the
    frontal lobe above the sinuses fades. Susceptibility weighting also applies its phase mask.

    Args:
        maps: what lies in the scanner.
        sequence: one of `sequences.py`, or any object with such a `signal` method.
        tesla: field strength, along z.
        voxel_mm: as it was acquired, along the grid's axes; for dephasing.
        field_ppm: `dipole_field` of the maps, if it is at hand.
        blur_mm: see `simulate_mr`.
        bias: see `simulate_mr`.
        noise: see `simulate_mr`.
        seed: see `simulate_mr`.
    """
    signal = sequence.signal(*maps.relaxation(tesla), maps.proton_density)
    signal = (signal * (BRIGHTEST / _brightest(sequence))).astype(np.float32)
    rng = np.random.default_rng(seed)
    receive = receive_field(maps.grid, bias, rng)
    if not isinstance(sequence, SpoiledGradientEcho):
        return add_rician_noise(blurred(signal, maps.grid, blur_mm) * receive, noise * BRIGHTEST, rng)
    field = dipole_field(maps.susceptibility, maps.grid) if field_ppm is None else field_ppm
    echo_time = sequence.echo_time_ms
    signal *= dephasing(field, maps.grid, tesla=tesla, echo_time_ms=echo_time, voxel_mm=voxel_mm)
    if not isinstance(sequence, SusceptibilityWeighted):
        return add_rician_noise(blurred(signal, maps.grid, blur_mm) * receive, noise * BRIGHTEST, rng)
    turn = np.exp(-2j * np.pi * HERTZ_PER_PPM_AND_TESLA * tesla * echo_time / 1000 * field).astype(np.complex64)
    deviation = np.float32(noise * BRIGHTEST)
    image = np.empty(turn.shape, dtype=np.complex64)
    image.real, image.imag = (
        blurred(part, maps.grid, blur_mm) * receive + deviation * rng.standard_normal(part.shape, dtype=np.float32)
        for part in (signal * turn.real, signal * turn.imag)
    )
    weighted: NDArray[np.float32] = np.abs(image) * phase_mask(image, maps.grid) ** sequence.mask_power
    slices = max(1, round(sequence.projection_mm / maps.grid.spacing[2]))
    return weighted if slices == 1 else ndimage.minimum_filter1d(weighted, slices, axis=2)


def _brightest(sequence: PulseSequence) -> float:
    """Signal of the brightest tissue at 1.5 T: the unit of all noise."""
    t1, t2, t2_star, density = np.array(
        [(found.t1, found.t2, found.t2_star, found.proton_density) for found in TISSUES.values()], dtype=np.float32
    ).T
    return float(sequence.signal(t1, t2, t2_star, density).max())
