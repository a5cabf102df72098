"""From patients' volumes to the views that a translation network trains on.

Volumes are prepared once (canonical axes, training spacing, unit intensities) and kept on disk as float16, so that
memory does not grow with the cohort.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from tqdm import tqdm

from medical_gans.data.epoch_views import EpochViews
from medical_gans.errors import InputError, SettingError
from medical_gans.io import Case, TrainingCases, read_mask, read_volume
from medical_gans.io.writing import whole_file
from medical_gans.transforms import (
    body_mask,
    hounsfield_to_unit,
    mr_reference_intensity,
    normalise_mr,
    resize_in_plane,
    translation_augmentation,
)

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis of a canonical (RAS) volume that a plane's slices run along."""
_LEAST_BODY = 0.02


@dataclass(frozen=True)
class PreparedVolume:
    """One volume in unit intensities on disk.

    Attributes:
        name: case it came from.
        path: float16 array ``(x, y, z)`` in canonical axes at the training spacing, in [-1, 1].
        spacing: true voxel size in mm.
        slices: indices along the plane's axis that show enough body.
        box: first and last voxel of the body per axis.
    """

    name: str
    path: Path
    spacing: tuple[float, ...]
    slices: np.ndarray
    box: tuple[tuple[int, int], ...]

    def array(self) -> np.ndarray:
        """The voxels, memory-mapped."""
        return np.load(self.path, mmap_mode="r")


def prepare_volume(
    case: Case, kind: str, spacing: Sequence[float | None], cache_dir: Path, plane: str = "axial", denoise: int = 0
) -> PreparedVolume:
    """Bring the MR or CT of a case to training spacing and unit intensities, once.

    Args:
        case: where the files are.
        kind: ``"mr"``, ``"ct"``, or ``"trusted"`` for the mask of a registered pair: 1 inside, -1 outside.
        spacing: wanted voxel size along the canonical axes in mm; None keeps an axis.
        cache_dir: folder for the prepared arrays; an array already there for the same file and settings is used.
        plane: plane whose slices are listed.
        denoise: voxels of an in-plane median filter on the CT (0: none). A generator that has never seen noise
            does not add any, which the mean absolute error rewards and planning does not miss.

    Raises:
        InputError: the file cannot be read, or holds no body.
    """
    path = getattr(case, kind)
    stamp = f"{path}{path.stat().st_mtime_ns}{kind}{tuple(spacing)}{denoise}"
    stored = cache_dir / f"{case.name}_{kind}_{hashlib.sha256(stamp.encode()).hexdigest()[:12]}.npz"
    array_path = stored.with_suffix(".npy")
    if not (stored.exists() and array_path.exists()):
        cache_dir.mkdir(parents=True, exist_ok=True)
        unit, mask, true_spacing = _prepared_arrays(path, kind, spacing, denoise)
        with whole_file(array_path) as temporary, open(temporary, "wb") as file:
            np.save(file, unit.astype(np.float16))
        sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
        share = np.stack(
            [np.pad(mask.mean(axis=tuple({0, 1, 2} - {a})), (0, max(mask.shape) - n)) for a, n in enumerate(mask.shape)]
        )
        with whole_file(stored) as temporary, open(temporary, "wb") as file:
            np.savez(file, spacing=true_spacing, share=share, box=[(s[0], s[-1] + 1) for s in sides])
    known = np.load(stored)
    share = known["share"][PLANES[plane]]
    return PreparedVolume(
        case.name,
        array_path,
        tuple(float(s) for s in known["spacing"]),
        np.flatnonzero(share > max(_LEAST_BODY, 0.25 * share.max())),
        tuple((int(a), int(b)) for a, b in known["box"]),
    )


