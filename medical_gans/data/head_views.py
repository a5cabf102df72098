"""Training views painted from CT of heads, with a brain in the skull and in all three planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from medical_gans.data.epoch_views import EpochViews
from medical_gans.data.head_anatomy import DEEPEST_MM, WHITE, PreparedHead, prepare_head, with_brains
from medical_gans.errors import InputError, SettingError
from medical_gans.io import TrainingCases
from medical_gans.transforms import AIR_HU, MR_CEILING, CtTissues, Painter, Window, hounsfield_to_unit
from medical_gans.transforms.painting import RandomFields, Range

_LIQUID_HU, _GREY_HU, _WHITE_HU, _VESSEL_HU = 7.0, 39.0, 25.0, 53.0
_VAULT_MM = 9.0  # over which a skull of another thickness is pulled in or pushed out


@dataclass(frozen=True)
class BrainContents:
    """How what is inside the skull varies from draw to draw.

    Attributes:
        size: of the brain relative to the cavity, [low, high]: a smaller one leaves a wider rim of liquid.
        rim: mm of liquid between brain and bone, [low, high], in half of the draws; 0 to 1 in the others.
        unknown: probability of a brain without the contrast of tissues.
        enhanced: probability of vessels, and of dura, with a signal of their own: contrast agent, flow voids.
        grain: HU that are not to be known.
        weight: of the voxels of the cavity, so that the few HU between its tissues are learnt.
    """

    size: Range = (0.93, 1.05)
    rim: Range = (0.0, 5.0)
    unknown: float = 0.15
    enhanced: float = 0.4
    grain: float = 2.0
    weight: float = 3.0

    def __call__(
        self, tissue: Tensor, depth: Tensor, fields: RandomFields, rng: np.random.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Shares of ``white``, ``grey``, ``liquid`` and ``vessel``, before they are cut to the cavity, and HU.

        Args:
            tissue: 0 liquid, 0.5 grey, 1 white matter, ``(slice, row, column)``.
            depth: mm from the cavity, negative inside.
            fields: of the window.
            rng: draws everything.
        """
        wide, rim, narrow = rng.random() < 0.5, rng.uniform(*self.rim), rng.uniform(0.0, 1.0)
        (wave,) = fields.smooth(rng.uniform(4.0, 10.0))
        tissue = tissue * (-depth - (rim if wide else narrow) * (1 + 0.4 * wave)).clamp(0, 1)
        scale = rng.uniform(4.0, 12.0)
        if rng.random() < self.unknown:
            tissue = (0.75 + 0.5 * fields.smooth(scale)[0]).clamp(0.1, 1.1) * (5 * tissue).clamp(0, 1)
        amount = rng.uniform(0, 0.06)
        tissue = tissue + amount * fields.smooth(1.5)[0] * (tissue > 0.1)
        liquid, white = (1 - 2 * tissue).clamp(0, 1), (2 * tissue - 1).clamp(0, 1.3)
        grey = (1 - (2 * tissue - 1).abs()).clamp(0, 1)
        vessel = torch.zeros_like(tissue)
        happens, width, scale = rng.random() < self.enhanced, rng.uniform(0.03, 0.1), rng.uniform(5.0, 11.0)
        if happens:
            gate = (fields.smooth(12.0)[0] > 0).to(tissue.dtype)
            vessel = torch.exp(-((fields.smooth(scale)[0] / width) ** 2)) * gate * (0.2 + 0.8 * liquid)
        if rng.random() < self.enhanced:  # dura and sinuses
            vessel = torch.maximum(vessel, (1.2 - (depth + 0.7).abs()).clamp(0, 1))
        others = 1 - vessel
        hounsfield = _LIQUID_HU + (_GREY_HU - _LIQUID_HU) * (1 - liquid)
        hounsfield = hounsfield + (_WHITE_HU - _GREY_HU) * white.clamp(max=1)
        hounsfield = hounsfield + (_VESSEL_HU - _GREY_HU) * vessel + self.grain * fields.smooth(6.0)[0]
        shares = {"white": white * others, "grey": grey * others, "liquid": liquid * others, "vessel": vessel}
        return shares, hounsfield


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
        inwards: share of the way to the middle of the head by which a view is moved, so that it shows less air.
        planes: share of sagittal, coronal and axial views.
        rotation: degrees in the plane; `tilt` out of it.
        scaling: [smallest, largest] logarithm of the size of a voxel: above 0 makes heads small.
        elastic: largest standard deviation of the bending in mm; `elastic_scale` in mm.
        vault: probability of a skull of another thickness; `vault_change` [thicker, thinner], logarithm.
        bone_weight: weight of voxels above 200 HU; `air_weight` that of air in the head, which is as dark as bone; of
            others in the body it is 1, outside 0.2.

    Yields:
        ``mr``, ``ct`` ``(adjacent, *crop)`` in [-1, 1], and ``weight``.

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
        inwards: float = 0.3,
        planes: Sequence[float] = (0.3, 0.25, 0.45),
        rotation: float = 22.0,
        tilt: float = 9.0,
        scaling: Range = (-0.12, 0.25),
        elastic: float = 2.2,
        elastic_scale: Range = (18.0, 45.0),
        vault: float = 0.5,
        vault_change: Range = (-0.35, 0.6),
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
        self.near_bone, self.near_joint, self.inwards = near_bone, near_joint, inwards
        self.planes, self.rotation, self.tilt = np.array(planes), rotation, tilt
        self.scaling, self.elastic, self.elastic_scale = scaling, elastic, elastic_scale
        self.vault, self.vault_change = vault, vault_change
        self.bone_weight, self.air_weight = bone_weight, air_weight
        self.heads = [_Loaded(head) for head in heads]

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
        maps = sampled(head.maps, place)
        bone, body = (maps[1] / 100).clamp(0, 1), (maps[2] > 50).float()
        # HU were raised to 0 outside the body, so that a share of them is missing at its rim
        hounsfield = maps[0] / (maps[2] / 100).clamp(0.5, 1) * body + AIR_HU
        depth = DEEPEST_MM - maps[3] / 100
        cavity = (0.5 - depth).clamp(0, 1) * (maps[3] > 0)
        hounsfield, bone = self.tissues.changed_cortex(hounsfield, bone, rng)
        shares, inner = self.contents(tissue, depth, fields, rng)
        found = self.tissues(hounsfield, bone * (1 - cavity), body * (1 - cavity), fields, rng)
        found |= {name: share * cavity for name, share in shares.items()}
        signal = self.painter(found, fields, rng)
        hounsfield = hounsfield * (1 - cavity) + inner * cavity
        rim = Painter.HALO
        part = tuple(slice(h, n - h) for h, n in zip(rim, window.shape, strict=True))
        low, high = place[2][part] < 0, place[2][part] > head.maps.shape[3] - 1
        shown = ~(low | high)  # the picture ends where the CT does
        weight = 0.2 + 0.8 * body[part] + (self.contents.weight - 1) * cavity[part]
        weight = torch.where(hounsfield[part] > 200, self.bone_weight, weight)
        weight = torch.where((body[part] > 0) & (hounsfield[part] < -300), self.air_weight, weight)
        return {
            "mr": torch.where(shown, (signal[part] * (2.0 / MR_CEILING) - 1.0).clamp(-1, 1), -1.0),
            "ct": torch.from_numpy(hounsfield_to_unit(torch.where(shown, hounsfield[part], AIR_HU).numpy())),
            "weight": torch.where(shown, weight, 0.0),
        }

    def _frame(self, head: _Loaded, rng: np.random.Generator) -> tuple[Window, RandomFields, Tensor]:
        """A window in a random frame, its fields, and where its voxels lie in the head ``(3, slice, row, column)``."""
        axis = int(rng.choice(3, p=self.planes / self.planes.sum()))
        order = [axis, *(a for a in range(3) if a != axis)]
        near, joint = rng.random() < self.near_bone, rng.random() < self.near_joint
        points = (head.spongy if joint else head.bone) if near else head.body
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


