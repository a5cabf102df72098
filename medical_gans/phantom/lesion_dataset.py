"""Folders of phantom patients with haemorrhages, from one of two scanners, that read like real data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medical_gans.errors import OutputError, SettingError
from medical_gans.io.volumes import save_volume
from medical_gans.io.writing import whole_folder

from .findings import Findings, head_with_findings
from .grid import Grid
from .head import head
from .scanners import SCANNERS, Scanner, named_scanner, scan, timed
from .susceptibility import dipole_field

CHANNELS = {"source": ("T1w", "T2w", "FLAIR", "PD", "GRE"), "target": ("T1w", "T2w", "FLAIR", "PD", "SWI")}
_EXTENT_MM = ((-96.0, -116.0, -80.0), (96.0, 120.0, 100.0))  # of a scan from the skull's base to the vertex


def write_lesion_dataset(
    folder: str | os.PathLike[str],
    patients: int = 8,
    seed: int = 0,
    *,
    domain: str = "source",
    spacing: float | Sequence[float] = 2.0,
    sequences: Sequence[str] | None = None,
) -> Path:
    """Write heads with haemorrhages: `<patient>/<sequence>.nii.gz`, `lesion.nii.gz` and `brainmask.nii.gz`.

    A patient is named by `case_name`, so that no two patients of different data sets have one name.

    The form of Kamnitsas et al. (IPMI 2017): the target's scanner has susceptibility weighting where the
    source's has a gradient echo. Equal seeds give equal patients in both domains, with equal masks; only
    the scanner differs. Masks are uint8; `lesion` holds the haemorrhages as they are, without their blooming.

    Args:
        folder: must not exist yet, or be empty; it appears when all is written.
        patients: how many.
        seed: of everything; equal seeds give equal voxels.
        domain: "source" (1.5 T) or "target" (3 T, more noise, bias and blur), see `SCANNERS`.
        spacing: of the axial grid in mm.
        sequences: of "T1w", "T2w", "FLAIR", "PD", "GRE", "SWI"; by default those of the domain, see `CHANNELS`.

    Raises:
        SettingError: unknown domain or sequence, no patient, spacing that is not positive.
        OutputError: the folder holds something, or cannot be written.
    """
    target, scanner = Path(folder), named_scanner(domain)
    names = tuple(CHANNELS[domain] if sequences is None else sequences)
    for name in names:
        if name not in scanner.sequences:
            raise SettingError(f'There is no MR sequence "{name}"; choose of {", ".join(scanner.sequences)}.')
    if patients < 1 or not names:
        raise SettingError(f"{patients} patients of {len(names)} sequences were asked for; one at least is needed.")
    if not np.all(np.broadcast_to(spacing, 3) > 0):
        raise SettingError(f"The spacing is {spacing} mm; it must be positive.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} is not empty. Choose a new folder for the phantom data set.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as new:
        for index in range(patients):
            findings = lesion_patient(seed, index, spacing)
            visit = np.random.default_rng([seed, index, 1 + list(SCANNERS).index(domain)])
            _write_patient(new / case_name(domain, seed, index), findings, scanner, names, visit)
    return target


def case_name(domain: str, seed: int, index: int) -> str:
    """Folder of a patient, such as ``source_s4_head_000``: an evaluation knows by it who was seen in training."""
    return f"{domain}_s{seed}_head_{index:03d}"


def lesion_patient(seed: int, index: int, spacing: float | Sequence[float] = 2.0) -> Findings:
    """The patient of this number in the data sets of this seed, before any scanner."""
    rng = np.random.default_rng([seed, index])
    low, high = np.asarray(_EXTENT_MM)
    shape = np.ceil((high - low) / np.broadcast_to(spacing, 3)).astype(int).tolist()
    return head_with_findings(head(int(rng.integers(2**31))), Grid.axial(shape, spacing, (low + high) / 2), rng)


def _write_patient(
    folder: Path, findings: Findings, scanner: Scanner, names: Sequence[str], rng: np.random.Generator
) -> None:
    folder.mkdir()
    maps = findings.maps
    affine, field = maps.grid.affine, dipole_field(maps.susceptibility, maps.grid)
    for name in names:
        image = scan(
            maps,
            timed(scanner.sequences[name], float(rng.uniform(*scanner.timing))),
            tesla=scanner.tesla,
            voxel_mm=scanner.voxels_mm.get(name, (1.0, 1.0, 1.0)),
            field_ppm=field,
            blur_mm=float(rng.uniform(*scanner.blur_mm)),
            bias=float(rng.uniform(*scanner.bias)),
            noise=float(rng.uniform(*scanner.noise)),
            seed=int(rng.integers(2**31)),
        )
        save_volume(folder / f"{name}.nii.gz", np.rint(image).astype(np.int16), affine)
    save_volume(folder / "lesion.nii.gz", findings.lesion.astype(np.uint8), affine)
    save_volume(folder / "brainmask.nii.gz", findings.brain.astype(np.uint8), affine)
