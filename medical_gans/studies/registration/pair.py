"""A pair of MR and CT of one patient: registered, judged, and resampled once onto the grid of the MR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from medical_gans.errors import InputError
from medical_gans.io import Volume
from medical_gans.io.orientation import ras_affine, ras_view, stored_order
from medical_gans.studies.registration.elastix import Elastix, Placed, Schedule, positions, transformed
from medical_gans.studies.registration.starts import Start, find_starts
from medical_gans.studies.registration.trust import Agreement, jacobian_determinant, judge
from medical_gans.transforms.intensity import AIR_HU, body_mask

LOWEST_HU, HIGHEST_HU = -1024, 3071
_CLIPPED_HU = (-1000.0, 1000.0)  # for the metrics: metal and padding would take the bins of the histogram
_GUIDE_HU = (-200.0, 500.0)
_RIM_MM = 10.0  # of air around the body that is compared as well: it shows where the skin is

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class RegisteredPair:
    """A CT on the grid of its MR.

    Attributes:
        hounsfield: int16 HU, ``(i, j, k)`` as the MR is stored; -1024 outside the CT.
        before: the same without any registration, from where the scanners put the two.
        mask: body within the views of MR and CT.
        trusted: where the pair may teach.
        displacement: mm that each voxel's content moved, float32.
        agreement: figures of the registered pair.
        before_agreement: figures of the pair as it came.
        rigid: ``(4, 4)``, point of the MR to point of the CT in RAS mm, before the deformation.
        starts: that were followed.
    """

    hounsfield: np.ndarray
    before: np.ndarray
    mask: np.ndarray
    trusted: np.ndarray
    displacement: np.ndarray
    agreement: Agreement
    before_agreement: Agreement
    rigid: np.ndarray
    starts: list[Start]


@dataclass(frozen=True)
class PairRegistration:
    """Registers CT to MR.

    Attributes:
        reach: largest shift in mm along each axis that is looked for.
        rotation: degrees that are tried in both directions about each axis.
        starts: of the most promising positions, how many are followed by a rigid registration.
        deformable: a B-spline follows.
        schedule: of elastix.
    """

    reach: float = 40.0
    rotation: float = 12.0
    starts: int = 2
    deformable: bool = True
    schedule: Schedule = field(default_factory=Schedule)

    def __call__(
        self, mr: Volume, ct: Volume, guide: Volume | None = None, on_progress: Progress | None = None
    ) -> RegisteredPair:
        """Register a pair.

        Args:
            mr: any scale.
            ct: HU, on any grid.
            guide: synthetic CT on the grid of the MR, which the B-spline compares with the CT beside the MR.
            on_progress: called with steps done and steps in all.

        Raises:
            InputError: one of the two shows no body, or they share too little.
            SettingError: itk-elastix is missing.
        """
        steps = 3 + self.starts
        done = iter(range(1, steps + 1))

        def step() -> None:
            if on_progress is not None:
                on_progress(next(done), steps)

        fixed, moving = _in_ras(mr), _in_ras(ct)
        body = _body(mr, fixed, "MR")
        _body(ct, moving, "CT")
        starts = self._starts(fixed, moving, body, mr, ct)
        step()
        edges = _edges(fixed.affine)
        rim = [max(1, round(_RIM_MM / edge)) for edge in edges]
        region = ndimage.binary_dilation(body, np.ones([2 * r + 1 for r in rim], bool))
        elastix = Elastix(fixed, region, self.schedule)
        compared = Placed(moving.array.clip(*_CLIPPED_HU), moving.affine)
        points = positions(fixed.array.shape, fixed.affine)
        motions: list[tuple[float, np.ndarray]] = []
        for start in starts:
            motion = elastix.rigid(compared, start.matrix)
            agreement = self._judge(fixed, moving, body, transformed(points, motion))[0]
            motions.append((agreement.information, motion))
            step()
        rigid = max(motions, key=lambda one: one[0])[1]
        where = transformed(points, rigid)
        if self.deformable:
            where = elastix.deformable(compared, rigid, _guided(guide))
        step()
        agreement, mask, trusted, hounsfield = self._judge(fixed, moving, body, where)
        before_agreement, _, _, before = self._judge(fixed, moving, body, points)
        step()

        def stored(array: np.ndarray) -> np.ndarray:
            return stored_order(array, mr.affine)

        return RegisteredPair(
            hounsfield=stored(hounsfield),
            before=stored(before),
            mask=stored(mask),
            trusted=stored(trusted),
            displacement=stored(np.linalg.norm(where - points, axis=-1)),
            agreement=agreement,
            before_agreement=before_agreement,
            rigid=rigid,
            starts=starts,
        )

    def _starts(self, fixed: Placed, moving: Placed, body: np.ndarray, mr: Volume, ct: Volume) -> list[Start]:
        found = find_starts(
            fixed.array, fixed.affine, body, moving.array, moving.affine, rotation=self.rotation, reach=self.reach
        )[: self.starts]
        if not found:
            raise InputError(
                f"{ct.source} covers less than half of the body on {mr.source} wherever it is shifted by up to "
                f"{self.reach:g} mm. Check that they show the same site, or raise reach."
            )
        return found

    def _judge(
        self, fixed: Placed, moving: Placed, body: np.ndarray, where: np.ndarray
    ) -> tuple[Agreement, np.ndarray, np.ndarray, np.ndarray]:
        hounsfield, view = resampled(moving, where)
        edges = _edges(fixed.affine)
        change = jacobian_determinant(where, edges)
        agreement, mask, trusted = judge(fixed.array, hounsfield, body, view, edges, change)
        return agreement, mask, trusted, hounsfield


def resampled(ct: Placed, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A CT at given points.

    Args:
        ct: in HU.
        where: ``(x, y, z, 3)``, RAS mm.

    Returns:
        int16 HU, linearly interpolated, -1024 outside the CT; and where the CT has voxels.
    """
    index = transformed(where, np.linalg.inv(ct.affine))
    view = np.all((index >= -0.5) & (index <= np.array(ct.array.shape) - 0.5), axis=-1)
    values = ndimage.map_coordinates(ct.array, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    values = np.where(view, values, AIR_HU)
    return np.rint(values).clip(LOWEST_HU, HIGHEST_HU).astype(np.int16), view


def _guided(synthetic_ct: Volume | None) -> Placed | None:
    if synthetic_ct is None:
        return None
    placed = _in_ras(synthetic_ct)
    return Placed(placed.array.clip(*_GUIDE_HU), placed.affine)


def _body(volume: Volume, placed: Placed, modality: str) -> np.ndarray:
    body = body_mask(placed.array, _edges(placed.affine), modality)
    if not body.any():
        raise InputError(f"{volume.source} shows no body: nothing stands out from air. Check the file.")
    return body


def _in_ras(volume: Volume) -> Placed:
    array = ras_view(np.asarray(volume.array, dtype=np.float32), volume.affine)
    return Placed(array, ras_affine(volume.affine, volume.array.shape))


def _edges(affine: np.ndarray) -> Sequence[float]:
    return [float(edge) for edge in np.linalg.norm(affine[:3, :3], axis=0)]
