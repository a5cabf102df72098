"""CycleGAN between two sets of MR sequences: image-level adaptation (Zhu et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from medical_gans.methods.cyclegan.translation import CycleGan

_NAMES = {"synthetic_ct": "translated_source", "synthetic_mr": "translated_target", "mr": "source", "ct": "target"}


class SequenceTranslation:
    """`CycleGan` whose two sides are the source and the target of an adaptation.

    Args:
        source_to_target: the generator that ships.
        target_to_source: the generator back.
        source_discriminator: tells real source images from translated ones.
        target_discriminator: tells real target images from translated ones.
        options: see `CycleGan`.
    """

    def __init__(
        self,
        source_to_target: nn.Module,
        target_to_source: nn.Module,
        source_discriminator: nn.Module,
        target_discriminator: nn.Module,
        **options: Any,
    ) -> None:
        self.cycle = CycleGan(source_to_target, target_to_source, target_discriminator, source_discriminator, **options)
        self.images: dict[str, Tensor] = {}

    @property
    def shipped(self) -> nn.Module:
        """Source to target, as a running average."""
        return self.cycle.shipped

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update all networks once by ``source`` and ``target`` ``(batch, channel, *spatial)`` in [-1, 1]."""
        losses = self.cycle({"mr": batch["source"], "ct": batch["target"]})
        self.images = {_spoken(name): image for name, image in self.cycle.images.items()}
        return {_spoken(name): loss for name, loss in losses.items()}

    def end_epoch(self) -> None:
        """Advance the learning-rate schedules."""
        self.cycle.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return self.cycle.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.cycle.load_state_dict(state)


def _spoken(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("cycle_"):
        return f"cycle_{_NAMES[name.removeprefix('cycle_')]}"
    for side in ("ct", "mr"):
        if name.endswith(f"_{side}"):
            return f"{name.removesuffix(side)}{_NAMES[side]}"
    return name
