"""From patients' volumes to the views that a translation network trains on.

Volumes are prepared once (canonical axes, training spacing, unit intensities) and kept on disk, so that memory does not
grow with the cohort. What is kept is what the network sees in inference, to the last bit.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCropd, Randomizable
from torch.nn import functional
from torch.utils.data import get_worker_info
from tqdm import tqdm

from medical_gans.data.batched_augmentation import batched
from medical_gans.data.epoch_views import EpochViews
from medical_gans.errors import InputError, SettingError
from medical_gans.io import Case, TrainingCases, Volume, read_mask, read_volume
from medical_gans.io.formats import corners, largest_distance
from medical_gans.io.orientation import ras_affine, ras_shape
from medical_gans.io.writing import made_from, whole_file
from medical_gans.transforms import body_mask, unit_to_hounsfield
from medical_gans.transforms.grid import PLANES, NetworkView, SlicePlane, ToGridd, WholeBody, grid_of, slices_at
from medical_gans.transforms.reading import checked_ct, checked_mr, on_its_grid, preprocessed

_ONE_GRID = 0.2  # of a voxel of training, that MR and CT of a pair may be apart
logger = logging.getLogger(__name__)

Transform = Callable[[dict[str, Any]], Mapping[Any, Any]]
_LEAST_BODY = 0.02


@dataclass(frozen=True)
class PreparedVolume:
    """One volume in unit intensities on disk.

    Attributes:
        name: case it came from.
        path: float32 array ``(x, y, z)`` in canonical axes on the grid of the network, in [-1, 1]. Slices are those
            of the file, and are resampled in their plane; blocks along every axis.
        spacing: true voxel size in mm.
        slices: indices along the plane's axis that show enough body.
        box: first and last voxel of the body per axis.
        distance: of adjacent slices, in slices.
        corners: outermost voxel centres of the image (mm), ``(3, 8)``; None in caches of before.
    """

    name: str
    path: Path
    spacing: tuple[float, ...]
    slices: np.ndarray
    box: tuple[tuple[int, int], ...]
    distance: float = 1.0
    corners: np.ndarray | None = None

    def array(self) -> np.ndarray:
        """The voxels, memory-mapped."""
        about = self.path.stat()
        return _mapped(self.path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=64)  # opening takes longer than cutting a view; and open files are few
def _mapped(path: Path, *written: int) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def prepare_volume(
    case: Case,
    kind: str,
    preprocessing: Transform,
    cache_dir: Path,
    dimensions: int = 2,
    recipe: Any = None,
) -> PreparedVolume:
    """Bring the MR or CT of a case onto the network's grid in unit intensities, once.

    Args:
        case: where the files are.
        kind: ``"mr"``, ``"ct"``, or ``"trusted"`` for the mask of a registered pair: 1 inside, -1 outside.
        preprocessing: of ``{"image": MR}`` or ``{"ct": CT}``, with a `transforms.ToGridd`; the same as in inference.
        cache_dir: folder for the prepared arrays; an array already there for the same file and recipe is used.
        dimensions: 2 prepares slices, 3 blocks.
        recipe: plain values that tell one preprocessing from another; None takes its grid.

    Raises:
        InputError: the file cannot be read, or holds no body.
    """
    path = getattr(case, kind)
    grid = grid_of(preprocessing)
    stamp = made_from([path], kind, grid.spacing, grid.planes, dimensions, recipe)
    stored = cache_dir / f"{case.name}_{kind}_{stamp}.npz"
    array_path = stored.with_suffix(".npy")
    if not (stored.exists() and array_path.exists()):
        cache_dir.mkdir(parents=True, exist_ok=True)
        key = "image" if kind == "mr" else "ct"
        if kind == "trusted":
            volume = read_mask(path)
            inside = np.where(volume.array, np.float32(1), np.float32(-1))
            image = grid({"ct": on_its_grid(inside[None], volume)})["ct"]
        else:
            volume = (checked_mr if kind == "mr" else checked_ct)(read_volume(path, modality=kind.upper()))
            for note in volume.notes:
                logger.warning("%s: %s", path.name, note)
            image = preprocessed(preprocessing, {key: volume})[key]
        unit, mask, true_spacing, distance = _on_grid(image, kind, grid, dimensions)
        with whole_file(array_path) as temporary, open(temporary, "wb") as file:
            np.save(file, unit)
        sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
        share = mask.mean(axis=tuple({0, 1, 2} - {PLANES[grid.planes[0]]}))
        box = [(side[0], side[-1] + 1) for side in sides]
        with whole_file(stored) as temporary, open(temporary, "wb") as file:
            place = _canonical_corners(volume)
            np.savez(file, spacing=true_spacing, share=share, box=box, distance=distance, corners=place)
    known = np.load(stored)
    share = known["share"]
    return PreparedVolume(
        case.name,
        array_path,
        tuple(float(s) for s in known["spacing"]),
        np.flatnonzero(share > max(_LEAST_BODY, 0.25 * share.max())),
        tuple((int(a), int(b)) for a, b in known["box"]),
        float(known["distance"]),
        known.get("corners"),
    )


def _canonical_corners(volume: Volume) -> np.ndarray:
    """The outermost voxel centres (mm) in the order of RAS axes, however the file counts."""
    stored = volume.array.shape
    return corners(ras_shape(stored, volume.affine), ras_affine(volume.affine, stored))


def _on_grid(
    image: MetaTensor, kind: str, grid: ToGridd, dimensions: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...], float]:
    """All that a network sees of a volume, where the body is in it, its spacing, and the distance of slices."""
    unit = image.as_tensor()[0]
    edges = tuple(float(e) for e in np.linalg.norm(np.asarray(image.affine, dtype=np.float64)[:3, :3], axis=0))
    if kind == "trusted":
        mask = unit.numpy() > 0
    elif kind == "mr":
        mask = body_mask((unit + 1.0).numpy(), edges)
    else:
        mask = body_mask(unit_to_hounsfield(unit).numpy(), edges, "CT")
    if not mask.any():
        name = image.meta.get("filename_or_obj", kind)
        raise InputError(f"{name} shows no body: nothing stands out from air. Leave this file out.")
    whole = tuple(slice(0, size) for size in unit.shape)
    if dimensions == 3:
        view: NetworkView = WholeBody(unit.shape, edges, grid.spacing)
        made, distance = view.images(unit, whole)[0, 0], 1.0
    else:
        axis = PLANES[grid.planes[0]]
        plane = SlicePlane(unit.shape, edges, grid.spacing, axis)
        made, distance, view = plane.images(unit, whole)[:, 0].movedim(0, axis), plane.distance, plane
    true_spacing = tuple(n * e / m for n, e, m in zip(unit.shape, edges, made.shape, strict=True))
    mask_there = functional.interpolate(torch.from_numpy(mask)[None, None].float(), size=made.shape, mode="nearest")
    return made.contiguous().numpy(), mask_there[0, 0].numpy() > 0, true_spacing, distance


class _Everywhere(PreparedVolume):
    """Trust in a pair that came without a mask."""

    def array(self) -> np.ndarray:
        """1 in every voxel, in the memory of one."""
        return np.broadcast_to(np.float32(1), super().array().shape)


def _everywhere(mr: PreparedVolume) -> PreparedVolume:
    return _Everywhere(mr.name, mr.path, mr.spacing, mr.slices, mr.box, mr.distance)


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
        augmentation: of ``{"mr": ..., "ct": ..., "trusted": ...}``, or of MR or CT alone where they are not paired: a
            MONAI transform that leaves `crop_size` voxels; its random state is set for every view. None cuts the
            middle. Where each step has a batched form, those of a batch are made at once, see `batched_augmentation`.
        device: where views are made, if they are made in batches and by no worker.

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
        augmentation: Transform | None = None,
        device: torch.device | str = "cpu",
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
        if paired and any(trusted):
            everywhere = [_everywhere(volume) for volume in mr]
            self.volumes["trusted"] = [mask or all_of_it for mask, all_of_it in zip(trusted, everywhere, strict=True)]
        self.crop_size = tuple(crop_size)
        self.paired = paired
        self.axis = PLANES[plane]
        self.adjacent = adjacent
        self.groups = [tuple(self.volumes)] if paired else [("mr",), ("ct",)]
        self.augmentation = augmentation or CenterSpatialCropd([*self.volumes], crop_size, allow_missing_keys=True)
        self.batched = batched(self.augmentation) if len(self.crop_size) == 2 else None
        self.device = torch.device(device)
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
            if mr.corners is not None and ct.corners is not None:
                apart = largest_distance(mr.corners, ct.corners)
                if apart > _ONE_GRID * min(*mr.spacing, *ct.spacing):
                    raise InputError(
                        f"MR and CT of {mr.name} lie at different places: corners up to {apart:.3g} mm apart. "
                        "Register the CT to the MR with mr_to_ct register, or train with paired=false."
                    )
        for mr, mask in zip(self.volumes["mr"], self.volumes.get("trusted", ()), strict=False):
            if mask.array().shape != mr.array().shape:
                raise InputError(
                    f"The trusted mask of {mr.name} lies on another grid than its MR. Register the pair again."
                )

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Several views at once, as a loader asks for those of a batch: on `device`, unless a worker makes them."""
        if self.batched is None:
            return [self._one_by_one(index) for index in indices]
        device = self.device if get_worker_info() is None else torch.device("cpu")
        views: list[dict[str, torch.Tensor]] = [{} for _ in indices]
        for number, keys in enumerate(self.groups):
            windows, seeds = [], []
            for index in indices:
                rng = self.random(index, number)
                windows.append(self._windows(keys, rng))
                seeds.append(int(rng.integers(2**31)))
            batch = {key: torch.stack([window[key] for window in windows]).to(device) for key in keys}
            moved = self.batched(batch, seeds)
            self._check_trust(keys, moved)
            for key in keys:
                for view, image in zip(views, moved[key], strict=True):
                    view[key] = image
        return views

    def _one_by_one(self, index: int) -> dict[str, torch.Tensor]:
        """A view through transforms that have no batched form."""
        view: dict[str, torch.Tensor] = {}
        for number, keys in enumerate(self.groups):
            rng = self.random(index, number)
            windows = self._windows(keys, rng)
            if isinstance(self.augmentation, Randomizable):
                self.augmentation.set_random_state(seed=int(rng.integers(2**31)))
            moved = self.augmentation(windows)  # type: ignore[arg-type]
            self._check_trust(keys, moved)
            view.update({k: torch.as_tensor(moved[k]).as_subclass(torch.Tensor).contiguous() for k in keys})
        return view

    @staticmethod
    def _check_trust(keys: tuple[str, ...], moved: Mapping[Any, Any]) -> None:
        if "trusted" in keys and moved["trusted"].shape != moved["ct"].shape:
            raise SettingError("augmentation leaves out where pairs are trusted. Add trusted to its keys mr and ct.")

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
            array = self.volumes[key][which].array()
            ranges = {
                a: np.arange(-(c * 5 // 8), c * 5 // 8) + centre[a]
                for a, c in zip(spatial, self.crop_size, strict=True)
            }
            if len(spatial) == 2:
                here = int(volume.slices[pick - (starts[which] - len(volume.slices))])
                windows[key] = self._stack(self.volumes[key][which], here, ranges)
            else:
                windows[key] = torch.from_numpy(self._cut(array, [ranges[a] for a in range(3)]))[None]
        return windows

    def _stack(self, volume: PreparedVolume, here: int, ranges: dict[int, np.ndarray]) -> torch.Tensor:
        """A window of a slice and its neighbours, ``(channel, *crop)``, as `transforms.grid.SlicePlane` stacks them."""
        array = volume.array()
        positions = here + (torch.arange(self.adjacent) - self.adjacent // 2) * volume.distance
        first = max(0, int(positions.min().floor()))
        last = min(array.shape[self.axis], int(positions.max().ceil()) + 2)
        ranges = {**ranges, self.axis: np.arange(first, last)}
        slices = np.moveaxis(self._cut(array, [ranges[a] for a in range(3)]), self.axis, 0)
        inside = positions.clamp(0, array.shape[self.axis] - 1) - first
        return slices_at(torch.from_numpy(np.ascontiguousarray(slices)), inside)

    @staticmethod
    def _cut(array: np.ndarray, ranges: list[np.ndarray]) -> np.ndarray:
        """A block of consecutive voxels; -1 beyond the array."""
        block = np.full([len(r) for r in ranges], -1.0, dtype=np.float32)
        taken = [slice(max(0, r[0]), max(0, min(n, r[-1] + 1))) for r, n in zip(ranges, array.shape, strict=True)]
        place = [slice(t.start - r[0], max(t.start, t.stop) - r[0]) for t, r in zip(taken, ranges, strict=True)]
        block[tuple(place)] = array[tuple(taken)]
        return block


def translation_views(
    cases: TrainingCases,
    *,
    preprocessing: Transform,
    cache_dir: str | Path,
    crop_size: Sequence[int],
    recipe: Any = None,
    **options: Any,
) -> TranslationViews:
    """Prepare the training volumes of a cohort, with a progress bar, and make the data set of views.

    See `prepare_volume` and `TranslationViews` for arguments and errors.
    """
    prepared: dict[str, list[PreparedVolume]] = {"mr": [], "ct": []}
    work = [("mr", case) for case in cases.mr] + [("ct", case) for case in cases.ct]
    for kind, case in tqdm(work, desc="preparing volumes", leave=False):
        made = prepare_volume(case, kind, preprocessing, Path(cache_dir), len(crop_size), recipe)
        prepared[kind].append(made)
    plane = grid_of(preprocessing).planes[0]
    trusted = [
        prepare_volume(case, "trusted", preprocessing, Path(cache_dir), len(crop_size), recipe)
        if case.trusted
        else None
        for case in (cases.mr if options.get("paired") else ())
    ]
    return TranslationViews(
        prepared["mr"], prepared["ct"], crop_size=crop_size, plane=plane, trusted=trusted, **options
    )
