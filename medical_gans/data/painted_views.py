"""Training views painted from CT: an MR of random contrast, the CT it was painted from, and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from medical_gans.data.ct_anatomy import PreparedAnatomy, prepare_anatomy
from medical_gans.data.epoch_views import EpochViews
from medical_gans.errors import InputError, SettingError
from medical_gans.io import TrainingCases
from medical_gans.transforms import AIR_HU, MR_CEILING, hounsfield_to_unit
from medical_gans.transforms.grid import PLANES
from medical_gans.transforms.painting import Painter
from medical_gans.transforms.random_fields import Range, Window
from medical_gans.transforms.tissues import CtTissues


class PaintedViews(EpochViews):
    """Random views of CTs with an MR painted on them.

    Each view has a frame of its own, turned, scaled, mirrored and bent about the middle of the CT, and is painted by
    the position in that frame: where the crop lies changes nothing. It is a function of (seed, epoch, index).

    Args:
        anatomies: prepared CTs.
        painter: gives signals.
        tissues: what a voxel of the CT holds.
        crop_size: voxels of a view.
        views_per_epoch: length of the data set.
        plane: of the slices.
        adjacent: slices stacked as channels, odd.
        seed: of every choice.
        near_bone: share of views centred within 25 mm of bone.
        near_joint: of these, the share near spongy bone of the cohort: joints and pelvis, which few CTs show.
        rotation: degrees.
        scaling: relative change of size.
        elastic: largest standard deviation of the bending in mm; `elastic_scale` in mm.
        bone_weight: weight of voxels above 200 HU; of others in the body it is 1, outside 0.2.
        real: share of the views that show the real MR, of CTs that have theirs.
        tolerance: voxels by which the CT of such a view may be moved (`losses.nearest_shift`).

    Yields:
        ``mr``, ``ct`` ``(adjacent, *crop)`` in [-1, 1], ``weight``, and ``tolerance`` (0 where the truth is exact).
    """

    def __init__(
        self,
        anatomies: Sequence[PreparedAnatomy],
        painter: Painter,
        tissues: CtTissues,
        *,
        crop_size: Sequence[int],
        views_per_epoch: int,
        plane: str = "axial",
        adjacent: int = 1,
        seed: int = 0,
        near_bone: float = 0.6,
        near_joint: float = 0.4,
        rotation: float = 25.0,
        scaling: float = 0.22,
        elastic: float = 2.5,
        elastic_scale: Range = (20.0, 45.0),
        bone_weight: float = 3.0,
        real: float = 0.0,
        tolerance: int = 3,
    ) -> None:
        if not 0 <= real <= 1:
            raise SettingError(f"real is {real}; give a share between 0 and 1.")
        if not anatomies:
            raise InputError("There is no CT to paint. Training needs at least one.")
        if plane not in PLANES:
            raise SettingError(f"plane is '{plane}'; choose axial, coronal or sagittal.")
        super().__init__(views_per_epoch, seed)
        self.painter, self.tissues = painter, tissues
        self.crop_size, self.adjacent, self.axis = tuple(crop_size), adjacent, PLANES[plane]
        self.near_bone, self.near_joint = near_bone, near_joint
        self.rotation, self.scaling = rotation, scaling
        self.elastic, self.elastic_scale, self.bone_weight = elastic, elastic_scale, bone_weight
        self.real, self.tolerance = real, tolerance
        self.anatomies = list(anatomies)
        self.spacings = []
        self.stacks = []
        self.bones: list[np.ndarray] = []
        self.joints: list[np.ndarray] = []
        for anatomy in self.anatomies:
            axes = [self.axis] + [a for a in range(3) if a != self.axis]
            stack = np.ascontiguousarray(np.moveaxis(anatomy.array(), 1 + self.axis, 1).swapaxes(0, 1))
            self.stacks.append(torch.from_numpy(stack))
            self.spacings.append(tuple(float(anatomy.spacing[a]) for a in axes))
            bone = stack[:, 1] > 50
            self.bones.append(_some(bone))
            self.joints.append(_some(_spongy(stack[:, 0] + AIR_HU, bone)))
        sizes = np.array([np.sqrt(len(s) * s.shape[2] * s.shape[3]) for s in self.stacks])
        self.chances = sizes / sizes.sum()
        spongy = np.sqrt([float(len(j)) for j in self.joints])
        self.joint_chances = spongy / spongy.sum() if spongy.sum() > 0 else None

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = self.random(index)
        which, here, centre = self._place(rng)
        maps, window = self._cut(which, here, centre, rng)
        fields = self.painter.fields(window, rng)
        shares = maps[:, 1:] / 100.0
        bone, body = shares[:, 0], (shares[:, 1] > 0.5).float()
        # HU were raised to 0 outside the body, so that a share of them is missing at its rim
        hounsfield = maps[:, 0] / shares[:, 1].clamp_min(0.5) * body + AIR_HU
        trusted = torch.ones_like(body)
        is_real = self.anatomies[which].paired and rng.random() < self.real
        if is_real:
            signal, trusted = self.painter.varied(maps[:, 3] / 1000.0, fields, rng), shares[:, 3]
        else:
            hounsfield, bone = self.tissues.changed_cortex(hounsfield, bone, rng)
            signal = self.painter(self.tissues(hounsfield, bone, body, fields, rng), fields, rng)
        rim = Painter.HALO
        part = tuple(slice(h, n - h) for h, n in zip(rim, window.shape, strict=True))
        hounsfield, body, trusted = hounsfield[part], body[part], trusted[part]
        return {
            "mr": (signal[part] * (2.0 / MR_CEILING) - 1.0).clamp(-1, 1),
            "ct": torch.from_numpy(hounsfield_to_unit(hounsfield.numpy())),
            "weight": (0.2 + 0.8 * body + (self.bone_weight - 1.0) * (hounsfield > 200)) * trusted,
            "tolerance": torch.tensor(self.tolerance if is_real else 0),
        }

    def _place(self, rng: np.random.Generator) -> tuple[int, int, np.ndarray]:
        """Which CT, which slice, and the centre of the view in it."""
        near, joint = rng.random() < self.near_bone, rng.random() < self.near_joint
        joint = near and joint and self.joint_chances is not None
        which = int(rng.choice(len(self.stacks), p=self.joint_chances if joint else self.chances))
        found = self.joints[which] if joint else self.bones[which]
        if not near or not len(found):
            stack = self.stacks[which]
            return which, int(rng.integers(len(stack))), rng.uniform(0.2, 0.8, 2) * stack.shape[2:]
        place = found[rng.integers(len(found))]
        return which, int(place[0]), place[1:] + rng.uniform(-25.0, 25.0, 2) / self.spacings[which][1:]

    def _cut(self, which: int, here: int, centre: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Window]:
        """Maps ``(slice, map, row, column)``, HU raised to 0 for air, of a window in a random frame."""
        stack, spacing = self.stacks[which], self.spacings[which]
        size = np.array(stack.shape[2:])
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turn = turn / np.exp(rng.uniform(-self.scaling, self.scaling)) @ np.diag(np.exp(rng.uniform(-0.06, 0.06, 2)))
        turn = turn @ np.diag([-1.0 if rng.random() < chance else 1.0 for chance in (0.5, 0.3)])
        middle = (size - 1) / 2.0
        rim = Painter.HALO
        shape = (self.adjacent + 2 * rim[0], *(c + 2 * h for c, h in zip(self.crop_size, rim[1:], strict=True)))
        corner = np.rint(np.linalg.solve(turn, centre - middle)).astype(int) - np.array(shape[1:]) // 2
        window = Window((here - shape[0] // 2, int(corner[0]), int(corner[1])), shape, spacing)  # type: ignore[arg-type]
        fields = self.painter.fields(window, rng)
        amount, scale = rng.uniform(0, self.elastic), rng.uniform(*self.elastic_scale)
        rows, columns = (
            torch.arange(n, dtype=torch.float32) + o for n, o in zip(shape[1:], window.origin[1:], strict=True)
        )
        down, right = fields.smooth(scale, None, 2)
        at_row = rows[:, None] + down * (amount / spacing[1])
        at_column = columns[None] + right * (amount / spacing[2])
        turned = torch.from_numpy(turn.astype(np.float32))
        y = turned[0, 0] * at_row + turned[0, 1] * at_column
        x = turned[1, 0] * at_row + turned[1, 1] * at_column
        grid = torch.stack([x[0] / (size[1] / 2.0), y[0] / (size[0] / 2.0)], -1)
        first = window.origin[0]
        if first >= 0 and first + shape[0] <= len(stack):
            source = stack[first : first + shape[0]]
        else:
            source = stack[(torch.arange(shape[0]) + first).clamp(0, len(stack) - 1)]
        # all slices are bent alike, so that they are channels of one image
        source = source.float().flatten(0, 1)[None]
        cut = functional.grid_sample(source, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)
        return cut.view(shape[0], -1, *shape[1:]), window


def _spongy(hounsfield: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Voxels ``(slice, row, column)`` deep in bone and neither cortex nor marrow cavity."""
    from scipy import ndimage

    deep = ndimage.binary_erosion(bone, np.ones((1, 7, 7)))
    return deep & (hounsfield > 100) & (hounsfield < 500)


