"""Heads made ready to be painted: the CT without what held it, bones, eyes, cavity, and real brains fitted into that.

CT shows hardly anything of a brain, so that the brain of a painted MR is borrowed: a T1 becomes one number per voxel
(0 liquid, 0.5 grey matter, 1 white matter), which any contrast can be made of, and is warped to the cavity of each CT.
Arrays are canonical (right, anterior, superior) with voxels of 1 mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.ndimage import distance_transform_edt as distance

from medical_gans.errors import InputError
from medical_gans.io import read_volume
from medical_gans.io.orientation import ras_spacing, ras_view
from medical_gans.io.writing import made_from, whole_file
from medical_gans.transforms import AIR_HU

DEEPEST_MM = 60.0
"""Distances from the cavity are kept up to this."""

WHITE = 160.0
"""Stored value of white matter."""

_VERSION = 3  # of prepared arrays
_EYE_RADIUS_MM = (7.5, 12.0)  # of the vitreous, 11 to 12, and what a coarse picture leaves of it
_FRONT_MM = 12  # of the cavity: the roof of the eyes
_STRIPPED_ML = 2200.0  # an object smaller than this is a brain without its head
_BRAIN_HEIGHT_MM = 130.0
_RAY_GRID = (48, 96)  # polar angles, azimuths


@dataclass(frozen=True, eq=False)
class PreparedHead:
    """A CT of a head, on disk.

    Attributes:
        name: case it came from.
        path: int16 array ``(map, x, y, z)``, 1 mm: HU raised by 1024 in the body; 100 times the share of bone with its
            marrow, and of the body; 100 times `DEEPEST_MM` less the distance to the cavity in mm (negative inside);
            100 times the share of the eyeballs.
        brains: uint8 arrays ``(x, y, z)``: `WHITE` times the tissue of a brain that fills the cavity.
    """

    name: str
    path: Path
    brains: Sequence[Path] = field(default_factory=tuple)


def prepare_head(name: str, ct: Path, cache_dir: Path) -> PreparedHead:
    """Prepare a CT, once.

    Raises:
        InputError: it cannot be read, or shows no cavity of a skull.
    """
    stored = cache_dir / f"{name}_head_{made_from([ct], _VERSION)}.npy"
    if not stored.exists():
        hounsfield = _one_millimetre(ct, denoise=3)
        body = head_outline(hounsfield)
        hounsfield = np.where(body, hounsfield, AIR_HU)
        closed = _closed(hounsfield > 250, 3.0)
        cavity = skull_cavity(hounsfield, closed, body)
        if cavity is None:
            raise InputError(f"{ct} shows no skull with a cavity. Leave this file out, or give the CT of a head.")
        bone = ndimage.uniform_filter((closed & ~cavity & (hounsfield > -150)).astype(np.float32), 2)
        depth = np.where(cavity, -distance(cavity), distance(~cavity)).clip(-DEEPEST_MM, DEEPEST_MM)
        eyes = ndimage.uniform_filter(eyeballs(hounsfield, cavity, body).astype(np.float32), 2)
        maps = [np.where(body, hounsfield - AIR_HU, 0), 100 * bone, 100 * body, 100 * (DEEPEST_MM - depth), 100 * eyes]
        _store(stored, np.rint(np.stack(maps)).astype(np.int16))
    return PreparedHead(name, stored)


def with_brains(head: PreparedHead, mrs: Sequence[Path], cache_dir: Path) -> PreparedHead:
    """The head with the brain of each T1 fitted to its cavity, once."""
    files = []
    for mr in mrs:
        fitted = cache_dir / f"{head.path.stem}_{made_from([mr], _VERSION)}.npy"
        if not fitted.exists():
            stored = cache_dir / f"brain_{made_from([mr], _VERSION)}.npy"
            if not stored.exists():
                tissue, hull = brain_of(_one_millimetre(mr))
                _store(stored, np.stack([tissue * WHITE, 255.0 * hull]).clip(0, 255).astype(np.uint8))
            brain = np.load(stored)
            depth = DEEPEST_MM - np.load(head.path, mmap_mode="r")[3] / np.float32(100)
            warped = fitted_brain(brain[0] / np.float32(WHITE), brain[1] > 127, depth)
            _store(fitted, (warped * WHITE).clip(0, 255).astype(np.uint8))
        files.append(fitted)
    return PreparedHead(head.name, head.path, files)


def head_outline(hounsfield: np.ndarray) -> np.ndarray:
    """The head and what it encloses, without table, cushions and mask: what a ball of 8 mm fits into, and its rim."""
    solid = hounsfield > -300
    core = _largest(distance(np.pad(solid, 1, mode="edge"))[1:-1, 1:-1, 1:-1] > 4)
    body = _largest((distance(~core) <= 6) & solid)
    filled = np.zeros_like(body)
    for axis in range(3):
        for part, into in zip(np.moveaxis(body, axis, 0), np.moveaxis(filled, axis, 0), strict=True):
            closed = ndimage.binary_closing(np.pad(part, 6), iterations=3)[6:-6, 6:-6]
            into |= ndimage.binary_fill_holes(closed)
    return filled


def skull_cavity(hounsfield: np.ndarray, bone: np.ndarray, body: np.ndarray) -> np.ndarray | None:
    """Inside of the skull: the largest soft part that a ball of 16 mm reaches without leaving through a foramen.

    Args:
        hounsfield: ``(x, y, z)``, 1 mm.
        bone: closed over sutures and marrow.
        body: outline of the head.

    Returns:
        None where the largest part has less than 300 ml.
    """
    soft = (hounsfield > -60) & (hounsfield < 220) & body & ~bone
    wide = np.pad(soft, ((1, 1), (1, 1), (8, 8)))
    wide[1:-1, 1:-1, :8] = soft[:, :, :1]  # the skull goes on below the picture, not above it
    inner = _largest(distance(wide)[1:-1, 1:-1, 8:-8] > 8)
    if inner.sum() < 3e4:
        return None
    cavity = (distance(~inner) <= 9.5) & ~bone & (hounsfield > -60) & (hounsfield < 300) & body
    cavity = _largest(ndimage.binary_opening(cavity, iterations=2))
    if cavity.sum() < 3e5:
        return None
    return ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(cavity, 6), iterations=3)[6:-6, 6:-6, 6:-6])


def eyeballs(hounsfield: np.ndarray, cavity: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The eyeballs, whose vitreous is liquid: on each side the largest ball of water under the front of the cavity.

    Args:
        hounsfield: ``(x, y, z)``, 1 mm.
        cavity: inside of the skull.
        body: outline of the head.

    Returns:
        Boolean; nothing on a side where there is no ball of the size of an eye, as where the picture ends above it.
    """
    smooth = ndimage.uniform_filter(hounsfield, 3)
    water = (smooth > -25) & (smooth < 90) & body & ~ndimage.binary_dilation(cavity, iterations=3)
    reach = distance(np.pad(water, 1))[1:-1, 1:-1, 1:-1]
    middle = float(ndimage.center_of_mass(cavity)[0])
    front = int(np.flatnonzero(cavity.any(axis=(0, 2)))[-1])
    roof = cavity[:, max(0, front - _FRONT_MM) : front + 1]
    floor = int(np.flatnonzero(roof.any(axis=(0, 1)))[0])
    found = np.argwhere(reach > _EYE_RADIUS_MM[0])
    aside, forward, up = (found - [middle, front, floor]).T
    socket = (abs(abs(aside) - 32) < 14) & (abs(forward + 8) < 22) & (abs(up + 10) < 15)
    eyes = np.zeros(hounsfield.shape, bool)
    for side in (aside < 0, aside > 0):
        cores = found[socket & side]
        if not len(cores):
            continue
        radii = reach[tuple(cores.T)]
        radius = min(float(radii.max()) + 1.0, _EYE_RADIUS_MM[1])  # the border lies in the voxels that are no water
        centre = cores[radii > radii.max() - 0.5].mean(axis=0)
        wide, deep, high = hounsfield.shape
        x, y, z = np.ogrid[:wide, :deep, :high]
        eyes |= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius**2
    return eyes & water


