"""Lung patches with and without a nodule, read from whatever they are stored in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medical_gans.errors import InputError, SettingError
from medical_gans.io.formats import image_stem, image_suffix, visible_files
from medical_gans.io.nodules import read_lung_patches, read_nodules
from medical_gans.io.nodules.ct_patches import check_extent, resampled
from medical_gans.io.nodules.lidc import is_lidc
from medical_gans.io.nodules.patch_files import read_patch
from medical_gans.io.nodules.positions import find_table
from medical_gans.io.tables import read_table
from medical_gans.transforms import unit_to_window

LABELS_TABLE = "labels.csv"
_LARGEST_PATCH = 4.0
"""Edge of a file, in edges of a patch, from which it is taken for a whole CT."""
UNDERSTOOD = (
    "an .npz with image (uint8) and is_nodule; a folder of patches in HU (.nii.gz), with labels.csv (name, is_nodule) "
    "where known; an .npz of nodules in HU; or a folder of CT series with a table of positions"
)


@dataclass(frozen=True, eq=False)
class LungPatches:
    """Patches, centred on whatever is to be judged.

    Attributes:
        hounsfield: ``(n, rows, columns)`` int16, clipped to the window.
        is_nodule: ``(n,)`` int8: 1, 0, or -1 where unknown.
        name: ``(n,)`` unique names, safe for file names.
        spacing: mm along rows and columns; NaN where the source does not say.
        window: HU that the network's range [-1, 1] stands for.
    """

    hounsfield: np.ndarray
    is_nodule: np.ndarray
    name: np.ndarray
    spacing: tuple[float, float]
    window: tuple[float, float]

    def __len__(self) -> int:
        return len(self.hounsfield)

    def select(self, chosen: np.ndarray) -> LungPatches:
        """Those patches that a mask or indices choose."""
        return LungPatches(
            self.hounsfield[chosen], self.is_nodule[chosen], self.name[chosen], self.spacing, self.window
        )

    def hashes(self) -> list[str]:
        """A short hash of each patch, by which one that was trained on is known again."""
        return [hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest()[:12] for one in self.hounsfield]


def read_patches(
    dataset_dir: str | Path,
    *,
    size: int = 48,
    spacing: float | None = 0.7,
    window: Sequence[float] = (-1000.0, 400.0),
) -> LungPatches:
    """Every patch of a data set.

    Args:
        dataset_dir: see `UNDERSTOOD`.
        size: voxels along each edge, cut about the centre.
        spacing: mm that patches whose voxel size is known are brought to; None keeps their own.
        window: HU that patches are clipped to; grey values 0 to 255 of an npz without HU are taken to span it.

    Raises:
        InputError: nothing usable is there.
    """
    low, high = (float(edge) for edge in window)
    if not low < high:
        raise SettingError(f"window is {list(window)}; give the lower and the upper HU.")
    place = Path(os.path.expanduser(dataset_dir))
    if not place.exists():
        raise InputError(f"{place} does not exist. Give {UNDERSTOOD}.")
    if place.is_dir() and len(archives := list(place.glob("*.npz"))) == 1:
        place = archives[0]
    if place.is_dir() and find_table(place) is None and not is_lidc(place):
        return _read_folder(place, size, spacing, (low, high))
    if place.suffix.lower() == ".npz" and _has_grey_values(place):
        unit, nodule = read_lung_patches(place, size)
        names = np.array([f"patch_{index:05d}" for index in range(len(unit))])
        return LungPatches(
            unit_to_window(unit, (low, high)), nodule.astype(np.int8), names, (float("nan"),) * 2, (low, high)
        )
    nodules = read_nodules(place, size=size, spacing=spacing, window=(low, high))
    is_nodule = np.where(nodules.malignancy > 0, 1, -1).astype(np.int8)
    edges = (nodules.spacing[0], nodules.spacing[1])
    return LungPatches(nodules.hounsfield, is_nodule, nodules.name, edges, (low, high))


def _has_grey_values(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "is_nodule" in archive.files
    except Exception:  # a damaged file is for the reader to explain
        return False


def _read_folder(folder: Path, size: int, spacing: float | None, window: tuple[float, float]) -> LungPatches:
    """Single patches as NIfTI."""
    files = [path for path in visible_files(folder) if image_suffix(path) in (".nii", ".nii.gz")]
    if not files:
        raise InputError(f"{folder} holds no patches. Give {UNDERSTOOD}.")
    names = [image_stem(path) for path in files]
    if len(set(names)) < len(names):
        raise InputError(f"{folder} holds two patches called {max(names, key=names.count)}. Rename one.")
    read = [_middle_patch(path, size, spacing, window) for path in files]
    edges = np.array([edge for _, edge in read])
    same = np.allclose(edges, edges[0], rtol=1e-3)
    shown = (float(edges[0, 0]), float(edges[0, 1])) if same else (float("nan"),) * 2
    labels = _labels(folder / LABELS_TABLE, names)
    return LungPatches(np.stack([patch for patch, _ in read]), labels, np.array(names), shown, window)


def _middle_patch(
    path: Path, size: int, spacing: float | None, window: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float]]:
    hounsfield, edges = read_patch(path)
    if hounsfield.ndim == 3:
        hounsfield = hounsfield[..., hounsfield.shape[2] // 2]
    target = (spacing, spacing) if spacing is not None else (edges[0], edges[1])
    for length, old, new in zip(hounsfield.shape, edges, target, strict=False):
        check_extent(length, size, new / old, old, path)
        if length * old > _LARGEST_PATCH * size * new:
            raise InputError(
                f"{path} is {length * old:.0f} mm wide, but a patch has {size * new:.0f} mm: it looks like a whole CT. "
                "Cut patches around what is to be judged, or add a table of positions (annotations.csv)."
            )
    clipped = np.clip(hounsfield, *window)[None]
    made = resampled(clipped, edges[:2], size, target)[0]
    return np.rint(made).astype(np.int16), target


def _labels(table: Path, names: Sequence[str]) -> np.ndarray:
    """``is_nodule`` of each name; -1 without a table or without an entry."""
    if not table.is_file():
        return np.full(len(names), -1, dtype=np.int8)
    known = {}
    for row in read_table(table, ("name", "is_nodule")):
        text = row.text("is_nodule")
        if text not in ("0", "1", ""):
            raise InputError(f"{row.where}: is_nodule is {text!r}; give 0, 1, or nothing where unknown.")
        known[image_stem(Path(row.text("name")))] = int(text or -1)
    return np.array([known.get(name, -1) for name in names], dtype=np.int8)
