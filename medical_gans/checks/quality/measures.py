"""Figures of an MR and its synthetic CT that need no true CT, and those of the vault as lights.

Arrays are canonical: right, anterior, superior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medical_gans.checks.quality.limits import AMBER, GREEN, GREY, RED, Check
from medical_gans.io import mapped
from medical_gans.metrics.vault import measure_vault
from medical_gans.transforms import mr_reference_intensity, normalise_mr
from medical_gans.transforms.grid_mask import GridMask

Mask = np.ndarray | GridMask
"""Boolean, as an array or kept on a coarse grid."""

TISSUES: Mapping[str, tuple[float, float]] = {
    "air": (-np.inf, -200.0),
    "fat": (-200.0, -30.0),
    "soft": (-30.0, 150.0),
    "bone": (250.0, np.inf),
}
"""HU ranges; what lies between soft tissue and bone is a mixture and counts as neither."""

SLICE_QUANTILES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
_LEAST_BODY = 0.02  # of a slice: less shows nothing
FOOT_AND_HEAD = ("foot", "head")
_SIDES = (("left", "right"), ("back", "front"), FOOT_AND_HEAD)  # first and last index of each axis
_VOID_INTENSITY = 0.06  # of the reference: air, metal and dense bone
_VOID_RADIUS_MM = 4.0  # the cortex of a long bone is thinner than twice this
_GRID_MM = 2.0


def tissue_figures(hounsfield: np.ndarray, body: Mask) -> dict[str, float]:
    """``<tissue>_share`` of the body, and ``<tissue>_hu``, the median HU of fat, soft tissue and bone.

    A median of a tissue that is not there is left out.
    """
    values, counts = _counted(hounsfield, body)
    figures = {}
    for name, (low, high) in TISSUES.items():
        inside = (values >= low) & (values < high)
        number = int(counts[inside].sum())
        figures[f"{name}_share"] = number / max(int(counts.sum()), 1)
        if name != "air" and number:
            middle = np.searchsorted(counts[inside].cumsum(), [(number - 1) // 2, number // 2], side="right")
            figures[f"{name}_hu"] = float(values[inside][middle].mean())
    return figures


def _counted(hounsfield: np.ndarray, body: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Values in the body, rising, and how often each comes; of whole numbers without a copy of them all."""
    if hounsfield.dtype.kind not in "iu":
        return np.unique(hounsfield[np.asarray(body)], return_counts=True)
    slices = range(hounsfield.shape[2])
    lowest, highest = map(int, mapped.extremes(hounsfield))
    counts = np.zeros(highest - lowest + 1, dtype=np.int64)
    for k in slices:
        found = hounsfield[:, :, k].T[body[:, :, k].T].astype(np.int64) - lowest  # in the order of files
        counts += np.bincount(found, minlength=len(counts))
        mapped.give_back()
    return np.arange(lowest, highest + 1), counts


