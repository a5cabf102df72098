"""CTs made ready to be painted: without noise, with bones and body, and with the real MR where it is registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from medical_gans.data.pairs import read_pair
from medical_gans.errors import InputError
from medical_gans.io import Case, read_volume
from medical_gans.io.orientation import ras_spacing, ras_view
from medical_gans.io.writing import made_from, whole_file
from medical_gans.transforms import AIR_HU, body_mask, mr_reference_intensity, resize_in_plane

_CLOSING_MM = 4.0
_LEAST_BONE_MM3 = 900.0
_VERSION = 3  # of prepared arrays


def smoothed_ct(hounsfield: np.ndarray, deviation: float = 50.0) -> np.ndarray:
    """CT without its noise: the mean over 5 x 5 x 3 voxels, those of similar HU only (Tomasi and Manduchi 1998).

    Painted texture must not repeat the noise of the CT, or a network learns to hand grain of the MR on as HU.

    Args:
        hounsfield: ``(x, y, z)``.
        deviation: HU that count as similar; a tenth of the HU above 200 comes on top.
    """
    padded = np.pad(hounsfield.astype(np.float32), ((2, 2), (2, 2), (1, 1)), mode="edge")
    centre = hounsfield.astype(np.float32)
    scale = 1.0 / (deviation + 0.1 * np.clip(np.abs(centre) - 200.0, 0.0, None))
    total, weights = np.zeros_like(centre), np.zeros_like(centre)
    for dx in range(-2, 3):
        for dy in range(-2, 3):
            for dz in range(-1, 2):
                moved = padded[
                    2 + dx : 2 + dx + centre.shape[0],
                    2 + dy : 2 + dy + centre.shape[1],
                    1 + dz : 1 + dz + centre.shape[2],
                ]
                weight = np.exp(-0.5 * ((moved - centre) * scale) ** 2 - (dx * dx + dy * dy + 4 * dz * dz) / 5.0)
                total += weight * moved
                weights += weight
    return total / weights


def bone_mask(hounsfield: np.ndarray, spacing: Sequence[float], threshold: float = 180.0) -> np.ndarray:
    """Bones with their marrow: parts above `threshold`, closed by 4 mm and filled slice by slice.

    Args:
        hounsfield: ``(x, y, z)``, without noise.
        spacing: voxel size in mm.
        threshold: HU; parts below 0.9 ml are left out.
    """
    from scipy import ndimage

    core = hounsfield > threshold
    labels, _ = ndimage.label(core)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    core = (sizes * float(np.prod(spacing)) > _LEAST_BONE_MM3)[labels]
    rim = max(1, round(_CLOSING_MM / spacing[0]))
    disk = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), rim)
    bone = np.zeros_like(core)
    for k in range(core.shape[2]):
        padded = np.pad(core[:, :, k], 2 * rim)
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(padded, disk))
        bone[:, :, k] = closed[2 * rim : -2 * rim, 2 * rim : -2 * rim]
    return bone


@dataclass(frozen=True)
class PreparedAnatomy:
    """A CT made ready to be painted, on disk, with its real MR where the two are registered.

    Attributes:
        name: case it came from.
        path: int16 array ``(map, x, y, z)`` in canonical axes: HU raised by 1024 in the body, then 100 times the share
            of bone and body; of a pair also 1000 times the MR relative to its reference intensity, and 100 times
            where it is trusted.
        spacing: true voxel size in mm.
        paired: whether the MR is there.
    """

    name: str
    path: Path
    spacing: tuple[float, ...]
    paired: bool = False

    def array(self) -> np.ndarray:
        """The maps, memory-mapped."""
        return np.load(self.path, mmap_mode="r")


def prepare_anatomy(
    case: Case, spacing: Sequence[float | None], cache_dir: Path, paired: bool = False
) -> PreparedAnatomy:
    """Bring the CT of a case to training spacing, without noise, with its bone and body, once.

    Args:
        case: where the CT is, and of a pair the MR on the same grid and, where the case has one, the mask of trust.
        spacing: wanted voxel size along the canonical axes in mm; None keeps an axis.
        cache_dir: folder for the prepared arrays.
        paired: take the MR along.

    Raises:
        InputError: a file cannot be read, the CT holds no body, or a pair lies on two grids.
    """
    if case.ct is None:
        raise InputError(f"{case.name} has no CT to paint.")
    files = [case.ct, *(f for f in (case.mr, case.trusted or case.mask) if paired and f is not None)]
    stored = cache_dir / f"{case.name}_anatomy_{made_from(files, paired, tuple(spacing), _VERSION)}.npy"
    beside = stored.with_suffix(".npz")
    if not (stored.exists() and beside.exists()):
        cache_dir.mkdir(parents=True, exist_ok=True)
        maps, true_spacing = _anatomy(case, spacing, paired)
        with whole_file(stored) as temporary, open(temporary, "wb") as file:
            np.save(file, np.rint(maps).astype(np.int16))
        with whole_file(beside) as temporary, open(temporary, "wb") as file:
            np.savez(file, spacing=true_spacing)
    return PreparedAnatomy(case.name, stored, tuple(float(s) for s in np.load(beside)["spacing"]), paired)


def _anatomy(case: Case, spacing: Sequence[float | None], paired: bool) -> tuple[np.ndarray, tuple[float, ...]]:
    volume = read_volume(case.ct, modality="CT")  # type: ignore[arg-type]
    edges = ras_spacing(volume.affine)

    def in_ras(array: np.ndarray) -> np.ndarray:
        return ras_view(array, volume.affine).astype(np.float32)

    hounsfield = in_ras(volume.array)
    body = body_mask(hounsfield, edges, "CT")
    if not body.any():
        raise InputError(f"{case.ct} shows no body: nothing stands out from air. Leave this file out.")
    hounsfield = smoothed_ct(smoothed_ct(hounsfield))
    maps = [np.where(body, hounsfield - AIR_HU, 0.0), 100.0 * bone_mask(hounsfield, edges), 100.0 * body]
    if paired:
        pair = read_pair(replace(case, mask=case.trusted or case.mask))
        mr = in_ras(pair.mr.array)
        reference = mr_reference_intensity(mr, body_mask(mr, edges, "MR"))
        maps += [1000.0 * np.clip(mr / reference, 0.0, 2.0), 100.0 * in_ras(pair.mask)]
    resized, true_spacing = resize_in_plane(torch.from_numpy(np.stack(maps).astype(np.float32))[None], edges, spacing)
    return resized[0].numpy(), true_spacing
