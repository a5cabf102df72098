"""Several segmenters as one network, so that they ship, are exported and are served as one file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Mean logits of several networks (Lakshminarayanan et al. 2017), and of what each says of the mirror image.

    In training it is the mean alone: patches are mirrored at random there, and classes are learnt as they are.

    Args:
        members: networks of one task, ``(batch, channel, *spatial)`` to logits ``(batch, class, *spatial)``.
        mirrored: also ask each about the image with left and right exchanged; the first spatial axis must run so.
        offsets: added to the logits of each class, such as ``(0, -1.4)`` for a second class that is believed from a
            probability of 0.8 on; empty adds nothing.

    Raises:
        ValueError: no member.
    """

    def __init__(self, members: Sequence[nn.Module], mirrored: bool = False, offsets: Sequence[float] = ()) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        self.members, self.mirrored = nn.ModuleList(members), mirrored
        # axes of a batch: image, class, and three of space
        self.register_buffer("offsets", torch.tensor(list(offsets) or [0.0]).view(1, -1, 1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of ``(batch, channel, *spatial)``."""
        found: list[Tensor] = []
        for member in self.members:
            found.append(member(images))
            if self.mirrored and not self.training:  # axis 2 runs from left to right
                found.append(torch.flip(member(torch.flip(images, [2])), [2]))
        mean = torch.stack(found).mean(0)
        return mean if self.training else mean + self.offsets  # type: ignore[operator]
