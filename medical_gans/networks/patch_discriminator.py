"""PatchGAN discriminator (Isola et al. 2017, section 3.2.2), built from MONAI's."""

from __future__ import annotations

from monai.networks.nets import PatchDiscriminator
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalised

from medical_gans.errors import SettingError


def patch_discriminator(
    spatial_dims: int = 2,
    in_channels: int = 1,
    width: int = 64,
    layers: int = 3,
    norm: str = "instance",
    spectral_norm: bool = False,
) -> nn.Module:
    """Discriminator that judges overlapping patches (70 x 70 with three layers).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the judged image; MR and CT together in paired training.
        width: channels of the first layer.
        layers: strided layers.
        norm: ``"instance"``, ``"batch"`` or ``"none"``. Instance norm hides the absolute HU from the judge.
        spectral_norm: bound the Lipschitz constant of every convolution (Miyato et al. 2018).

    Returns:
        A module from ``(batch, in_channels, *spatial)`` to a list of feature maps, the logits
        ``(batch, 1, *patches)`` last.
    """
    if norm not in ("instance", "batch", "none"):
        raise SettingError(f"norm of the discriminator is '{norm}'; choose instance, batch or none.")
    discriminator = PatchDiscriminator(
        spatial_dims=spatial_dims,
        channels=width,
        in_channels=in_channels,
        num_layers_d=layers,
        norm=None if norm == "none" else norm.upper(),  # type: ignore[arg-type]  # MONAI takes None, says str
        bias=norm == "none",
    )
    if norm == "none":
        # MONAI's N(0, 0.02) starves the gradient where no norm restores the scale: such a discriminator stays at chance
        for module in discriminator.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    if spectral_norm:
        for module in list(discriminator.modules()):
            if isinstance(module, nn.modules.conv._ConvNd):
                spectrally_normalised(module)
    return discriminator