def _some(mask: np.ndarray) -> np.ndarray:
    """Indices of at most some 20000 of its voxels."""
    found = np.argwhere(mask)
    return found[:: max(1, len(found) // 20000)]


def painted_views(
    cases: TrainingCases,
    painter: Painter,
    tissues: CtTissues,
    *,
    cache_dir: str | Path,
    spacing: Sequence[float | None],
    real: float = 0.0,
    **options: Any,
) -> PaintedViews:
    """Prepare the CTs of a cohort, with a progress bar, and make the data set; see `PaintedViews`.

    Args:
        cases: the training set.
        painter: gives signals.
        tissues: what a voxel of the CT holds.
        cache_dir: folder for the prepared arrays.
        spacing: wanted voxel size along the canonical axes in mm; None keeps an axis.
        real: share of the views of a registered pair that show its MR. A pair is a case with MR and CT
            that is not named as unaligned (see `io.find_training_cases`).
        options: of `PaintedViews`.

    Raises:
        InputError: see `prepare_anatomy`.
    """
    registered = {case.name for case in cases.pairs} if real else set()
    prepared = [
        prepare_anatomy(case, spacing, Path(cache_dir), case.name in registered)
        for case in tqdm(cases.ct, desc="preparing CTs", leave=False)
    ]
    return PaintedViews(prepared, painter, tissues, real=real, **options)
