"""Layers for inference on a CPU: equal to those that were trained, up to rounding, and faster.

A CPU spends its time on passing features through the memory. Weights are laid out as oneDNN wants them, ReLU and
shortcut are part of the convolution before them, and a convolution to a single channel is made by its rows. In bfloat16
weights and features take half the memory, and recent CPUs have instructions for them; sums are float32 in both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from medical_gans.networks.bone_generator import BoneGenerator, PreActivationBlock
from medical_gans.networks.layout import ResizeConvolution, packs_convolutions
from medical_gans.networks.resnet_generator import ResidualBlock, ResidualGenerator, ResnetGenerator

_WITHOUT_NORM = (BoneGenerator, ResnetGenerator, ResidualGenerator)
_MOST_SHAPES = 8  # of whole batches and last ones in three planes
_UNKNOWN = (nn.modules.batchnorm._NormBase, nn.ConvTranspose2d)


def with_fast_layers(network: nn.Module, precision: torch.dtype = torch.float32) -> bool:
    """Replace, in place, every layer of a 2D network that has a faster form.

    Args:
        network: in evaluation mode; of the generators of this package without norm all layers have one, of others the
            convolutions to one channel.
        precision: float32, or bfloat16, which is left aside where some layers have no faster form. The last
            convolution is float32 in any case: its rounding would be that of HU.

    Returns:
        Whether the network computes in that precision now.
    """
    known = packs_convolutions() and isinstance(network, _WITHOUT_NORM)
    known = known and not any(isinstance(module, _UNKNOWN) for module in network.modules())
    if not known:
        _with_narrow_convolutions(network)
        return precision == torch.float32
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    if isinstance(network, BoneGenerator):
        last = network.head
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is last and NarrowConvolution.replaces(child):
                setattr(parent, name, NarrowConvolution(child))
            elif isinstance(child, PreActivationBlock):
                setattr(parent, name, _PackedPreActivation(child, precision))
            elif isinstance(child, ResidualBlock):
                setattr(parent, name, _PackedResidual(child, precision))
    for parent in list(network.modules()):
        if isinstance(parent, _PackedPreActivation | _PackedResidual):
            continue
        for name, child in list(parent.named_children()):
            if isinstance(child, ResizeConvolution):
                setattr(parent, name, _PackedResize(child, precision, _rectify(parent, int(name))))
            elif isinstance(child, nn.Conv2d):
                rectified = isinstance(parent, nn.Sequential) and _rectify(parent, int(name))
                own = torch.float32 if child is last else precision
                setattr(parent, name, PackedConvolution(child, own, rectified))
    return True


class PackedConvolution(nn.Module):
    """A 2D convolution whose weights lie as oneDNN reads them, with the ReLU or the sum that follows it.

    Args:
        convolution: without groups.
        precision: of weights and features.
        rectified: apply ReLU to the result.
    """

    def __init__(self, convolution: nn.Conv2d, precision: torch.dtype, rectified: bool = False) -> None:
        super().__init__()
        assert convolution.groups == 1 and not isinstance(convolution.padding, str)
        rows, columns = convolution.padding
        zeros = convolution.padding_mode == "zeros"
        self.mode = "" if zeros else convolution.padding_mode
        self.around = [columns, columns, rows, rows]
        self.padding = [rows, columns] if zeros else [0, 0]
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.precision = precision
        self.after = "relu" if rectified else "none"
        self.bias = None if convolution.bias is None else convolution.bias.detach().to(precision)
        self.weight = convolution.weight.detach().to(precision).contiguous()
        self.packed: dict[torch.Size, Tensor] = {}

    def forward(self, features: Tensor) -> Tensor:
        """Convolve ``(batch, channel, *spatial)``."""
        taken = self._taken(features)
        arguments = (self._packed(taken), self.bias, self.padding, self.stride, self.dilation, 1)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(taken, *arguments, self.after, [], "")
        return made

    def added_to(self, total: Tensor, features: Tensor) -> Tensor:
        """Add the convolved features to a total, in place."""
        taken = self._taken(features)
        arguments = (self._packed(taken), self.bias, self.padding, self.stride, self.dilation, 1)
        torch.ops.mkldnn._convolution_pointwise_.binary(total, taken, *arguments, "add", None, None, [], None)
        return total

    def _packed(self, features: Tensor) -> Tensor:
        """Weights as they are read for features of that shape.

        oneDNN chooses their layout by the shape. Laid out for another one they are laid out anew in every call, which
        can take ten times as long as the convolution; laying them out takes as long as some of its rows.
        """
        packed = self.packed.get(features.shape)  # passes may run beside each other
        if packed is None:
            if len(self.packed) >= _MOST_SHAPES:
                self.packed.clear()
            layout = (self.padding, self.stride, self.dilation, 1, list(features.shape))
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # whose stub lacks the shape
            packed = self.packed[features.shape] = reorder(self.weight.to_mkldnn(), *layout)
        return packed

    def _taken(self, features: Tensor) -> Tensor:
        features = features.to(self.precision)
        return functional.pad(features, self.around, self.mode) if self.mode else features


class _PackedPreActivation(nn.Module):
    """See `bone_generator.PreActivationBlock`; its input is overwritten, which nothing else reads."""

    def __init__(self, block: PreActivationBlock, precision: torch.dtype) -> None:
        super().__init__()
        self.first = PackedConvolution(block.first, precision, rectified=True)  # type: ignore[arg-type]
        self.second = PackedConvolution(block.second, precision)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        return self.second.added_to(features, self.first(functional.relu(features)))


class _PackedResidual(nn.Module):
    """See `resnet_generator.ResidualBlock`; its input is overwritten, which nothing else reads."""

    def __init__(self, block: ResidualBlock, precision: torch.dtype) -> None:
        super().__init__()
        first, _, second = block.branch
        self.first = PackedConvolution(first, precision, rectified=True)  # type: ignore[arg-type]
        self.second = PackedConvolution(second, precision)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        return self.second.added_to(features, self.first(features))


class _PackedResize(nn.Module):
    """See `layout.ResizeConvolution`."""

    def __init__(self, convolution: ResizeConvolution, precision: torch.dtype, rectified: bool) -> None:
        super().__init__()
        self.precision, self.rectified = precision, rectified
        with torch.no_grad():
            kernel = convolution.transposed_kernel().detach().to(precision)
            self.kernel = kernel.contiguous(memory_format=torch.channels_last)
        self.bias = None if convolution.bias is None else convolution.bias.detach().to(precision)

    def forward(self, features: Tensor) -> Tensor:
        taken = features.to(self.precision)
        made = functional.conv_transpose2d(taken, self.kernel, self.bias, stride=2, padding=1)
        return made.relu_() if self.rectified else made


def _rectify(layers: nn.Module, place: int) -> bool:
    """Take the ReLU after a layer out of a sequence; whether there was one."""
    assert isinstance(layers, nn.Sequential)
    following = layers[place + 1] if place + 1 < len(layers) else None
    if not isinstance(following, nn.ReLU):
        return False
    layers[place + 1] = nn.Identity()
    return True


class NarrowConvolution(nn.Module):
    """A 2D convolution to a single channel, equal to the given one up to rounding, and faster on a CPU.

    CPU kernels work on many output channels at a time, so that one alone leaves them idle. Here each row of the
    kernel makes a channel of its own, and the channels are added, each moved by its row.

    Args:
        convolution: from any number of channels to one, without stride, dilation or groups.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert isinstance(convolution.padding, tuple)
        rows, columns = convolution.padding
        self.padding = [columns, columns, rows, rows]
        self.mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
        self.bias = convolution.bias
        self.rows = nn.Parameter(convolution.weight.detach()[0].transpose(0, 1)[:, :, None], requires_grad=False)

    @staticmethod
    def replaces(convolution: nn.Conv2d) -> bool:
        """Whether a convolution is of that kind."""
        return (
            (convolution.out_channels, convolution.groups) == (1, 1)
            and convolution.kernel_size[0] > 1
            and (convolution.stride, convolution.dilation) == ((1, 1), (1, 1))
            and not isinstance(convolution.padding, str)
        )

    def forward(self, features: Tensor) -> Tensor:
        padded = functional.pad(features.to(self.rows.dtype), self.padding, self.mode)
        by_row = functional.conv2d(padded, self.rows)
        height = by_row.shape[2] - len(self.rows) + 1
        image: Tensor = sum(  # type: ignore[assignment]
            by_row[:, row : row + 1, row : row + height] for row in range(len(self.rows))
        )
        return image if self.bias is None else image + self.bias


def _with_narrow_convolutions(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and NarrowConvolution.replaces(child):
                setattr(parent, name, NarrowConvolution(child))
