"""MR to CT learnt from views whose truth is known: painted CT, and registered pairs where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medical_gans.losses import bone_terms, nearest_shift, tissue_cross_entropy, weighted_l1
from medical_gans.training.player import Method, Player

_UNIT_PER_HU = 0.002  # of soft tissue

BONE_UNIT = 0.3 + 0.7 * 50.0 / 2200.0
"""250 HU, above which metrics count bone, in unit space."""


class PaintedTranslation(Method):
    """A generator that learns a CT which is known voxel by voxel.

    Weighted L1 of the result; for a generator with ``branches`` (`networks.BoneGenerator`) also the terms of
    `losses.bone_terms`, and where it has classes for the tissues of the brain and the views tell them (``brain``),
    `losses.tissue_cross_entropy`. A view of a registered pair has a ``tolerance``: its CT is first moved by up to so
    many voxels to where the generator sees the anatomy (`losses.nearest_shift`).

    Args:
        generator: a player whose network ``mr_to_ct`` takes and makes ``(batch, channel, *spatial)`` in [-1, 1].
        probability_weight: of the cross-entropy of bone.
        branch_weight: of the L1 of each branch.
        tissue_weight: of the cross-entropy of the tissues of the brain.
        smooth: HU of soft tissue up to which the square of an error counts (`losses.weighted_l1`); 0 is L1.
        warm_up: updates over which the learning rate rises to that of the schedule.
    """

    def __init__(
        self,
        generator: Player,
        *,
        probability_weight: float = 0.2,
        branch_weight: float = 0.5,
        tissue_weight: float = 0.3,
        smooth: float = 0.0,
        warm_up: int = 300,
    ) -> None:
        super().__init__({"generator": generator}, shipped=("generator", "mr_to_ct"))
        self.probability_weight, self.branch_weight, self.warm_up = probability_weight, branch_weight, warm_up
        self.tissue_weight, self.smooth = tissue_weight, smooth * _UNIT_PER_HU

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update the generator once.

        Args:
            batch: ``mr``, ``ct`` and ``weight``, ``(batch, channel, *spatial)``; where there are any, ``tolerance``,
                ``(batch,)`` voxels, and ``brain``, ``(batch, channel * tissues, *spatial)`` shares.

        Returns:
            Weighted terms by name.
        """
        generator = self.players["generator"]
        network: Any = generator["mr_to_ct"]
        mr, ct, weight = (batch[key].to(generator.device, non_blocking=True) for key in ("mr", "ct", "weight"))
        if mr.ndim == 4:
            mr = mr.contiguous(memory_format=torch.channels_last)
        generator.begin()
        with generator.autocast():
            branches = network.branches(mr) if hasattr(network, "branches") else ()
            made = network(mr) if not branches else mr
        if branches:
            logit, soft, bone, tissues = (branch.float() for branch in branches)
            made = network.mixture(logit.sigmoid(), soft, bone)
        made = made.float()
        ct, weight = _moved(made.detach(), ct, weight, batch.get("tolerance"))
        terms = {"l1": weighted_l1(made, ct, weight, self.smooth)}
        if branches:
            parts = bone_terms(logit, soft, bone, ct, weight, BONE_UNIT, self.smooth)
            shares = {"bone_probability": self.probability_weight}
            if tissues.shape[1] and "brain" in batch:
                parts["tissue"] = tissue_cross_entropy(tissues, batch["brain"].to(generator.device), weight)
                shares["tissue"] = self.tissue_weight
            terms |= {name: shares.get(name, self.branch_weight) * value for name, value in parts.items()}
        self._descend(generator, sum(terms.values(), start=torch.zeros((), device=generator.device)))
        self.images = {"mr": mr, "synthetic_ct": made.detach(), "ct": ct}
        return {name: float(value.detach()) for name, value in terms.items()}

    def _descend(self, generator: Player, loss: Tensor) -> None:
        groups = generator.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] *= min(1.0, (generator.steps + 1) / max(self.warm_up, 1))
        generator.descend(loss)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


def _moved(made: Tensor, ct: Tensor, weight: Tensor, tolerance: Tensor | None) -> tuple[Tensor, Tensor]:
    """CT and weight, those of registered pairs where the generator sees the anatomy."""
    if tolerance is None or not bool(tolerance.any()):
        return ct, weight
    ct, weight = ct.clone(), weight.clone()
    for number, reach in enumerate(tolerance.tolist()):
        if reach:
            ct[number], weight[number] = nearest_shift(made[number], ct[number], weight[number], int(reach))
    return ct, weight
