"""MR to CT learnt from views whose truth is known: painted CT, and registered pairs where there are some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from medical_gans.losses import bone_terms, nearest_shift, weighted_l1
from medical_gans.training.player import Method, Player

BONE_UNIT = 0.3 + 0.7 * 50.0 / 2200.0
"""250 HU, above which metrics count bone, in unit space."""


class PaintedTranslation(Method):
    """One update of a generator towards a CT that is known voxel by voxel.

    Weighted L1 of the result; for a generator with ``branches`` (`networks.BoneGenerator`) also the terms of
    `losses.bone_terms`. A view of a registered pair has a ``tolerance``: its CT is first moved by up to so many voxels
    to where the generator sees the anatomy (`losses.nearest_shift`).

    Args:
        generators: with the network ``mr_to_ct``, from ``(batch, channel, *spatial)`` in [-1, 1] to the same.
        distance: of what was made, the truth and the weight of each voxel.
        probability_weight: of the cross-entropy of bone.
        branch_weight: of the L1 of each branch.
    """

    def __init__(
        self,
        generators: Player,
        *,
        distance: Callable[[Tensor, Tensor, Tensor], Tensor] = weighted_l1,
        probability_weight: float = 0.2,
        branch_weight: float = 0.5,
    ) -> None:
        super().__init__({"generators": generators}, ("generators", "mr_to_ct"))
        self.generators, self.distance = generators, distance
        self.probability_weight, self.branch_weight = probability_weight, branch_weight

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update the generator once.

        Args:
            batch: ``mr``, ``ct`` and ``weight``, ``(batch, channel, *spatial)``; ``tolerance``, ``(batch,)`` voxels.

        Returns:
            Terms by name.
        """
        device, network = self.generators.device, self.generators["mr_to_ct"]
        mr, ct, weight = (batch[key].to(device, non_blocking=True) for key in ("mr", "ct", "weight"))
        tolerance = batch["tolerance"].tolist() if "tolerance" in batch else []
        if any(tolerance):
            ct, weight = ct.clone(), weight.clone()
        if mr.ndim == 4:
            mr = mr.contiguous(memory_format=torch.channels_last)
        self.generators.begin()
        made, branches = self._made(network, mr)
        for number, reach in enumerate(tolerance):
            if reach:
                ct[number], weight[number] = nearest_shift(
                    made[number].detach(), ct[number], weight[number], int(reach)
                )
        terms = {"l1": self.distance(made, ct, weight)}
        if branches:
            parts = bone_terms(*branches, ct, weight, BONE_UNIT)
            shares = {"bone_probability": self.probability_weight}
            terms |= {name: shares.get(name, self.branch_weight) * value for name, value in parts.items()}
        self.generators.descend(torch.stack(list(terms.values())).sum())
        self.images = {"mr": mr, "synthetic_ct": made.detach(), "ct": ct}
        return {name: float(value.detach()) for name, value in terms.items()}

    def _made(self, network: Any, mr: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result in float32, and the branches that it is mixed from, where there are some."""
        with self.generators.autocast():
            if not hasattr(network, "branches"):
                return network(mr).float(), ()
            branches = network.branches(mr)
        logit, soft, bone = (branch.float() for branch in branches)
        return network.mixture(logit.sigmoid(), soft, bone).float(), (logit, soft, bone)
