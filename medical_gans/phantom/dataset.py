"""Folders of phantom patients that read like real data sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medical_gans.errors import OutputError, SettingError
from medical_gans.io.volumes import save_volume
from medical_gans.io.writing import whole_folder

from .acquisition import simulate_ct, simulate_mr
from .grid import Grid
from .head import head
from .limb import limb
from .mr_series import write_mr_series
from .phantom import Phantom
from .sequences import PulseSequence, named_sequence

_ANATOMIES: dict[str, Callable[[int], Phantom]] = {"head": head, "limb": limb}
_SPACING_MM = {"head": (1.5, 1.5, 1.5), "limb": (1.5, 1.5, 3.0)}
_LAYOUTS = ("synthrad", "unpaired", "dicom")


def write_dataset(
    folder: str | os.PathLike[str],
    anatomy: str = "head",
    patients: int = 8,
    layout: str = "synthrad",
    seed: int = 0,
    *,
    spacing: float | Sequence[float] | None = None,
    sequence: str = "T1w",
) -> Path:
    """Write phantom patients, each of its own anatomy and scanned with its own noise, blur and bias field.

    Args:
        folder: must not exist yet, or be empty; it appears when all is written.
        anatomy: "head" or "limb".
        patients: how many; in the unpaired layout as many for MR and as many others for CT.
        layout: "synthrad" for `<patient>/{mr,ct,mask}.nii.gz` on one grid, "unpaired" for
            `mr/<patient>.nii.gz` and `ct/<patient>.nii.gz` of different patients, "dicom" for the MRs of "synthrad"
            as DICOM series `<patient>/0001.dcm`, ...
        seed: of everything; equal seeds give equal voxels.
        spacing: of the axial grid in mm; by default 1.5, for limbs 3 between slices.
        sequence: of the MR, see `simulate_mr`; TR and TE vary by 10 % between patients.

    Raises:
        SettingError: unknown anatomy, layout or sequence, fewer than one patient.
        OutputError: the folder holds something, or cannot be written.
    """
    target = Path(folder)
    if anatomy not in _ANATOMIES:
        raise SettingError(f'There is no phantom of a "{anatomy}"; choose one of {", ".join(_ANATOMIES)}.')
    if layout not in _LAYOUTS:
        raise SettingError(f'There is no layout "{layout}"; choose one of {", ".join(_LAYOUTS)}.')
    if patients < 1:
        raise SettingError(f"A data set of {patients} patients was asked for; at least one is needed.")
    named_sequence(sequence)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} is not empty. Choose a new folder for the phantom data set.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as new:
        for index in range(2 * patients if layout == "unpaired" else patients):
            name = f"{anatomy}_{index:03d}"
            rng = np.random.default_rng([seed, index])
            phantom = _ANATOMIES[anatomy](int(rng.integers(2**31)))
            grid = phantom.grid(_SPACING_MM[anatomy] if spacing is None else spacing)
            if layout == "dicom":
                write_mr_series(new / name, name, *_mr(phantom, grid, sequence, rng))
            elif layout == "synthrad":
                _write_mr(new / name / "mr.nii.gz", phantom, grid, sequence, rng)
                _write_ct(new / name / "ct.nii.gz", phantom, grid, rng)
                save_volume(new / name / "mask.nii.gz", phantom.body_mask(grid).astype(np.uint8), grid.affine)
            elif index < patients:
                _write_mr(new / "mr" / f"{name}.nii.gz", phantom, grid, sequence, rng)
            else:
                _write_ct(new / "ct" / f"{name}.nii.gz", phantom, grid, rng)
    return target


def _mr(
    phantom: Phantom, grid: Grid, name: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, PulseSequence]:
    """Whole numbers, their affine, and the sequence with this patient's times."""
    usual = vars(named_sequence(name))
    times = {part: usual[part] * rng.uniform(0.9, 1.1) for part in ("repetition_time_ms", "echo_time_ms")}
    mr = simulate_mr(
        phantom,
        grid,
        name,
        **times,
        blur_mm=rng.uniform(0.8, 1.3),
        bias=rng.uniform(0.05, 0.15),
        noise=rng.uniform(0.006, 0.02),
        seed=int(rng.integers(2**31)),
    )
    return np.rint(mr).astype(np.int16), grid.affine, named_sequence(name, **times)


def _write_mr(path: Path, phantom: Phantom, grid: Grid, name: str, rng: np.random.Generator) -> None:
    array, affine, _ = _mr(phantom, grid, name, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(path, array, affine)


def _write_ct(path: Path, phantom: Phantom, grid: Grid, rng: np.random.Generator) -> None:
    ct = simulate_ct(
        phantom,
        grid,
        blur_mm=rng.uniform(0.7, 1.3),
        noise_hu=rng.uniform(6, 16),
        seed=int(rng.integers(2**31)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(path, ct, grid.affine)
