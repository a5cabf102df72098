"""History of generated images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """History of generated images shown to the discriminator (Shrivastava et al. 2017, section 2.3).

    Once full, each image is replaced by an older one with probability one half. Choices come from a generator of
    its own, so that a resumed run draws the same ones.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Tensor) -> Tensor:
        """Swap images ``(batch, channel, *spatial)`` for a mixture of new and old ones."""
        if self.size == 0:
            return batch
        shown = []
        for image in batch.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                shown.append(image)
            elif torch.rand((), generator=self.generator) < 0.5:
                index = int(torch.randint(self.size, (), generator=self.generator))
                shown.append(self.images[index])
                self.images[index] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, Any]:
        """The images and the state of the choices."""
        return {"images": list(self.images), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.images = list(state["images"])
        self.generator.set_state(state["generator"])