def cut_areas(body: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """Area in cm2 where the body meets each side of the picture."""
    areas: dict[str, float] = {}
    for axis, ends in enumerate(_SIDES):
        pixel = float(np.prod([edge for other, edge in enumerate(spacing) if other != axis]))
        for index, side in zip((0, -1), ends, strict=True):
            areas[side] = float(np.count_nonzero(body.take(index, axis)) * pixel / 100)
    return areas


def cut_outline(body: Mask, spacing: Sequence[float]) -> float:
    """Length in cm of the body's outline that the sides of the picture cut, mean over the axial slices with body.

    Other than an area it does not grow with the number of slices.
    """
    shown = np.count_nonzero(body.any(axis=(0, 1)))
    areas = cut_areas(body, spacing)
    total = sum(area for side, area in areas.items() if side not in FOOT_AND_HEAD)
    return 10 * total / (shown * spacing[2]) if shown else 0.0


def slice_quantiles(mr: np.ndarray, body: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the axial slices that show body, and the quantiles of their intensity ``(slice, quantile)``.

    Intensity is that of `transforms.normalise_mr` with the reference of the whole volume.
    """
    reference = mr_reference_intensity(mr, body)
    shown = np.flatnonzero(body.mean(axis=(0, 1)) > _LEAST_BODY)
    rows = []
    for k in shown:
        rows.append(np.quantile(normalise_mr(mr[:, :, k][body[:, :, k]], reference), SLICE_QUANTILES))
        mapped.give_back()
    return shown, np.array(rows).reshape(len(rows), len(SLICE_QUANTILES))


def mahalanobis(rows: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Distance of each row from the mean, ``(rows,)``."""
    offset = rows - mean
    return np.sqrt(np.einsum("ri,ij,rj->r", offset, precision, offset))


def largest_void(mr: np.ndarray, body: Mask, spacing: Sequence[float]) -> float:
    """Volume in ml of the largest dark object in the body that is thicker than a cortex, as metal leaves it."""
    return void_object(mr, body, spacing)[0]


def void_object(
    mr: np.ndarray, body: Mask, spacing: Sequence[float]
) -> tuple[float, tuple[float, float, float] | None]:
    """Volume in ml of what `largest_void` measures, and the voxel in its middle; None where there is none."""
    steps = [max(1, round(_GRID_MM / edge)) for edge in spacing]
    part = tuple(slice(None, None, step) for step in steps)
    coarse, inside = mapped.looked_up(mr[part]), body[part]
    edges = np.array(spacing) * steps
    dark = inside & (coarse < _VOID_INTENSITY * mr_reference_intensity(mr, body))
    core = _eroded(dark, near := _within(_VOID_RADIUS_MM, edges))
    if not core.any():
        return 0.0, None
    thick = _widened(core, near)
    labels, count = ndimage.label(thick)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = int(np.argmax(sizes)) + 1
    room = np.ceil(_VOID_RADIUS_MM / edges) + 1  # what is nearest to it, and no part of it, lies so near
    box = _with_room(ndimage.find_objects(labels, largest)[-1], room)
    inmost = [one.start + n for one, n in zip(box, _inmost(dark[box], labels[box] == largest, edges), strict=True)]
    first, second, third = (float(index * step) for index, step in zip(inmost, steps, strict=True))
    return float(np.max(sizes) * edges.prod() / 1000), (first, second, third)


def _within(distance: float, edges: np.ndarray) -> list[tuple[int, ...]]:
    """The steps to all voxels, of `edges` mm, that are no further than a distance in mm."""
    reach = [int(distance / edge) for edge in edges]
    steps = np.indices([2 * n + 1 for n in reach]).reshape(3, -1).T - reach
    return [tuple(step) for step in steps.tolist() if np.linalg.norm(step * edges) <= distance]


def _eroded(mask: np.ndarray, steps: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The voxels of a mask that no such step leads out of; what lies outside of the array does not count.

    A distance transform finds the same, in 40 times the memory.
    """
    return ~_widened(~mask, steps)


def _widened(mask: np.ndarray, steps: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The voxels from which such a step leads into a mask, whose steps come with their opposites."""
    wide = np.zeros_like(mask)
    for step in steps:
        here = tuple(slice(max(0, n), size + min(0, n)) for n, size in zip(step, mask.shape, strict=True))
        there = tuple(slice(max(0, -n), size + min(0, -n)) for n, size in zip(step, mask.shape, strict=True))
        np.logical_or(wide[here], mask[there], out=wide[here])
    return wide


def _inmost(mask: np.ndarray, part: np.ndarray, edges: np.ndarray) -> tuple[int, ...]:
    """The voxel of a part of a mask that is furthest from what is no part of the mask, the first of several."""
    nearest = ndimage.distance_transform_edt(mask, sampling=edges, return_distances=False, return_indices=True)
    most = -1.0
    where: tuple[int, ...] = (0, 0, 0)
    for plane, inside in enumerate(part):  # plane by plane, for distances of all voxels take six times as much memory
        if inside.any():
            offsets = nearest[:, plane] - np.stack([np.full(inside.shape, plane), *np.indices(inside.shape)])
            depth = np.where(inside, np.linalg.norm(offsets * edges[:, None, None], axis=0), -1.0)
            if depth.max() > most:
                most, where = float(depth.max()), (plane, *map(int, np.unravel_index(depth.argmax(), depth.shape)))
    return where


def _with_room(box: tuple[slice, ...], voxels: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(max(0, int(b.start - n)), int(b.stop + n)) for b, n in zip(box, voxels, strict=True))


def uncertainty_figures(standard_deviation: np.ndarray, body: Mask) -> tuple[float, float]:
    """Mean standard deviation in the body in HU, and the share of the body above 100 HU."""
    values, counts = _counted(standard_deviation, body)
    if not (number := int(counts.sum())):
        return 0.0, 0.0
    return float((values * counts).sum() / number), float(counts[values > 100].sum() / number)


VAULT_LIMITS: Mapping[str, tuple[float, float, float, float]] = {
    "vault_closed": (0.95, 0.985, 1.0, 1.0),
    "vault_thickness_mm": (3.5, 5.0, 11.0, 14.0),
    "vault_largest_hu": (700.0, 900.0, 1500.0, 1900.0),
    "inner_bone": (0.0, 0.0, 0.002, 0.01),
    "brain_spread_hu": (2.0, 5.0, 20.0, 35.0),
}
"""[red below, amber below, amber above, red above]: what true heads show (closed 0.99 to 1.00, 6.5 to 10 mm, 955 to
1425 HU, 0.000, 8 to 17 HU), with room for children and for blur."""

_SHOWN = {
    "vault_closed": (
        "skull: closed",
        "{:.1%} of the rays meet 2 mm of skull",
        "{:.1%}",
        "Look for holes in the vault.",
    ),
    "vault_thickness_mm": ("skull: thickness", "median {:.1f} mm above 300 HU", "{:.1f} mm", "Compare it with the MR."),
    "vault_largest_hu": ("skull: largest HU", "median {:.0f} HU", "{:.0f} HU", "Bone is too soft or too hard."),
    "inner_bone": ("bone in the brain", "{:.2%} of the inner head above 150 HU", "{:.1%}", "No ray may begin in bone."),
    "brain_spread_hu": (
        "brain: spread of HU",
        "interquartile {:.0f} HU",
        "{:.0f} HU",
        "A brain is neither flat nor mottled.",
    ),
}


def vault_checks(
    hounsfield: np.ndarray, outline: Mask, spacing: Sequence[float], limits: Mapping[str, Sequence[float]]
) -> list[Check]:
    """A check of each figure of `metrics.vault.measure_vault` that has limits.

    Args:
        hounsfield: synthetic CT in HU ``(x, y, z)``, canonical axes.
        outline: its body.
        spacing: mm.
        limits: as `VAULT_LIMITS`.
    """
    if not limits:
        return []
    vault = measure_vault(hounsfield, outline, spacing)
    if vault is None:
        reason = "the vault is not in the picture as a whole"
        return [Check(_SHOWN[name][0], GREY, reason) for name in _SHOWN if name in limits]
    figures = vault.figures()
    checks = []
    for name, (title, found, unit, advice) in _SHOWN.items():
        if name not in limits:
            continue
        lowest, low, high, highest = limits[name]
        value = figures[name]
        light = GREEN if low <= value <= high else AMBER if lowest <= value <= highest else RED
        ends = [unit.format(end) for end in (low, high, lowest, highest)]
        limit = f"green {ends[0]} to {ends[1]}, amber {ends[2]} to {ends[3]}"
        checks.append(Check(title, light, found.format(value), limit, advice))
    return checks
