"""Training of a critic: real CT against the same CT damaged, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from tqdm import tqdm

from medical_gans.checks.quality.damage import KINDS, damaged
from medical_gans.checks.quality.realism import RealismCritic
from medical_gans.errors import InputError
from medical_gans.io import Case, read_mask, read_volume
from medical_gans.io.orientation import ras_spacing, ras_view
from medical_gans.networks import patch_discriminator
from medical_gans.transforms import AIR_HU, body_mask, hounsfield_to_unit, resize_in_plane

_NEAR, _REACH = 8, 35  # voxels from the middle of a patch of 70: damage to here is its own, beyond that none of it
_FIRST, _STEP = 12, 8  # voxels before the middle of the first patch, and between patches, with three strided layers
_NETWORK = "medical_gans.networks.patch_discriminator"
_FEWEST_BODY = 0.02  # of a slice


class CtSlices:
    """Axial slices of real CTs, and views of them, half of them damaged.

    Args:
        cases: with a CT each, and perhaps a mask within which it is looked at.
        spacing: in-plane voxel size in mm of the critic.
        between: mm between slices.
        denoise: voxels of an in-plane median filter, as in training; 0 keeps the noise.

    Raises:
        InputError: no CT, or a file cannot be read.
    """

    def __init__(self, cases: Sequence[Case], spacing: float, *, between: float = 3.0, denoise: int = 0) -> None:
        self.slices: list[tuple[np.ndarray, np.ndarray]] = []
        for case in tqdm([case for case in cases if case.ct is not None], desc="reading CTs", leave=False):
            assert case.ct is not None
            volume = read_volume(case.ct, modality="CT")
            ct, grid = ras_view(volume.array, volume.affine), ras_spacing(volume.affine)
            body = body_mask(ct, grid, "CT")
            if case.mask is not None:
                mask = read_mask(case.mask)
                body &= ras_view(mask.array, mask.affine) > 0
            for k in range(0, ct.shape[2], max(1, round(between / grid[2]))):
                if body[:, :, k].mean() > _FEWEST_BODY:
                    self.slices.append(_slice(ct[:, :, k], body[:, :, k], grid, spacing, denoise))
        if not self.slices:
            raise InputError("There is no CT to learn from. Give cases with a CT.")

    def view(self, rng: np.random.Generator, size: int, kind: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """HU, body, and where the HU were damaged, each ``(size, size)``; `kind` None leaves them whole."""
        hounsfield, body = self.slices[int(rng.integers(len(self.slices)))]
        hounsfield, body = (_widened(image, size, fill) for image, fill in ((hounsfield, AIR_HU), (body, False)))
        shown = np.argwhere(body)
        centre = shown[rng.integers(len(shown))]
        corner = [int(np.clip(c - size // 2, 0, n - size)) for c, n in zip(centre, body.shape, strict=True)]
        part = tuple(slice(c, c + size) for c in corner)
        turned = (slice(None, None, int(rng.choice([1, -1]))), slice(None))
        hounsfield, body = (np.ascontiguousarray(image[part][turned]) for image in (hounsfield, body))
        if kind is None:
            return hounsfield, body, np.zeros_like(body)
        made, where = damaged(hounsfield, body, kind, rng)
        return made, body, where


def train_critic(
    slices: CtSlices,
    spacing: float,
    *,
    steps: int = 1500,
    views: int = 8,
    size: int = 128,
    width: int = 16,
    kinds: Sequence[str] = tuple(KINDS),
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> RealismCritic:
    """Train a patch discriminator to score real CT 1 and damaged CT 0, by least squares (Mao et al. 2017, equation 9).

    A patch is damaged where the damage reaches its middle and whole where it is far from it.
    Between, it does not count.
    The damaged patches of a view count as much as the whole ones, however few they are.

    Args:
        slices: of real CT.
        spacing: in-plane voxel size of them in mm.
        steps: of AdamW, the learning rate falling to zero as a cosine.
        views: in a step, half of them damaged.
        size: voxels of a view.
        width: channels of the first layer; two of them cost four times as much.
        kinds: of damage, names of `damage.KINDS`.
        learning_rate: largest.
        seed: of views and weights.
    """
    rng = np.random.default_rng(seed)
    made_of: dict[str, Any] = {"width": width, "layers": 3, "norm": "none"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = patch_discriminator(**made_of)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, betas=(0.5, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    for _ in (bar := tqdm(range(steps), desc="training the critic", leave=False)):
        drawn = [str(rng.choice(list(kinds))) if number % 2 else None for number in range(views)]
        made = [slices.view(rng, size, kind) for kind in drawn]
        hounsfield, body, where = (np.stack(part) for part in zip(*made, strict=True))
        images = torch.from_numpy(hounsfield_to_unit(np.where(body, hounsfield, AIR_HU)))[:, None]
        scores: Tensor = network(images.contiguous(memory_format=torch.channels_last))[-1]
        target, weight = _targets(torch.from_numpy(where), torch.from_numpy(body), scores)
        loss = (weight * (scores - target) ** 2).sum() / weight.sum().clamp_min(1e-6)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return RealismCritic(network, (spacing, spacing), {"_target_": _NETWORK, **made_of})


def _targets(where: Tensor, body: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """What each score should be and what it counts, both of the shape of the scores."""
    count = tuple(scores.shape[2:])

    def reached(reach: int) -> Tensor:
        beyond = [
            (reach - _FIRST, (n - 1) * _STEP + reach + _FIRST - size)
            for n, size in zip(count, where.shape[1:], strict=True)
        ]
        image = nn.functional.pad(where[:, None].float(), [*beyond[1], *beyond[0]])
        return nn.functional.max_pool2d(image, 2 * reach, _STEP)

    shown = nn.functional.interpolate(body[:, None].float(), size=count, mode="area") > 0.5
    near, far = shown & (reached(_NEAR) > 0), shown & (reached(_REACH) == 0)
    voxels = [part.sum((1, 2, 3), keepdim=True).clamp_min(1) for part in (near, far)]
    return (~near).float(), near / voxels[0] + far / voxels[1]


def _slice(
    hounsfield: np.ndarray, body: np.ndarray, grid: Sequence[float], spacing: float, denoise: int
) -> tuple[np.ndarray, np.ndarray]:
    if denoise:
        hounsfield = ndimage.median_filter(hounsfield, denoise)
    images = np.stack([np.where(body, hounsfield, AIR_HU), body]).astype(np.float32)
    made = resize_in_plane(torch.from_numpy(images)[:, None], grid[:2], (spacing, spacing))[0].numpy()[:, 0]
    return np.maximum(made[0], AIR_HU), made[1] > 0.5


def _widened(image: np.ndarray, size: int, fill: float | bool) -> np.ndarray:
    """At least `size` voxels along each axis."""
    missing = [max(0, size - n) for n in image.shape]
    return np.pad(image, [(m // 2, m - m // 2) for m in missing], constant_values=fill)
