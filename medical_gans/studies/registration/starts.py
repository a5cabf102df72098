"""Where a registration begins: all translations and some rotations, judged by mutual information at once.

An optimiser that begins beside the wrong bone stays there, and MR and CT may differ by more than a bone is wide. So
every shift within reach is tried first, on coarse classes of tissue: the joint histogram of two label images at all
shifts is a set of cross-correlations, which fast Fourier transforms give (Öfverstedt, Lindblad and Sladoje 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

HOUNSFIELD_EDGES = (-500.0, -130.0, -30.0, 30.0, 100.0, 250.0)
"""HU between air, fat in two steps, muscle in two steps, spongy and dense bone."""
MR_QUANTILES = (0.1, 0.25, 0.45, 0.65, 0.85)
"""Of the MR in the body, between its classes; what lies outside the body is one more."""
_FULL_SHARE = 0.8  # of the MR's region on the CT; a smaller overlap lowers the score in proportion
_LEAST_SHARE = 0.4
_OUTSIDE = -30000.0  # HU that no CT has, for what lies beyond its grid
_APART = 3  # coarse voxels between two starts of one rotation
_PER_ROTATION = 3


@dataclass(frozen=True, eq=False)
class Start:
    """A rigid motion to begin with.

    Attributes:
        matrix: ``(4, 4)``, point of the MR to point of the CT, both in RAS mm.
        information: mutual information of the two images' classes in nats, lowered where they overlap little.
        share: of the MR's region that lies on the CT.
    """

    matrix: np.ndarray
    information: float
    share: float


def find_starts(
    mr: np.ndarray,
    mr_affine: np.ndarray,
    body: np.ndarray,
    ct: np.ndarray,
    ct_affine: np.ndarray,
    *,
    rotation: float = 12.0,
    reach: float = 40.0,
    spacing: float = 6.0,
) -> list[Start]:
    """The most promising rigid motions, best first.

    Args:
        mr: ``(x, y, z)``, any scale.
        mr_affine: ``(4, 4)``, its voxel index to RAS mm.
        body: of the patient on the MR, boolean.
        ct: HU, on any grid.
        ct_affine: ``(4, 4)``, as `mr_affine`.
        rotation: degrees, tried in both directions about each of the three axes; 0 tries none.
        reach: largest shift in mm along each axis, from where the scanners put the two images.
        spacing: mm between the points that are compared, and between the shifts.

    Returns:
        Starts that differ; none where the CT covers too little of the MR within `reach`.
    """
    grid, shape = _coarse_grid(mr.shape, mr_affine, spacing)
    labels = _mr_classes(_sampled(mr, mr_affine, grid, shape, spacing), _sampled_mask(body, mr_affine, grid, shape))
    seen = _sampled_mask(np.ones(mr.shape, bool), mr_affine, grid, shape)
    region = seen & ndimage.binary_dilation(labels > 0, iterations=max(1, round(12.0 / spacing)))
    steps = int(np.ceil(reach / spacing))
    padded = [fft.next_fast_len(n + 2 * steps, real=True) for n in shape]
    spectra = [np.conj(fft.rfftn((labels == one) & region, padded)) for one in range(len(MR_QUANTILES) + 2)]
    wide = grid.copy()
    wide[:3, 3] -= steps * spacing
    wide_shape = tuple(n + 2 * steps for n in shape)
    centre = grid[:3, :3] @ ((np.array(shape) - 1) / 2) + grid[:3, 3]
    smooth = _smoothed(ct, ct_affine, spacing)
    found: list[Start] = []
    for angles in _rotations(rotation):
        turned = np.eye(4)
        turned[:3, :3] = Rotation.from_rotvec(np.deg2rad(angles)).as_matrix()
        turned[:3, 3] = centre - turned[:3, :3] @ centre
        hounsfield = _interpolated(smooth, ct_affine, turned @ wide, wide_shape, _OUTSIDE)
        information, share = _information(hounsfield, spectra, padded, steps, int(region.sum()))
        for peak in _peaks(information):
            shift = np.eye(4)
            # a shift of the grid before it is turned
            shift[:3, 3] = (np.array(peak) - steps) * spacing
            found.append(Start(turned @ shift, float(information[peak]), float(share[peak])))
    return sorted(found, key=lambda start: -start.information)


def _information(
    hounsfield: np.ndarray, spectra: Sequence[np.ndarray], padded: Sequence[int], steps: int, region: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score and share of the overlap at each shift, ``(2 steps + 1,) * 3``."""
    classes = np.digitize(hounsfield, HOUNSFIELD_EDGES)
    on_grid = hounsfield > _OUTSIDE / 2
    shifts = (slice(0, 2 * steps + 1),) * 3
    counts = np.empty((len(HOUNSFIELD_EDGES) + 1, len(spectra), *(2 * steps + 1,) * 3), dtype=np.float32)
    for one in range(len(counts)):
        spectrum = fft.rfftn((classes == one) & on_grid, padded)
        for other, mr_spectrum in enumerate(spectra):
            counts[one, other] = fft.irfftn(spectrum * mr_spectrum, padded)[shifts]
    np.maximum(counts, 0, out=counts)
    total = counts.sum((0, 1))
    share = total / max(region, 1)
    joint = counts / np.maximum(total, 1)
    information = _entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint.reshape(-1, *total.shape))
    information *= np.minimum(share / _FULL_SHARE, 1)
    information[share < _LEAST_SHARE] = 0
    return information, share