class _Loaded:
    """A prepared head in memory, and which way leads out of its cavity."""

    def __init__(self, head: PreparedHead) -> None:
        from scipy import ndimage

        maps = np.load(head.path)
        self.maps = torch.from_numpy(maps).float()  # once: in each view it costs more
        self.brains = [torch.from_numpy(np.load(file, mmap_mode="c"))[None] for file in head.brains]
        self.bone, self.body = np.argwhere(maps[1] > 50)[::500], np.argwhere(maps[2] > 50)[::3000]
        self.middle = self.body.mean(0)
        self.spongy = np.argwhere((maps[1] > 50) & (maps[0] < 650 - AIR_HU))[::500]
        inside = np.argwhere(maps[3][::2, ::2, ::2] > 100 * (DEEPEST_MM + 3))
        self.cavity = torch.from_numpy((2 * inside.mean(0)).astype(np.float32))
        depth = ndimage.gaussian_filter(DEEPEST_MM - maps[3][::2, ::2, ::2] / np.float32(100), 2)
        normal = np.stack(np.gradient(depth))
        normal = normal / np.maximum(np.sqrt((normal**2).sum(0)), 0.3)
        self._coarse = torch.from_numpy(
            np.concatenate([100 * normal, 100 * (DEEPEST_MM - depth[None])]).astype(np.int16)
        )

    def outwards(self, place: Tensor) -> Tensor:
        """Vectors out of the cavity in mm: 0 inside, longer with the distance, nearly constant beyond the vault."""
        coarse = sampled(self._coarse, (place - 0.5) / 2)
        depth = (DEEPEST_MM - coarse[3] / 100).clamp_min(0) * (coarse[3] > 0)
        return coarse[:3] / 100 * (_VAULT_MM * (1 - torch.exp(-depth / _VAULT_MM)))


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


def sampled(maps: Tensor, place: Tensor) -> Tensor:
    """Linear interpolation of ``(map, x, y, z)`` at ``(3, slice, row, column)`` voxel positions; 0 outside."""
    box = []
    for positions, size in zip(place.flatten(1), maps.shape[1:], strict=True):
        low = min(max(int(positions.min().floor()) - 1, 0), size - 2)
        box.append((low, max(low + 2, min(size, int(positions.max().ceil()) + 2))))
    block = maps[(slice(None), *(slice(*ends) for ends in box))].float()[None]
    grid = [(place[a] - box[a][0] + 0.5) * (2 / block.shape[2 + a]) - 1 for a in (2, 1, 0)]
    return functional.grid_sample(block, torch.stack(grid, -1)[None], align_corners=False)[0]


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