def _prepared_arrays(
    path: Path, kind: str, spacing: Sequence[float | None], denoise: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    from scipy import ndimage

    volume = read_mask(path) if kind == "trusted" else read_volume(path)
    orientation = nibabel.io_orientation(volume.affine)
    array = nibabel.apply_orientation(volume.array, orientation)
    voxel = tuple(float(s) for s in np.take(volume.spacing, np.argsort(orientation[:, 0])))
    mask = array if kind == "trusted" else body_mask(array, voxel, "MR" if kind == "mr" else "CT")
    if not mask.any():
        raise InputError(f"{path} shows no body: nothing stands out from air. Leave this file out, or export it again.")
    if kind == "mr":
        unit = normalise_mr(array, mr_reference_intensity(array, mask))
    elif kind == "trusted":
        unit = np.where(array, np.float32(1.0), np.float32(-1.0))
    else:
        hounsfield = ndimage.median_filter(array, size=(denoise, denoise, 1)) if denoise else array
        around = ndimage.binary_dilation(mask, iterations=3)
        unit = np.where(around, hounsfield_to_unit(hounsfield), np.float32(-1.0))
    resized, true_spacing = resize_in_plane(torch.from_numpy(unit)[None, None], voxel, spacing)
    mask_resized = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), size=resized.shape[2:], mode="nearest"
    )
    return resized[0, 0].numpy(), mask_resized[0, 0].numpy() > 0, true_spacing


