"""Generator with a branch for bone, and one for the brain: how likely a voxel is which tissue, and its HU there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from medical_gans.errors import SettingError

HOUNSFIELD_CURVE = ((-1024.0, -1.0), (-200.0, -0.5), (200.0, 0.3), (2400.0, 1.0))
"""(HU, unit) corners between which the mixture is made; those of `transforms.HOUNSFIELD_KNOTS`."""


class BoneGenerator(nn.Module):
    """U-Net of residual blocks whose head mixes two tissues: ``HU = (1 - p) soft + p bone``.

    An L1 loss alone returns the median, so that thin cortex, of which the network is not sure, vanishes. Here a
    probability is learnt as one (cross-entropy), each branch learns its HU where it holds, and the mixture is made in
    HU, inside the network. Lower resolutions give context of some hundred voxels. No norm, as in `ResnetGenerator`.

    The few HU between liquid, grey and white matter vanish by the same median. With `brain_hounsfield` the tissues of
    the brain are classes as well, learnt by cross-entropy: ``soft = (1 - sum q) other + sum q HU``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: adjacent slices.
        out_channels: adjacent slices; each has its own probability.
        widths: channels at each resolution; each is half of the one before.
        blocks: residual blocks on the way down, at each resolution; on the way up one fewer, at least one.
        sharpness: factor on the logit where the two are mixed, not where it is learnt: a small probability of bone is
            many HU, which large values keep out of soft tissue.
        threshold: logit that counts as even odds there; chosen on validation, as losses that favour bone overrate it.
        cortex_threshold: `threshold` where the branch of bone says 600 HU or more, on a straight line from 300 HU on;
            None takes the same everywhere. Losses overrate the rim of cortex and underrate spongy bone.
        bone_gain: factor on HU of bone above 300, not in training. L1 gives the median of what bone may have there;
            HU of bone are skewed, so that their mean, which a dose depends on, lies higher.
        curve: (HU, unit) corners of the encoding of HU.
        brain_hounsfield: HU of each tissue of the brain that is a class, such as liquid, grey and white matter; none by
            default.
        brain_sharpness: factor on their logits, not in training: 1 gives the mean of HU, more the likeliest tissue.

    Shape:
        ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)`` in [-1, 1]; any size.

    Raises:
        SettingError: an argument is out of range.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 64, 96),
        blocks: Sequence[int] = (1, 1, 2, 3),
        sharpness: float = 1.0,
        threshold: float = 0.0,
        cortex_threshold: float | None = None,
        bone_gain: float = 1.0,
        curve: Sequence[Sequence[float]] = HOUNSFIELD_CURVE,
        brain_hounsfield: Sequence[float] = (),
        brain_sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise SettingError(f"spatial_dims is {spatial_dims}; the generator works in 2 or 3 dimensions.")
        if len(widths) < 2 or len(widths) != len(blocks) or min(widths) < 1 or min(blocks) < 1:
            raise SettingError(
                f"widths is {list(widths)} and blocks {list(blocks)}; give as many of both, two at least, none below 1."
            )
        self.stride = 2 ** (len(widths) - 1)
        self.hounsfield_corners = [float(hu) for hu, _ in curve]
        self.unit_corners = [float(unit) for _, unit in curve]
        self.out_channels = out_channels
        self.sharpness, self.threshold = float(sharpness), float(threshold)
        self.spongy_hu, self.cortex_hu, self.bone_gain = 300.0, 600.0, float(bone_gain)
        self.cortex_threshold = float(threshold if cortex_threshold is None else cortex_threshold)
        conv = Conv[Conv.CONV, spatial_dims]
        self.stem = conv(in_channels, widths[0], 5, padding=2)
        self.down = nn.ModuleList()
        self.enter = nn.ModuleList()
        self.leave = nn.ModuleList()
        self.up = nn.ModuleList()
        reach = 2
        for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if level:
                self.enter.append(conv(widths[level - 1], width, 2, stride=2))
                reach += 2 ** (level - 1)
            self.down.append(_blocks(conv, width, count))
            reach += 2 * count * 2**level
        for level in range(len(widths) - 2, -1, -1):
            self.leave.append(conv(widths[level + 1], widths[level], 1))
            self.up.append(_blocks(conv, widths[level], max(1, blocks[level] - 1)))
            reach += 2 * max(1, blocks[level] - 1) * 2**level
        self.head = conv(widths[0], 3 * out_channels, 3, padding=1)
        self.brain_hounsfield = [float(hu) for hu in brain_hounsfield]
        self.brain_sharpness = float(brain_sharpness)
        self.brain = _brain_branch(conv, widths[0], len(self.brain_hounsfield), out_channels)
        self.receptive_radius = reach + 1 + self.stride + (2 if self.brain_hounsfield else 0)
        _initialise(self, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Translate ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)`` in [-1, 1]."""
        return self.mixed(self.parts(image))

    def parts(self, image: Tensor) -> Tensor:
        """What `forward` mixes, as a mean of several estimates needs it: ``(batch, out_channels, 3, *spatial)``.

        Logit of bone, and soft tissue and bone in unit space.
        """
        logit, soft, bone, tissues = self._heads(image)
        if len(self.brain_hounsfield) > 0:
            soft = self._with_brain(soft, self.brain_sharpness * tissues)
        return torch.stack([logit, soft, bone], 2)

    def mixed(self, parts: Tensor) -> Tensor:
        """The image, ``(batch, channel, *spatial)`` in [-1, 1], of `parts`."""
        logit, soft, bone = parts.unbind(2)
        bone_hounsfield = _along_curve(self.unit_corners, self.hounsfield_corners, bone)
        dense = (bone_hounsfield - self.spongy_hu) / (self.cortex_hu - self.spongy_hu)
        threshold = self.threshold + (self.cortex_threshold - self.threshold) * dense.clamp(0.0, 1.0)
        if self.bone_gain != 1.0:
            bone_hounsfield = bone_hounsfield + (self.bone_gain - 1.0) * (bone_hounsfield - self.spongy_hu).clamp_min(
                0.0
            )
            bone = _along_curve(self.hounsfield_corners, self.unit_corners, bone_hounsfield)
        return self.mixture((self.sharpness * (logit - threshold)).sigmoid(), soft, bone)

    def branches(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logit of bone, soft tissue and bone in unit space, and logits of the brain.

        The first three are ``(batch, out_channels, *spatial)``. The last, ``(batch, out_channels * (1 + tissues),
        *spatial)``, holds all that is no brain, then each tissue; without `brain_hounsfield` it has no channel.
        """
        logit, soft, bone, tissues = self._heads(image)
        if len(self.brain_hounsfield) > 0:
            soft = self._with_brain(soft, tissues)
        return logit, soft, bone, tissues

    def _heads(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `branches`, with soft tissue before the brain is mixed in."""
        sizes = list(image.shape)
        beyond: list[int] = []
        for axis in range(len(sizes) - 1, 1, -1):
            beyond += [0, (self.stride - sizes[axis] % self.stride) % self.stride]
        if sum(beyond) > 0:
            image = functional.pad(image, beyond, mode="replicate")
        features = self.stem(image)
        skips: list[Tensor] = []
        for blocks, enter in zip(self.down, self.enter):  # noqa: B905  # TorchScript knows no strict
            features = blocks(features)
            skips.append(features)
            features = enter(functional.relu(features))
        features = self.down[-1](features)
        level = len(skips)
        for leave, blocks in zip(self.leave, self.up):  # noqa: B905
            level -= 1
            features = functional.interpolate(leave(features), scale_factor=2.0, mode="nearest") + skips[level]
            features = blocks(features)
        made = self.head(functional.relu(features))
        tissues = self.brain(features) if len(self.brain_hounsfield) > 0 else made[:, :0]
        for axis in range(2, len(sizes)):
            made = made.narrow(axis, 0, sizes[axis])
            tissues = tissues.narrow(axis, 0, sizes[axis])
        logit, soft, bone = made.float().chunk(3, 1)
        return logit, soft.tanh(), bone.tanh(), tissues.float()

    def _with_brain(self, soft: Tensor, tissues: Tensor) -> Tensor:
        """``(1 - sum q) soft + sum q HU``, mixed in HU, in unit space."""
        shares = tissues.unflatten(1, [-1, self.out_channels]).softmax(1)
        hounsfield = _along_curve(self.unit_corners, self.hounsfield_corners, soft) * shares[:, 0]
        for number, value in enumerate(self.brain_hounsfield):
            hounsfield = hounsfield + value * shares[:, 1 + number]
        return _along_curve(self.hounsfield_corners, self.unit_corners, hounsfield)

    def mixture(self, probability: Tensor, soft: Tensor, bone: Tensor) -> Tensor:
        """``(1 - p) soft + p bone``, mixed in HU, in unit space."""
        hounsfield = _along_curve(self.unit_corners, self.hounsfield_corners, soft)
        change = _along_curve(self.unit_corners, self.hounsfield_corners, bone) - hounsfield
        return _along_curve(self.hounsfield_corners, self.unit_corners, hounsfield + probability * change)


class PreActivationBlock(nn.Module):
    """Two 3-wide convolutions and a shortcut, activations first (He et al. 2016b)."""

    def __init__(self, conv: type[nn.Module], width: int) -> None:
        super().__init__()
        self.first = conv(width, width, 3, padding=1)  # type: ignore[call-arg]
        self.second = conv(width, width, 3, padding=1)  # type: ignore[call-arg]

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(functional.relu(self.first(functional.relu(features))))


def _blocks(conv: type[nn.Module], width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[PreActivationBlock(conv, width) for _ in range(count)])


def _brain_branch(conv: type[nn.Module], width: int, tissues: int, slices: int) -> nn.Sequential:
    """Features to the logits of all that is no brain and of each tissue; empty where there is none."""
    if tissues == 0:
        return nn.Sequential()
    first = conv(width, width, 3, padding=1)  # type: ignore[call-arg]
    last = conv(width, (1 + tissues) * slices, 3, padding=1)  # type: ignore[call-arg]
    return nn.Sequential(nn.ReLU(), first, nn.ReLU(), last)


def _along_curve(places: list[float], heights: list[float], values: Tensor) -> Tensor:
    """Piecewise linear map that takes each of `places` to its height; flat beyond the ends."""
    mapped = values * 0.0 + heights[0]
    for corner in range(1, len(places)):
        left, right = places[corner - 1], places[corner]
        slope = (heights[corner] - heights[corner - 1]) / (right - left)
        mapped = mapped + slope * (values.clamp(left, right) - left)
    return mapped


def _initialise(generator: nn.Module, out_channels: int) -> None:
    """He's; residual branches start small, the head with bone unlikely and HU near those of soft tissue and bone."""
    for name, module in generator.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith("second"):
                with torch.no_grad():
                    module.weight.mul_(0.3)
    head = generator.get_submodule("head")
    with torch.no_grad():
        head.weight.mul_(0.1)  # type: ignore[operator, union-attr]
        head.bias[:out_channels] = -2.0  # type: ignore[index, operator]
        head.bias[2 * out_channels :] = 0.55  # type: ignore[index, operator]
        for layer in list(generator.get_submodule("brain").children())[-1:]:
            layer.weight.mul_(0.1)  # type: ignore[operator, union-attr]