def _entropy(probability: np.ndarray) -> np.ndarray:
    entropy: np.ndarray = -(probability * np.log(probability + 1e-12)).sum(0)
    return entropy


def _peaks(information: np.ndarray) -> list[tuple[int, ...]]:
    """The highest shifts, each some way from the others."""
    left = information.copy()
    found: list[tuple[int, ...]] = []
    while len(found) < _PER_ROTATION and left.max() > 0:
        peak = tuple(int(i) for i in np.unravel_index(left.argmax(), left.shape))
        found.append(peak)
        left[tuple(slice(max(0, i - _APART), i + _APART + 1) for i in peak)] = 0
    return found


def _rotations(degrees: float) -> list[tuple[float, float, float]]:
    turns = [(0.0, 0.0, 0.0)]
    for axis, sign in product(range(3), (-1, 1)):
        turn = [0.0, 0.0, 0.0]
        turn[axis] = sign * degrees
        turns.append((turn[0], turn[1], turn[2]))
    return turns if degrees else turns[:1]


def _mr_classes(mr: np.ndarray, body: np.ndarray) -> np.ndarray:
    """0 outside the body, from 1 on by intensity inside."""
    edges = np.quantile(mr[body], MR_QUANTILES) if body.any() else np.arange(len(MR_QUANTILES))
    return np.where(body, np.digitize(mr, edges) + 1, 0)


def _coarse_grid(shape: Sequence[int], affine: np.ndarray, spacing: float) -> tuple[np.ndarray, tuple[int, ...]]:
    """A grid along the axes of the patient that covers a volume."""
    corners = np.array(list(product(*[(0, n - 1) for n in shape]))) @ affine[:3, :3].T + affine[:3, 3]
    low, high = corners.min(0), corners.max(0)
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = low
    return grid, tuple(int(n) + 1 for n in np.ceil((high - low) / spacing))


def _smoothed(array: np.ndarray, affine: np.ndarray, spacing: float) -> np.ndarray:
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), 0.4 * spacing / edges)


def _sampled(
    array: np.ndarray, affine: np.ndarray, grid: np.ndarray, shape: tuple[int, ...], spacing: float
) -> np.ndarray:
    return _interpolated(_smoothed(array, affine, spacing), affine, grid, shape, 0.0)


def _sampled_mask(mask: np.ndarray, affine: np.ndarray, grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return _interpolated(mask.astype(np.float32), affine, grid, shape, 0.0) > 0.5


def _interpolated(
    array: np.ndarray, affine: np.ndarray, grid: np.ndarray, shape: tuple[int, ...], outside: float
) -> np.ndarray:
    index = np.linalg.inv(affine) @ grid
    interpolated: np.ndarray = ndimage.affine_transform(
        array, index[:3, :3], index[:3, 3], output_shape=shape, order=1, cval=outside
    )
    return interpolated
