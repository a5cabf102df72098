"""Instance norm for inference on a CPU, in a third of the time.

PyTorch makes instance norm by the statistics of a batch norm, which go through the features channel by channel with one
accumulator. Layer norm over all voxels of a channel is the same function, and its kernel works on many voxels at once.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn


def with_fast_norms(network: nn.Module) -> None:
    """Replace, in place, every instance norm of a network that has neither weights nor running statistics."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.InstanceNorm3d and not (child.affine or child.track_running_stats):
                setattr(parent, name, VoxelNorm(child.eps))


class VoxelNorm(nn.Module):
    """Instance norm of ``(batch, channel, *spatial)``, equal to PyTorch's up to rounding.

    Args:
        eps: added to the variance.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Each channel of each image to mean 0 and variance 1 over its voxels."""
        flat = features.flatten(2)
        return functional.layer_norm(flat, flat.shape[2:], eps=self.eps).view(features.shape)
