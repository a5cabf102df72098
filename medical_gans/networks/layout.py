"""Memory layout of networks."""

from __future__ import annotations

import torch
from torch import nn


def fast_layout(networks: nn.ModuleDict) -> nn.ModuleDict:
    """Channels last: on a CPU the gradient of a one-channel 7 x 7 convolution is twenty times faster so."""
    flat = all(p.ndim <= 4 for p in networks.parameters())
    return networks.to(memory_format=torch.channels_last) if flat else networks  # type: ignore[call-overload]
