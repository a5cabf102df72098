"""Signal equations against a Bloch simulation, pulse by pulse, until the magnetisation repeats itself."""

from __future__ import annotations

import numpy as np
import pytest

from medical_gans.errors import SettingError
from medical_gans.phantom import TISSUES, Tissue
from medical_gans.phantom.sequences import InversionRecovery, SpinEcho, SpoiledGradientEcho, named_sequence

T1, T2, T2_STAR, DENSITY = 850.0, 90.0, 40.0, 0.8


def recover(longitudinal: float, duration: float) -> float:
    return DENSITY + (longitudinal - DENSITY) * np.exp(-duration / T1)


def signal_of(sequence: SpinEcho | InversionRecovery | SpoiledGradientEcho, tissue: Tissue) -> float:
    found = TISSUES[tissue]
    return float(sequence.signal(found.t1, found.t2, found.t2_star, found.proton_density))


def test_spin_echo_equals_repeated_excitation():
    longitudinal = DENSITY
    for _ in range(50):
        transverse = longitudinal  # a 90 degree pulse turns all of it
        longitudinal = recover(0.0, 600)
    signal = SpinEcho(600, 15).signal(T1, T2, T2_STAR, DENSITY)
    assert signal == pytest.approx(transverse * np.exp(-15 / T2), rel=1e-9)


def test_spoiled_gradient_echo_equals_repeated_excitation():
    longitudinal, angle = DENSITY, np.deg2rad(30)
    for _ in range(2000):
        transverse = longitudinal * np.sin(angle)
        longitudinal = recover(longitudinal * np.cos(angle), 18)
    signal = SpoiledGradientEcho(18, 5, 30).signal(T1, T2, T2_STAR, DENSITY)
    assert signal == pytest.approx(transverse * np.exp(-5 / T2_STAR), rel=1e-9)


@pytest.mark.parametrize("inversion_time", [300.0, 2370.0])
def test_inversion_recovery_equals_repeated_inversion(inversion_time):
    longitudinal = DENSITY
    for _ in range(50):
        transverse = recover(-longitudinal, inversion_time)
        longitudinal = recover(0.0, 5000 - inversion_time)
    signal = InversionRecovery(5000, 110, inversion_time).signal(T1, T2, T2_STAR, DENSITY)
    assert signal == pytest.approx(abs(transverse) * np.exp(-110 / T2), rel=1e-9)


def test_named_sequences_give_the_contrast_of_their_names():
    fat, white, grey, csf, bone = (
        Tissue.FAT,
        Tissue.WHITE_MATTER,
        Tissue.GREY_MATTER,
        Tissue.CSF,
        Tissue.CORTICAL_BONE,
    )
    for name, bright_to_dark in {
        "T1w": (fat, white, grey, csf, bone),
        "T2w": (csf, grey, white, bone),
        "FLAIR": (Tissue.OEDEMA, grey, white, csf),
        "PD": (grey, white, bone),
    }.items():
        signals = [signal_of(named_sequence(name), tissue) for tissue in bright_to_dark]
        assert signals == sorted(signals, reverse=True), name
    assert signal_of(named_sequence("FLAIR"), csf) < 0.05 * signal_of(named_sequence("FLAIR"), white)


def test_parameters_replace_the_usual_ones():
    assert named_sequence("T2w", echo_time_ms=60, flip_angle_deg=None) == SpinEcho(4000, 60)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("T3w", {}, "T1w, T2w, FLAIR, PD"),
        ("T2w", {"inversion_time_ms": 100}, "has no inversion_time_ms"),
        ("T1w", {"echo_time_ms": 0}, "positive"),
    ],
)
def test_wrong_settings_are_refused(name, parameters, message):
    with pytest.raises(SettingError, match=message):
        named_sequence(name, **parameters)
