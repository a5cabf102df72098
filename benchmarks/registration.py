"""How exactly `mr_to_ct register` finds a known motion: registered pairs, whose CT is turned, shifted and deformed.

    python benchmarks/registration.py --dataset_dir PAIRS [--deformation 3] [--seed 0]

Prints for each pair the error in mm at dense bone and in the body, across and along the foot-head axis, and the Dice of
bone above 250 HU, before and after. PAIRS holds pairs that lie on each other.
"""

import time
from dataclasses import asdict

import fire
import nibabel
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medical_gans.io import Volume, find_cases, read_volume
from medical_gans.studies.registration import PairRegistration, Schedule
from medical_gans.studies.registration.elastix import Placed, positions
from medical_gans.studies.registration.pair import resampled

CROP = (10, 10, 3)  # voxels that the moved CT lacks at each side, so that what it shows comes from the true one
KNOTS_MM = 35.0


class Motion:
    """From a point of the moved CT to the point of the true one: rigid, then a cubic B-spline with random knots.

    Args:
        shape, affine: of the true CT.
        shift: mm.
        turn: degrees.
        deformation: mm, root mean square length.
        seed: of all directions and knots.
    """

    def __init__(self, shape, affine, shift: float, turn: float, deformation: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        points = positions(shape, affine).reshape(-1, 3)
        self.low, high = points.min(0), points.max(0)
        self.centre = (self.low + high) / 2
        direction, axis = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        self.shift, self.rotation = shift * direction, Rotation.from_rotvec(np.deg2rad(turn) * axis).as_matrix()
        knots = np.ceil((high - self.low) / KNOTS_MM).astype(int) + 7
        self.knots = rng.normal(size=(3, *knots))
        self.knots *= deformation / np.sqrt((self._smooth(points[::97]) ** 2).sum(-1).mean())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return (points - self.centre) @ self.rotation.T + self.centre + self.shift + self._smooth(points)

    def _smooth(self, points: np.ndarray) -> np.ndarray:
        index = np.moveaxis((points - self.low) / KNOTS_MM + 3, -1, 0)
        return np.stack([ndimage.map_coordinates(k, index, prefilter=False, mode="nearest") for k in self.knots], -1)


class Recorded(PairRegistration):
    """Keeps where each voxel was found."""

    def _judge(self, fixed, moving, body, where):
        object.__setattr__(self, "fixed", fixed)
        self.__dict__.setdefault("found", []).append(where)
        return super()._judge(fixed, moving, body, where)


def main(dataset_dir: str, shift: float = 12.0, turn: float = 7.0, deformation: float = 3.0, seed: int = 0) -> None:
    """Move the CT of each pair by a known motion (mm, degrees), register it back and print what is left, in mm."""
    for case in find_cases(dataset_dir, required=("mr", "ct")):
        mr, ct = read_volume(case.mr), read_volume(case.ct)
        true = nibabel.as_closest_canonical(nibabel.Nifti1Image(ct.array.astype(np.float32), ct.affine))
        motion = Motion(true.shape, true.affine, shift, turn, deformation, seed)
        grid = true.affine.copy()
        grid[:3, 3] = true.affine[:3, :3] @ np.array(CROP) + true.affine[:3, 3]
        size = [n - 2 * c for n, c in zip(true.shape, CROP, strict=True)]
        hounsfield = Placed(true.get_fdata(dtype=np.float32), true.affine)
        inside = np.clip(
            motion(positions(size, grid)) @ np.linalg.inv(true.affine)[:3, :3].T + np.linalg.inv(true.affine)[:3, 3],
            0,
            np.array(true.shape) - 1,
        )
        moved, _ = resampled(hounsfield, inside @ true.affine[:3, :3].T + true.affine[:3, 3])
        register = Recorded(schedule=Schedule())
        begin = time.process_time()
        pair = register(mr, Volume(moved, grid, case.ct))
        seconds = time.process_time() - begin
        *_, where, before = register.found
        body = nibabel.as_closest_canonical(nibabel.Nifti1Image(pair.mask.astype(np.uint8), mr.affine)).get_fdata() > 0
        bone = body & (hounsfield.array > 600)
        print(f"{case.name}, {seconds:.0f} s of one core, {asdict(pair.agreement)}")
        for name, points in (("as it came", before), ("registered", where)):
            off = motion(points) - positions(true.shape, true.affine)
            warped, _ = resampled(Placed(moved.astype(np.float32), grid), points)
            first, second = (warped > 250) & body, (hounsfield.array > 250) & body
            dice = 2 * (first & second).sum() / (first.sum() + second.sum())
            figures = [f"Dice of bone {dice:.3f}"]
            for place, voxels in (("bone", bone), ("body", body)):
                whole, across = np.linalg.norm(off[voxels], axis=-1), np.linalg.norm(off[voxels][:, :2], axis=-1)
                figures.append(
                    f"{place} {whole.mean():.2f} mm (95 %: {np.percentile(whole, 95):.1f}; across {across.mean():.2f})"
                )
            print(f"  {name}: {', '.join(figures)}", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
