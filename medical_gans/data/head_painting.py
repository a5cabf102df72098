"""An MR painted on a CT of a head with a borrowed brain: what training views and whole test heads share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medical_gans.data.head_anatomy import DEEPEST_MM, WHITE, PreparedHead
from medical_gans.transforms import AIR_HU, CtTissues, Painter, Window
from medical_gans.transforms.painting import RandomFields, Range

_LIQUID_HU, _GREY_HU, _WHITE_HU, _VESSEL_HU = 7.0, 39.0, 25.0, 53.0
_RIM_MM = 2.0  # of the cavity, which weighs as other soft tissue
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
        weight: of the voxels of the cavity some mm below its rim, so that the few HU between its tissues are learnt;
            at the rim it would make skulls thin.
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


@dataclass(frozen=True, eq=False)
class PaintedHead:
    """A part of a head, ``(slice, row, column)``.

    Attributes:
        signal: of the MR, 1 that of the brightest ordinary tissue; its rim of `Painter.HALO` is not to be used.
        hounsfield: the truth.
        body: 1 in the head.
        deep: 1 inside the skull, some mm from it.
        brain: shares of liquid, grey and white matter, ``(3, slice, row, column)``, by which HU inside the skull come.
    """

    signal: Tensor
    hounsfield: Tensor
    body: Tensor
    deep: Tensor
    brain: Tensor


def paint_head(
    head: LoadedHead,
    tissue: Tensor,
    place: Tensor,
    painter: Painter,
    tissues: CtTissues,
    contents: BrainContents,
    fields: RandomFields,
    rng: np.random.Generator,
) -> PaintedHead:
    """Paint the voxels of a window.

    Args:
        head: gives bone, body, cavity and eyes, which are filled with liquid.
        tissue: of the brain there, as `BrainContents` takes it.
        place: where the voxels lie in the head ``(3, slice, row, column)``.
        painter: with a signal for ``white``, ``grey``, ``liquid`` and ``vessel`` besides those of `CtTissues`.
        tissues: what a voxel of the CT holds outside the cavity.
        contents: of the cavity.
        fields: of the window.
        rng: draws everything.
    """
    maps = sampled(head.maps, place)
    bone, body = (maps[1] / 100).clamp(0, 1), (maps[2] > 50).float()
    # HU were raised to 0 outside the body, so that a share of them is missing at its rim
    hounsfield = maps[0] / (maps[2] / 100).clamp(0.5, 1) * body + AIR_HU
    depth = DEEPEST_MM - maps[3] / 100
    cavity = (0.5 - depth).clamp(0, 1) * (maps[3] > 0)
    hounsfield, bone = tissues.changed_cortex(hounsfield, bone, rng)
    shares, inner = contents(tissue, depth, fields, rng)
    eyes = (maps[4] / 100).clamp(0, 1) * (1 - cavity)
    outside = 1 - cavity - eyes
    found = tissues(hounsfield, bone * outside, body * outside, fields, rng)
    found |= {name: share * cavity for name, share in shares.items()}
    found["liquid"] = found["liquid"] + eyes
    signal = painter(found, fields, rng)
    deep = (-0.5 * (depth + _RIM_MM)).clamp(0, 1) * cavity
    brain = cavity * torch.stack([shares[name] for name in ("liquid", "grey", "white")]).clamp(max=1)
    return PaintedHead(signal, hounsfield * (1 - cavity) + inner * cavity, body, deep, brain)


def whole_head(
    head: PreparedHead, brain: int, painter: Painter, tissues: CtTissues, contents: BrainContents, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MR, CT and body of a whole head, neither moved nor bent: a patient whose truth is known.

    Args:
        head: prepared, with brains.
        brain: number of the one that it gets.
        painter: gives signals; `alike` must be false.
        tissues: what a voxel of the CT holds outside the cavity.
        contents: of the cavity.
        seed: of all that is drawn.

    Returns:
        Signal (float32, 1 the brightest ordinary tissue), HU (int16) and body (boolean), ``(x, y, z)``, 1 mm.
    """
    loaded, rng, rim = LoadedHead(head), np.random.default_rng(seed), Painter.HALO
    shape = loaded.maps.shape[1:]
    window = Window(
        (-rim[0], -rim[1], -rim[2]),
        tuple(n + 2 * h for n, h in zip(shape, rim, strict=True)),  # type: ignore[arg-type]
        (1.0, 1.0, 1.0),
    )
    steps = [torch.arange(n, dtype=torch.float32) + o for n, o in zip(window.shape, window.origin, strict=True)]
    place = torch.stack(torch.meshgrid(*steps, indexing="ij"))
    tissue = sampled(loaded.brains[brain], place)[0] / WHITE
    made = paint_head(loaded, tissue, place, painter, tissues, contents, painter.fields(window, rng), rng)
    part = tuple(slice(h, h + n) for h, n in zip(rim, shape, strict=True))
    signal, hounsfield, body = (image[part].numpy() for image in (made.signal, made.hounsfield, made.body))
    return signal, np.rint(hounsfield).astype(np.int16), body > 0


class LoadedHead:
    """A prepared head in memory, and which way leads out of its cavity.

    Attributes:
        maps: float32 ``(map, x, y, z)``, as `PreparedHead.path` says.
        brains: uint8 ``(1, x, y, z)``.
        cavity: its middle in voxels ``(3,)``.
        bone: some voxels of bone; `spongy` of spongy or thin bone, `eyes` of eyes, `body` of all.
        middle: of the body in voxels.
    """

    def __init__(self, head: PreparedHead) -> None:
        from scipy import ndimage

        maps = np.load(head.path)
        self.maps = torch.from_numpy(maps).float()  # once: in each view it costs more
        self.brains = [torch.from_numpy(np.load(file, mmap_mode="c"))[None] for file in head.brains]
        self.bone, self.body = np.argwhere(maps[1] > 50)[::500], np.argwhere(maps[2] > 50)[::3000]
        self.middle = self.body.mean(0)
        self.eyes = np.argwhere(maps[4] > 50)[::200]
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


def sampled(maps: Tensor, place: Tensor) -> Tensor:
    """Linear interpolation of ``(map, x, y, z)`` at ``(3, slice, row, column)`` voxel positions; 0 outside."""
    box = []
    for positions, size in zip(place.flatten(1), maps.shape[1:], strict=True):
        low = min(max(int(positions.min().floor()) - 1, 0), size - 2)
        box.append((low, max(low + 2, min(size, int(positions.max().ceil()) + 2))))
    block = maps[(slice(None), *(slice(*ends) for ends in box))].float()[None]
    grid = [(place[a] - box[a][0] + 0.5) * (2 / block.shape[2 + a]) - 1 for a in (2, 1, 0)]
    return functional.grid_sample(block, torch.stack(grid, -1)[None], align_corners=False)[0]
