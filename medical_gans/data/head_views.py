"""Training views painted from CT of heads, with a brain in the skull and in all three planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from medical_gans.data.epoch_views import EpochViews
from medical_gans.data.head_anatomy import WHITE, PreparedHead, prepare_head, with_brains
from medical_gans.data.head_painting import BrainContents, LoadedHead, paint_head, sampled
from medical_gans.errors import InputError, SettingError
from medical_gans.io import TrainingCases
from medical_gans.transforms import AIR_HU, MR_CEILING, CtTissues, Painter, Window, hounsfield_to_unit
from medical_gans.transforms.painting import RandomFields, Range


class HeadViews(EpochViews):
    """Random views of CTs of heads with an MR painted on them.

    Each view has a frame of its own: turned and tilted, scaled, mirrored and bent, with a skull that is thinner or
    thicker than that of the CT, in the truth as well. What the CT does not show, liquid, grey and white matter, comes
    from brains that were fitted to the cavity; inside it the truth follows them. A view is a function of (seed, epoch,
    index).

    Args:
        heads: prepared, each with one brain at least.
        painter: with a signal for ``white``, ``grey``, ``liquid`` and ``vessel`` besides those of `CtTissues`.
        tissues: what a voxel of the CT holds outside the cavity.
        contents: of the cavity.
        crop_size: voxels of a view, 1 mm each.
        views_per_epoch: length of the data set.
        adjacent: slices stacked as channels, odd.
        seed: of every choice.
        near_bone: share of views centred within 25 mm of bone.
        near_joint: of these, the share near spongy or thin bone: skull base, face, spine.
        near_eyes: share of views centred within 25 mm of an eye, of which a head has little.
        inwards: share of the way to the middle of the head by which a view is moved, so that it shows less air.
        planes: share of sagittal, coronal and axial views.
        rotation: degrees in the plane; `tilt` out of it.
        scaling: [smallest, largest] logarithm of the size of a voxel: above 0 makes heads small.
        elastic: largest standard deviation of the bending in mm; `elastic_scale` in mm.
        vault: probability of a skull of another thickness; `vault_change` [thicker, thinner], logarithm.
        bone_weight: weight of voxels above 200 HU; `air_weight` that of air in the head, which is as dark as bone; of
            others in the body it is 1, outside 0.2.

    Yields:
        ``mr``, ``ct`` ``(adjacent, *crop)`` in [-1, 1], ``weight``, and ``brain``, ``(3 * adjacent, *crop)``: shares of
        liquid, of grey and of white matter in all slices.

    Raises:
        InputError: no head, or one without a brain.
        SettingError: crop or adjacent make no sense.
    """

    def __init__(
        self,
        heads: Sequence[PreparedHead],
        painter: Painter,
        tissues: CtTissues,
        contents: BrainContents,
        *,
        crop_size: Sequence[int],
        views_per_epoch: int,
        adjacent: int = 1,
        seed: int = 0,
        near_bone: float = 0.75,
        near_joint: float = 0.2,
        near_eyes: float = 0.0,
        inwards: float = 0.3,
        planes: Sequence[float] = (0.3, 0.25, 0.45),
        rotation: float = 22.0,
        tilt: float = 9.0,
        scaling: Range = (-0.12, 0.25),
        elastic: float = 2.2,
        elastic_scale: Range = (18.0, 45.0),
        vault: float = 0.5,
        vault_change: Range = (-0.45, 0.5),
        bone_weight: float = 3.0,
        air_weight: float = 3.0,
    ) -> None:
        if not heads:
            raise InputError("There is no CT to paint. Training needs at least one.")
        if bare := next((head.name for head in heads if not head.brains), None):
            raise InputError(f"{bare} has no brain to show. Give at least one T1 of a head or a brain beside the CTs.")
        if len(crop_size) != 2 or adjacent < 1 or adjacent % 2 == 0:
            raise SettingError(
                f"crop_size is {list(crop_size)} and adjacent {adjacent}; give two numbers, and odd ones."
            )
        super().__init__(views_per_epoch, seed)
        self.painter, self.tissues, self.contents = painter, tissues, contents
        self.crop_size, self.adjacent = tuple(crop_size), adjacent
        self.near_bone, self.near_joint, self.near_eyes, self.inwards = near_bone, near_joint, near_eyes, inwards
        self.planes, self.rotation, self.tilt = np.array(planes), rotation, tilt
        self.scaling, self.elastic, self.elastic_scale = scaling, elastic, elastic_scale
        self.vault, self.vault_change = vault, vault_change
        self.bone_weight, self.air_weight = bone_weight, air_weight
        self.heads = [LoadedHead(head) for head in heads]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = self.random(index)
        head = self.heads[int(rng.integers(len(self.heads)))]
        window, fields, place = self._frame(head, rng)
        brain_size, brain = rng.uniform(*self.contents.size), head.brains[int(rng.integers(len(head.brains)))]
        middle = head.cavity[:, None, None, None]
        tissue = sampled(brain, middle + (place - middle) / brain_size)[0] / WHITE
        changes, change = rng.random() < self.vault, rng.uniform(*self.vault_change)
        if changes:
            place = place + head.outwards(place) * float(np.exp(change) - 1)
        made = paint_head(head, tissue, place, self.painter, self.tissues, self.contents, fields, rng)
        rim = Painter.HALO
        part = tuple(slice(h, n - h) for h, n in zip(rim, window.shape, strict=True))
        low, high = place[2][part] < 0, place[2][part] > head.maps.shape[3] - 1
        shown = ~(low | high)  # the picture ends where the CT does
        signal, hounsfield, body = (image[part] for image in (made.signal, made.hounsfield, made.body))
        weight = 0.2 + 0.8 * body + (self.contents.weight - 1) * made.deep[part]
        weight = torch.where(hounsfield > 200, self.bone_weight, weight)
        weight = torch.where((body > 0) & (hounsfield < -300), self.air_weight, weight)
        return {
            "mr": torch.where(shown, (signal * (2.0 / MR_CEILING) - 1.0).clamp(-1, 1), -1.0),
            "ct": torch.from_numpy(hounsfield_to_unit(torch.where(shown, hounsfield, AIR_HU).numpy())),
            "weight": torch.where(shown, weight, 0.0),
            "brain": made.brain[(slice(None), *part)].flatten(0, 1),
        }

    def _frame(self, head: LoadedHead, rng: np.random.Generator) -> tuple[Window, RandomFields, Tensor]:
        """A window in a random frame, its fields, and where its voxels lie in the head ``(3, slice, row, column)``."""
        axis = int(rng.choice(3, p=self.planes / self.planes.sum()))
        order = [axis, *(a for a in range(3) if a != axis)]
        near, joint, eye = (rng.random() < share for share in (self.near_bone, self.near_joint, self.near_eyes))
        points = (head.spongy if joint else head.bone) if near else head.body
        points = head.eyes if eye and len(head.eyes) else points
        within = np.arange(3) != axis
        centre = points[rng.integers(len(points))] + rng.uniform(-25, 25, 3) * within
        centre = centre + self.inwards * (head.middle - centre) * within
        angles = np.deg2rad(rng.uniform(-1, 1, 3) * [self.rotation if a == axis else self.tilt for a in range(3)])
        turn = rotation(angles) * np.exp(rng.uniform(*self.scaling)) @ np.diag(np.exp(rng.uniform(-0.06, 0.06, 3)))
        turn = turn @ np.diag([-1.0 if rng.random() < 0.5 else 1.0, 1.0, 1.0])
        rim = Painter.HALO
        shape = (self.adjacent + 2 * rim[0], *(c + 2 * h for c, h in zip(self.crop_size, rim[1:], strict=True)))
        middle = (np.array(head.maps.shape[1:]) - 1) / 2
        corner = np.rint(np.linalg.solve(turn, centre - middle)).astype(int)[order] - np.array(shape) // 2
        window = Window(tuple(corner.tolist()), shape, (1.0, 1.0, 1.0))  # type: ignore[arg-type]
        fields = self.painter.fields(window, rng)
        steps = [torch.arange(n, dtype=torch.float32) + int(o) for n, o in zip(shape, corner, strict=True)]
        here = torch.stack(torch.meshgrid(*steps, indexing="ij"))
        amount, scale = rng.uniform(0, self.elastic), rng.uniform(*self.elastic_scale)
        here = (here + amount * torch.stack(fields.smooth(scale, 1.0, 3)))[[order.index(a) for a in range(3)]]
        place = torch.tensordot(torch.from_numpy(turn.astype(np.float32)), here, 1)
        return window, fields, place + torch.from_numpy(middle.astype(np.float32))[:, None, None, None]


def rotation(angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rotations about the first, second and third axis, one after the other ``(3, 3)``; radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (a for a in range(3) if a != axis)
        step = np.eye(3)
        step[one, one] = step[two, two] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def head_views(
    cases: TrainingCases,
    painter: Painter,
    tissues: CtTissues,
    contents: BrainContents,
    *,
    cache_dir: str | Path,
    real: float = 0.0,
    tolerance: int = 0,
    **options: Any,
) -> HeadViews:
    """Prepare the CTs of a cohort and the brains of its T1s, with a progress bar, and make the data set.

    Args:
        cases: the training set: CT of heads, and T1 of heads or of brains, of any patients.
        painter: gives signals.
        tissues: what a voxel of the CT holds.
        contents: of the cavity.
        cache_dir: folder for the prepared arrays, some 15 MB for each CT and brain.
        real: share of views that show a real MR: none, for no pair of a head is known.
        tolerance: of such views.
        options: of `HeadViews`.

    Raises:
        InputError: a file cannot be read, or shows no head.
        SettingError: real MRs are asked for.
    """
    if real > 0:
        raise SettingError(f"real_views is {real}; views of heads are painted only. Set it to 0.")
    folder = Path(cache_dir)
    mrs = [case.mr for case in cases.mr if case.mr is not None]
    found = [(case.name, case.ct) for case in cases.ct if case.ct is not None]
    heads = [prepare_head(name, ct, folder) for name, ct in tqdm(found, desc="preparing CTs", leave=False)]
    heads = [with_brains(head, mrs, folder) for head in tqdm(heads, desc="fitting brains", leave=False)]
    return HeadViews(heads, painter, tissues, contents, **options)