class TranslationViews(EpochViews):
    """Random views of MR and CT.

    Args:
        mr: prepared MR volumes.
        ct: prepared CT volumes; in paired training the i-th is the CT of the i-th MR.
        crop_size: voxels of a view: two numbers for slices, three for blocks.
        views_per_epoch: length of the data set.
        paired: cut MR and CT at the same place.
        trusted: where each pair may teach; None trusts a pair everywhere. Without any, views do not have it.
        plane: plane of the slices (2D).
        adjacent: slices stacked as channels (2.5D), odd.
        seed: seed of every choice.
        augmentation: arguments of `transforms.translation_augmentation`.

    Yields:
        ``{"mr": (channel, *crop), "ct": (channel, *crop)}`` in [-1, 1]; with trusted pairs also ``"trusted"``,
        1 where the CT may teach and -1 where not.

    Raises:
        InputError: one of the two lists is empty, or a pair lies on two grids.
        SettingError: crop, plane or adjacent make no sense.
    """

    def __init__(
        self,
        mr: Sequence[PreparedVolume],
        ct: Sequence[PreparedVolume],
        *,
        crop_size: Sequence[int],
        views_per_epoch: int,
        paired: bool = False,
        trusted: Sequence[PreparedVolume | None] = (),
        plane: str = "axial",
        adjacent: int = 1,
        seed: int = 0,
        augmentation: dict | None = None,
    ) -> None:
        for kind, volumes in (("MR", mr), ("CT", ct)):
            if not volumes:
                raise InputError(f"There is no {kind} volume to train on. Training needs at least one MR and one CT.")
        if len(crop_size) not in (2, 3) or any(c % 4 or c < 4 for c in crop_size):
            raise SettingError(f"crop_size is {list(crop_size)}; give two or three multiples of 4.")
        if plane not in PLANES:
            raise SettingError(f"plane is '{plane}'; choose axial, coronal or sagittal.")
        if adjacent < 1 or adjacent % 2 == 0:
            raise SettingError(f"adjacent is {adjacent}; give an odd number of slices.")
        super().__init__(views_per_epoch, seed)
        self.volumes: dict[str, list] = {"mr": list(mr), "ct": list(ct)}
        self.crop_size = tuple(crop_size)
        self.paired = paired
        self.axis = PLANES[plane]
        self.adjacent = adjacent
        options = {"rotation": 10.0, "scaling": 0.1, "flip": True, **(augmentation or {})}
        if paired and any(trusted):
            self.volumes["trusted"] = list(trusted)
        groups = [tuple(self.volumes)] if paired else [("mr",), ("ct",)]
        self.augmentations = {keys: translation_augmentation(keys, crop_size, **options) for keys in groups}
        if paired:
            self._check_pairs()
        self._starts = {k: np.cumsum([len(v.slices) for v in self.volumes[k]]) for k in ("mr", "ct")}

    def _check_pairs(self) -> None:
        if len(self.volumes["mr"]) != len(self.volumes["ct"]):
            raise InputError("Paired training needs as many CTs as MRs; leave the unpaired ones out.")
        for mr, ct in zip(self.volumes["mr"], self.volumes["ct"], strict=True):
            if mr.array().shape != ct.array().shape:
                raise InputError(
                    f"MR and CT of {mr.name} lie on different grids ({mr.array().shape} and {ct.array().shape}). "
                    "Register the CT to the MR with mr_to_ct register, or train with paired=false."
                )
        for mr, mask in zip(self.volumes["mr"], self.volumes.get("trusted", ()), strict=False):
            if mask is not None and mask.array().shape != mr.array().shape:
                raise InputError(
                    f"The trusted mask of {mr.name} lies on another grid than its MR. Register the pair again."
                )

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        view: dict[str, torch.Tensor] = {}
        for number, (keys, augmentation) in enumerate(self.augmentations.items()):
            rng = self.random(index, number)
            windows = self._windows(keys, rng)
            augmentation.set_random_state(seed=int(rng.integers(2**31)))
            moved = augmentation(windows)
            view.update({k: torch.as_tensor(moved[k]).as_subclass(torch.Tensor).contiguous() for k in keys})
        return view

    def _windows(self, keys: tuple[str, ...], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Same window of every key, larger than the view so that rotation finds voxels in its corners."""
        starts = self._starts[keys[0]]
        pick = int(rng.integers(starts[-1]))
        which = int(np.searchsorted(starts, pick, side="right"))
        volume = self.volumes[keys[0]][which]
        spatial = [a for a in range(3) if a != self.axis] if len(self.crop_size) == 2 else [0, 1, 2]
        centre = {a: int(rng.integers(*volume.box[a])) for a in spatial}
        for axis, crop in zip(spatial, self.crop_size, strict=True):
            low, high = volume.box[axis]
            margin = crop // 2 - crop // 8
            first, last = sorted((low + margin, high - margin))
            centre[axis] = min(max(centre[axis], first), last)
        windows = {}
        for key in keys:
            stored = self.volumes[key][which]
            array = np.ones(volume.array().shape, np.float16) if stored is None else stored.array()
            ranges = {
                a: np.arange(-(c * 5 // 8), c * 5 // 8) + centre[a]
                for a, c in zip(spatial, self.crop_size, strict=True)
            }
            if len(spatial) == 2:
                here = int(volume.slices[pick - (starts[which] - len(volume.slices))])
                ranges[self.axis] = np.clip(
                    here + np.arange(self.adjacent) - self.adjacent // 2, 0, array.shape[self.axis] - 1
                )
            windows[key] = torch.from_numpy(self._cut(array, [ranges[a] for a in range(3)]))
        return windows

    def _cut(self, array: np.ndarray, ranges: list[np.ndarray]) -> np.ndarray:
        block = np.full([len(r) for r in ranges], -1.0, dtype=np.float32)
        inside = [(r >= 0) & (r < n) for r, n in zip(ranges, array.shape, strict=True)]
        source = [r[i] for r, i in zip(ranges, inside, strict=True)]
        block[np.ix_(*inside)] = array[np.ix_(*source)]
        return np.moveaxis(block, self.axis, 0) if len(self.crop_size) == 2 else block[None]


def translation_views(
    cases: TrainingCases,
    *,
    cache_dir: str | Path,
    spacing: Sequence[float | None],
    crop_size: Sequence[int],
    views_per_epoch: int,
    paired: bool = False,
    plane: str = "axial",
    adjacent: int = 1,
    denoise: int = 0,
    seed: int = 0,
    augmentation: dict | None = None,
) -> TranslationViews:
    """Prepare the training volumes of a cohort, with a progress bar, and make the data set of views.

    See `prepare_volume` and `TranslationViews` for arguments and errors.
    """
    prepared: dict[str, list[PreparedVolume]] = {"mr": [], "ct": []}
    work = [("mr", case) for case in cases.mr] + [("ct", case) for case in cases.ct]
    for kind, case in tqdm(work, desc="preparing volumes", leave=False):
        prepared[kind].append(prepare_volume(case, kind, spacing, Path(cache_dir), plane, denoise))
    trusted = [
        prepare_volume(case, "trusted", spacing, Path(cache_dir), plane) if case.trusted else None
        for case in (cases.mr if paired else ())
    ]
    return TranslationViews(
        prepared["mr"],
        prepared["ct"],
        crop_size=crop_size,
        views_per_epoch=views_per_epoch,
        paired=paired,
        trusted=trusted,
        plane=plane,
        adjacent=adjacent,
        seed=seed,
        augmentation=augmentation,
    )