def brain_of(mr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tissue (0 liquid, 0.5 grey, 1 white matter) and hull of the brain of a T1, whole head or stripped.

    Args:
        mr: ``(x, y, z)``, 1 mm, scanner units.

    Returns:
        Both ``(x, y, z)``; tissue is 0 outside the hull.
    """
    hull, brain = _brain_hull(mr)
    small = brain[::2, ::2, ::2].astype(np.float32)
    logarithm = np.log(np.maximum(mr[::2, ::2, ::2], 1e-3)) * small
    around = ndimage.gaussian_filter(logarithm, 12) / np.maximum(ndimage.gaussian_filter(small, 12), 1e-3)
    bias = ndimage.zoom(np.exp(around), np.divide(mr.shape, around.shape), order=1, grid_mode=True, mode="nearest")
    even = mr / bias
    liquid, grey, white = _three_classes(even[hull], (4, 45, 90))
    knots = [0.0, 0.9 * max(liquid, 1e-3), grey, white, 1.3 * white]
    return np.where(hull, np.interp(even, knots, [0.0, 0.04, 0.5, 1.0, 1.25]), 0.0).astype(np.float32), hull


def fitted_brain(tissue: np.ndarray, hull: np.ndarray, depth: np.ndarray, rim: float = 2.0) -> np.ndarray:
    """A brain warped into a cavity: moments first (place, size, pitch), then along rays from the middle to the rim.

    Args:
        tissue: of `brain_of`.
        hull: of `brain_of`.
        depth: distance to the cavity in mm, negative inside, ``(x, y, z)``.
        rim: mm of liquid left between brain and bone.

    Returns:
        Tissue on the grid of `depth`.
    """
    cavity = _upper(depth < -rim, _BRAIN_HEIGHT_MM)
    hull = _upper(hull, float(np.ptp(np.flatnonzero(cavity.any(axis=(0, 1))))) + 1)
    (middle, size, pitch), (from_middle, from_size, from_pitch) = _moments(cavity), _moments(hull)
    turn = float(np.clip(from_pitch - pitch, -0.45, 0.45))
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag(from_size / size)
    coarse = np.stack(np.meshgrid(*[np.arange(0, n, 2.0) for n in depth.shape], indexing="ij")) - middle.reshape(
        3, 1, 1, 1
    )
    there = np.tensordot(matrix, coarse, 1) + from_middle.reshape(3, 1, 1, 1)
    moved = ndimage.map_coordinates(hull.astype(np.float32), there, order=1) > 0.5
    reach, hull_reach = _reach(cavity, middle), 2 * _reach(moved, middle / 2)
    ratio = ndimage.gaussian_filter(np.clip(hull_reach / np.maximum(reach, 5), 0.75, 1.33), 2, mode=("nearest", "wrap"))
    inside = depth < 1
    offset = np.argwhere(inside).T.astype(np.float32) - middle[:, None]
    radius = np.sqrt((offset**2).sum(0)) + 1e-3
    polar = np.arccos(np.clip(offset[2] / radius, -1, 1)) / np.pi * _RAY_GRID[0] - 0.5
    azimuth = np.mod(np.arctan2(offset[1], offset[0]), 2 * np.pi) / (2 * np.pi) * _RAY_GRID[1]
    ratio, reach = (_along_rays(grid, polar, azimuth) for grid in (ratio, reach))
    stretch = 1 + (ratio - 1) * np.clip(radius / np.maximum(reach, 5), 0, 1.2) ** 1.5
    source = np.tensordot(matrix, offset * stretch, 1) + from_middle[:, None]
    warped = np.zeros(depth.shape, np.float32)
    warped[inside] = ndimage.map_coordinates(tissue, source, order=1)
    return warped


def _brain_hull(mr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hull of the brain, and what in it is brain. Worked out on 2 mm."""
    even = np.pad(mr, [(0, n % 2) for n in mr.shape], mode="edge")
    small = even.reshape([m for n in even.shape for m in (n // 2, 2)]).mean(axis=(1, 3, 5))
    object_ = _largest(small > 0.05 * np.percentile(small, 99))
    brain = object_ if object_.sum() * 0.008 < _STRIPPED_ML else _brain_in_head(small)
    far = np.pad(brain, 7)
    hull = distance(distance(~far, sampling=2) <= 10, sampling=2) > 10
    hull = ndimage.binary_fill_holes(hull)[7:-7, 7:-7, 7:-7]
    if not hull.any():
        raise InputError("A brain was not found in a T1 that is to be painted. Leave this file out.")
    fine = ndimage.zoom(hull.astype(np.float32), 2, order=1, grid_mode=True, mode="nearest") > 0.5
    within = tuple(slice(0, n) for n in mr.shape)
    brain = brain.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return fine[within], brain[within] & fine[within]


def _brain_in_head(mr: np.ndarray) -> np.ndarray:
    """Brain of a whole head, voxels of 2 mm: of its intensity, well below the skin, in one piece."""
    head = _largest(ndimage.binary_opening(mr > 0.12 * np.percentile(mr, 99.5)))
    head = ndimage.binary_closing(np.pad(head, 4), iterations=3)[4:-4, 4:-4, 4:-4]
    for k in range(head.shape[2]):
        head[:, :, k] = ndimage.binary_fill_holes(head[:, :, k])
    head = _upper(head, 150 / 2)
    skin = distance(np.pad(head, ((1, 1), (1, 1), (0, 1))), sampling=2)[1:-1, 1:-1, :-1]
    middle = _upper(skin > 28, 80 / 2)
    if not middle.any():
        raise InputError("A brain was not found in a T1 that is to be painted. Leave this file out.")
    liquid, grey, white = _three_classes(mr[middle], (10, 50, 85))
    brain = (mr > 0.475 * (liquid + grey)) & (mr < 1.25 * white) & (skin > 7) & _upper(head, _BRAIN_HEIGHT_MM / 2)
    core = _largest(distance(brain, sampling=2) > 2.6)
    return (distance(~core, sampling=2) <= 3.5) & brain


def _three_classes(values: np.ndarray, start: Sequence[float]) -> np.ndarray:
    """Means of three classes (k-means from percentiles), ascending."""
    low, high = np.percentile(values, (1, 99))
    values = values[(values > low) & (values < high)]
    values = values[:: max(1, len(values) // 200000)]
    means = np.percentile(values, start)
    for _ in range(25):
        nearest = np.argmin(np.abs(values[:, None] - means), axis=1)
        means = np.array([values[nearest == k].mean() if (nearest == k).any() else means[k] for k in range(3)])
    return means


def _moments(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Middle, standard deviations along the axes, and pitch of the long axis in the sagittal plane."""
    points = np.argwhere(mask)[::7].astype(float)
    middle = points.mean(0)
    axis = np.linalg.eigh(np.cov((points - middle)[:, 1:].T))[1][:, 1]
    axis = axis if axis[0] >= 0 else -axis
    return middle, (points - middle).std(0), float(np.arctan2(axis[1], axis[0]))


def _reach(mask: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """How far the mask reaches from the middle, in voxels, over polar angle and azimuth, smoothed."""
    polar = (np.arange(_RAY_GRID[0])[:, None] + 0.5) / _RAY_GRID[0] * np.pi
    azimuth = np.arange(_RAY_GRID[1]) / _RAY_GRID[1] * 2 * np.pi
    across, height = np.sin(polar), np.cos(polar) + 0 * azimuth
    directions = np.stack([across * np.cos(azimuth), across * np.sin(azimuth), height])
    along = middle[:, None, None, None] + directions[..., None] * np.arange(140.0)
    met = ndimage.map_coordinates(mask.astype(np.float32), along.reshape(3, -1), order=1).reshape(*_RAY_GRID, -1) > 0.5
    last = np.where(met.any(-1), met.shape[-1] - 1 - np.argmax(met[..., ::-1], axis=-1), 1)
    return ndimage.gaussian_filter(last.astype(np.float32), 1.5, mode=("nearest", "wrap"))


def _along_rays(grid: np.ndarray, polar: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    around = np.concatenate([grid, grid[:, :1]], axis=1)
    return ndimage.map_coordinates(around, [polar, azimuth], order=1, mode="nearest")


def _upper(mask: np.ndarray, voxels: float) -> np.ndarray:
    """The uppermost slices of a mask."""
    shown = np.flatnonzero(mask.any(axis=(0, 1)))
    upper = mask.copy()
    if len(shown):
        upper[:, :, : max(0, int(shown[-1] - voxels))] = False
    return upper


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """Closing by a ball."""
    rim = int(2 * radius) + 6
    wide = np.pad(mask, rim)
    closed = distance(distance(~wide) <= radius) > radius
    return closed[rim:-rim, rim:-rim, rim:-rim]


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return mask if count < 2 else labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _one_millimetre(file: Path, denoise: int = 0) -> np.ndarray:
    volume = read_volume(file)
    array = ras_view(volume.array, volume.affine).astype(np.float32)
    if denoise:
        array = ndimage.median_filter(array, (denoise, denoise, 1))
    return ndimage.zoom(array, ras_spacing(volume.affine), order=1, grid_mode=True, mode="nearest")


def _store(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array)
