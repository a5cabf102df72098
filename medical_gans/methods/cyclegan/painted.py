"""MR to CT learnt from views whose truth is known: painted CT, and registered pairs where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medical_gans.losses import bone_terms, nearest_shift, weighted_l1
from medical_gans.networks import fast_layout
from medical_gans.training.parallel import average_gradients, share_weights
from medical_gans.training.schedules import continue_descent, descent_state, flat_then_linear_schedules

BONE_UNIT = 0.3 + 0.7 * 50.0 / 2200.0
"""250 HU, above which metrics count bone, in unit space."""


class PaintedTranslation:
    """One update of a generator towards a CT that is known voxel by voxel.

    Weighted L1 of the result; for a generator with ``branches`` (`networks.BoneGenerator`) also the terms of
    `losses.bone_terms`. A view of a registered pair has a ``tolerance``: its CT is first moved by up to so many voxels
    to where the generator sees the anatomy (`losses.nearest_shift`).

    Args:
        mr_to_ct: from ``(batch, channel, *spatial)`` in [-1, 1] to the same.
        probability_weight: of the cross-entropy of bone.
        branch_weight: of the L1 of each branch.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warm_up: steps over which the learning rate rises.
        flat_epochs: epochs at the full learning rate.
        decay_epochs: epochs of linear decay that follow.
        ema_decay: decay per step of the running average that ships.
        clip_norm: largest norm of the gradient; 0 does not clip.
        amp: automatic mixed precision, in bfloat16 on a CPU (some three times faster where it has the instructions).
        device: where to compute.
    """

    def __init__(
        self,
        mr_to_ct: nn.Module,
        *,
        probability_weight: float = 0.2,
        branch_weight: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        warm_up: int = 300,
        flat_epochs: int = 20,
        decay_epochs: int = 80,
        ema_decay: float = 0.998,
        clip_norm: float = 1.0,
        amp: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.generators = fast_layout(nn.ModuleDict({"mr_to_ct": mr_to_ct}).to(self.device))
        self.network: Any = self.generators["mr_to_ct"]
        self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)
        share_weights(self.generators)
        self.probability_weight, self.branch_weight = probability_weight, branch_weight
        self.clip_norm, self.warm_up, self.amp = clip_norm, warm_up, amp
        self.cast = torch.bfloat16 if self.device.type == "cpu" else None
        parameters = self.network.parameters()
        self.optimisers = {
            "mr_to_ct": torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay, fused=True)
        }
        self.schedules = flat_then_linear_schedules(self.optimisers, flat_epochs, decay_epochs)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp and self.device.type == "cuda")
        self.steps = 0
        self.images: dict[str, Tensor] = {}

    @property
    def shipped(self) -> nn.Module:
        """The running average, which validation judges and inference uses."""
        return self.averaged.module

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update the generator once.

        Args:
            batch: ``mr``, ``ct`` and ``weight``, ``(batch, channel, *spatial)``; ``tolerance``, ``(batch,)`` voxels.

        Returns:
            Terms by name.
        """
        mr, ct, weight = (batch[key].to(self.device, non_blocking=True) for key in ("mr", "ct", "weight"))
        tolerance = batch["tolerance"].tolist() if "tolerance" in batch else []
        if any(tolerance):
            ct, weight = ct.clone(), weight.clone()
        if mr.ndim == 4:
            mr = mr.contiguous(memory_format=torch.channels_last)
        self.generators.train()
        with torch.autocast(self.device.type, dtype=self.cast, enabled=self.amp):
            branches = self.network.branches(mr) if hasattr(self.network, "branches") else ()
            made = self.network(mr) if not branches else mr
        if branches:
            logit, soft, bone = (branch.float() for branch in branches)
            made = self.network.mixture(logit.sigmoid(), soft, bone)
        made = made.float()
        for number, reach in enumerate(tolerance):
            if reach:
                ct[number], weight[number] = nearest_shift(
                    made[number].detach(), ct[number], weight[number], int(reach)
                )
        terms = {"l1": weighted_l1(made, ct, weight)}
        if branches:
            parts = bone_terms(logit, soft, bone, ct, weight, BONE_UNIT)
            shares = {"bone_probability": self.probability_weight}
            terms |= {name: shares.get(name, self.branch_weight) * value for name, value in parts.items()}
        self._descend(sum(terms.values(), start=torch.zeros((), device=self.device)))
        self.images = {"mr": mr, "synthetic_ct": made.detach(), "ct": ct}
        return {name: float(value.detach()) for name, value in terms.items()}

    def _descend(self, loss: Tensor) -> None:
        optimiser = self.optimisers["mr_to_ct"]
        rates = [group["lr"] for group in optimiser.param_groups]
        for group in optimiser.param_groups:
            group["lr"] *= min(1.0, (self.steps + 1) / max(self.warm_up, 1))
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        average_gradients(self.network.parameters())
        self.scaler.unscale_(optimiser)
        if self.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.scaler.step(optimiser)
        self.scaler.update()
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        self.averaged.update_parameters(self.network)
        self.steps += 1

    def end_epoch(self) -> None:
        """Advance the learning-rate schedule."""
        for schedule in self.schedules.values():
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "generators": self.generators.state_dict(),
            "averaged": self.averaged.state_dict(),
            **descent_state(self.optimisers, self.schedules, self.scaler),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.generators.load_state_dict(state["generators"])
        self.averaged.load_state_dict(state["averaged"])
        continue_descent(state, self.optimisers, self.schedules, self.scaler)
        self.steps = state["steps"]
