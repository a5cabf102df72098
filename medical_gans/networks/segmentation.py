"""Segmentation networks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from medical_gans.errors import SettingError
from medical_gans.networks.multi_scale_segmenter import MultiScaleSegmenter

_USUAL = ("UNet", "BasicUNet", "SegResNet", "DynUNet", "AttentionUnet", "SwinUNETR", "MultiScaleSegmenter")


def segmentation_network(
    name: str = "UNet",
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A segmentation network: ``(batch, in_channels, *spatial)`` to logits ``(batch, out_channels, *spatial)``.

    Args:
        name: a class of ``monai.networks.nets``, or ``MultiScaleSegmenter`` (Kamnitsas et al. 2017).
        in_channels: sequences.
        out_channels: classes, background included.
        spatial_dims: 2 or 3.
        options: further arguments of the class.

    Raises:
        SettingError: no such network, or options that it does not take.
    """
    from monai.networks import nets

    made = MultiScaleSegmenter if name == "MultiScaleSegmenter" else getattr(nets, name, None)
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise SettingError(f"network is '{name}'; choose {', '.join(_USUAL)}, or another class of monai.networks.nets.")
    try:
        return made(
            spatial_dims=spatial_dims, in_channels=in_channels, out_channels=out_channels, **dict(options or {})
        )
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name} does not take these network_options: {error}.") from error
