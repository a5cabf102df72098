"""Signal equations of MR sequences (Haacke et al., Magnetic Resonance Imaging, 1999).

Each `signal` takes relaxation times in ms and the proton density, as numbers or arrays, and returns the
magnitude relative to water with all of its magnetisation in the transverse plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medical_gans.errors import SettingError

Parameter = NDArray[np.float32]


class PulseSequence(Protocol):
    """A way to turn the tissue parameters into signal; add one by writing such a class."""

    def signal(self, t1: Parameter, t2: Parameter, t2_star: Parameter, proton_density: Parameter) -> Parameter: ...


@dataclass(frozen=True)
class SpinEcho:
    """PD (1 - exp(-TR/T1)) exp(-TE/T2): T2-weighted with long TE, density-weighted with short TE."""

    repetition_time_ms: float
    echo_time_ms: float

    def signal(self, t1: Parameter, t2: Parameter, t2_star: Parameter, proton_density: Parameter) -> Parameter:
        recovered = 1 - np.exp(-self.repetition_time_ms / t1)
        signal: Parameter = proton_density * recovered * np.exp(-self.echo_time_ms / t2)
        return signal


@dataclass(frozen=True)
class InversionRecovery:
    """PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2): nulls tissue with T1 of some TI / ln 2."""

    repetition_time_ms: float
    echo_time_ms: float
    inversion_time_ms: float

    def signal(self, t1: Parameter, t2: Parameter, t2_star: Parameter, proton_density: Parameter) -> Parameter:
        recovered = 1 - 2 * np.exp(-self.inversion_time_ms / t1) + np.exp(-self.repetition_time_ms / t1)
        signal: Parameter = proton_density * np.abs(recovered) * np.exp(-self.echo_time_ms / t2)
        return signal


@dataclass(frozen=True)
class SpoiledGradientEcho:
    """PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE/T2*) with E1 = exp(-TR/T1) and the flip angle a."""

    repetition_time_ms: float
    echo_time_ms: float
    flip_angle_deg: float

    def signal(self, t1: Parameter, t2: Parameter, t2_star: Parameter, proton_density: Parameter) -> Parameter:
        angle = np.deg2rad(self.flip_angle_deg)
        remaining = np.exp(-self.repetition_time_ms / t1)
        steady = np.sin(angle) * (1 - remaining) / (1 - np.cos(angle) * remaining)
        signal: Parameter = proton_density * steady * np.exp(-self.echo_time_ms / t2_star)
        return signal


@dataclass(frozen=True)
class SusceptibilityWeighted(SpoiledGradientEcho):
    """A spoiled gradient echo whose magnitude is multiplied by its phase mask (Haacke et al., MRM 52:612, 2004).

    `signal` is the magnitude before the mask, which needs the phase of an image: `scanners.scan` applies it,
    to the power `mask_power`, and then shows the least of `projection_mm` of slices (0: each by itself).
    """

    mask_power: int = 4
    projection_mm: float = 0.0


SEQUENCES: dict[str, SpinEcho | InversionRecovery | SpoiledGradientEcho] = {
    "T1w": SpoiledGradientEcho(repetition_time_ms=18, echo_time_ms=5, flip_angle_deg=30),
    "T2w": SpinEcho(repetition_time_ms=4000, echo_time_ms=95),
    "FLAIR": InversionRecovery(repetition_time_ms=9000, echo_time_ms=110, inversion_time_ms=2370),
    "PD": SpinEcho(repetition_time_ms=3000, echo_time_ms=18),
    "GRE": SpoiledGradientEcho(repetition_time_ms=700, echo_time_ms=25, flip_angle_deg=20),
}


def named_sequence(name: str, **parameters: float | None) -> PulseSequence:
    """A sequence of `SEQUENCES` with those of its parameters replaced that are given and not None.

    Raises:
        SettingError: unknown name, a parameter that the sequence lacks, or one that is not positive.
    """
    if name not in SEQUENCES:
        raise SettingError(f'There is no MR sequence "{name}"; choose one of {", ".join(SEQUENCES)}.')
    usual: dict[str, float] = vars(SEQUENCES[name])
    given = {key: value for key, value in parameters.items() if value is not None}
    for key, value in given.items():
        if key not in usual:
            raise SettingError(f"The sequence {name} has no {key}; it has {', '.join(usual)}.")
        if not value > 0:
            raise SettingError(f"{key} of the sequence {name} is {value}; a positive number is needed.")
    return type(SEQUENCES[name])(**(usual | given))
