"""The generator of lung nodules behind one tensor, as ONNX, TorchScript and MONAI's checks expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from medical_gans.networks import nodule_generator


class SingleTensorGenerator(nn.Module):
    """A generator of nodules that takes latent numbers and class in one tensor, or as two.

    Its weights are those of `networks.nodule_generator`, under the same names.

    Args:
        arguments: of `networks.nodule_generator`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.generator = nodule_generator(**arguments)
        self.size = int(self.generator.size)  # type: ignore[arg-type]
        self.latent_size = int(self.generator.latent_size)  # type: ignore[arg-type]
        self.num_classes = int(getattr(self.generator, "num_classes", 0))

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Patches ``(batch, 1, *spatial)`` in [-1, 1].

        Args:
            image: latent numbers ``(batch, latent_size)``; without `label` followed by a number for each class, the
                largest of which tells the class: ``(batch, latent_size + num_classes)``.
            label: class ``(batch,)``.
        """
        if label is None and self.num_classes > 0:
            label = image[:, self.latent_size :].argmax(1)
        return self.generator(image[:, : self.latent_size], label)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Weights of the generator."""
        return self.generator.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights of a generator."""
        return self.generator.load_state_dict(state_dict, strict, assign)
