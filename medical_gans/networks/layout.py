"""Memory layout of networks, layers that are fast in it, and what this CPU has instructions for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def fast_layout(networks: nn.ModuleDict) -> nn.ModuleDict:
    """Channels last: on a CPU the gradient of a one-channel 7 x 7 convolution is twenty times faster so.

    Instance norms in two dimensions become `LastChannelInstanceNorm`; no name or value of the state changes.
    """
    if any(p.ndim > 4 for p in networks.parameters()):
        return networks
    for parent in list(networks.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.InstanceNorm2d and not child.affine and not child.track_running_stats:
                setattr(parent, name, LastChannelInstanceNorm(child.num_features, child.eps).train(child.training))
    return networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def packs_convolutions() -> bool:
    """Whether torch has the fused convolutions, which are not part of its public face."""
    has_all = torch.backends.mkldnn.is_available() and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    return has_all and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def computes_in_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; without them these are far slower than float32."""
    cpu = torch.cpu
    return bool(packs_convolutions() and (cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()))


class LastChannelInstanceNorm(nn.InstanceNorm2d):
    """Instance norm that leaves a single image in channels-last layout.

    PyTorch's copies it to the other layout and back, which takes as long as the norm itself. Over a batch of one image
    instance norm is batch norm, whose kernel has no need to.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(batch, channel, *spatial)``."""
        if features.dim() == 4 and features.shape[0] == 1:
            return functional.batch_norm(features, None, None, None, None, True, 0.0, self.eps)
        return functional.instance_norm(features, None, None, None, None, True, 0.0, self.eps)


class RowConvolution(nn.Conv2d):
    """A 2D convolution to one channel, whose rows make a channel each on a CPU.

    CPU kernels work on many output channels at a time, so that one alone leaves them idle, forwards and backwards. Here
    each row of the kernel makes a channel of its own, and the channels are added, each moved by its row.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Convolve ``(batch, channel, *spatial)`` to ``(batch, 1, *spatial)``."""
        rows, columns = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        around = functional.pad(features, [columns, columns, rows, rows], mode)
        if features.is_cuda:
            return functional.conv2d(around, self.weight, self.bias)
        if not torch.jit.is_scripting():  # noqa: SIM102  # TorchScript leaves out what stands inside
            if torch.jit.is_tracing():  # as for ONNX, whose convolutions want kernels that are stored
                return functional.conv2d(around, self.weight, self.bias)
        by_row = functional.conv2d(around, self.weight[0].transpose(0, 1).unsqueeze(2))
        height = features.shape[2]
        image = by_row[:, :1, :height]
        for row in range(1, self.kernel_size[0]):
            image = image + by_row[:, row : row + 1, row : row + height]
        bias = self.bias  # TorchScript follows a local name
        return image if bias is None else image + bias


class ResizeConvolution(nn.Conv2d):
    """Nearest-neighbour upsampling by two and a 3 x 3 convolution, as one transposed convolution.

    Four pixels of an upsampled image are one, so of nine products per pixel four are different: the 3 x 3 kernel summed
    over the 2 x 2 block is a 4 x 4 kernel of stride 2. The result is the same up to rounding, borders included, without
    a checkerboard, and the large image is never made. Weights are those of the 3 x 3 convolution.
    """

    def transposed_kernel(self) -> Tensor:
        """``(in_channels, out_channels, 4, 4)`` of stride 2 and padding 1."""
        wide = functional.pad(self.weight, [1, 1, 1, 1])
        wide = wide[:, :, :, 1:] + wide[:, :, :, :-1]
        wide = wide[:, :, 1:] + wide[:, :, :-1]
        return wide.flip([2, 3]).transpose(0, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, in_channels, height, width)`` to ``(batch, out_channels, 2 height, 2 width)``."""
        if not torch.jit.is_scripting():  # noqa: SIM102  # as above
            if torch.jit.is_tracing():
                large = functional.interpolate(features, scale_factor=2.0)
                return functional.conv2d(large, self.weight, self.bias, padding=1)
        return functional.conv_transpose2d(features, self.transposed_kernel(), self.bias, stride=2, padding=1)
