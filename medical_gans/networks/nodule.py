"""Generators and discriminators of lung nodules by preset."""

from __future__ import annotations

import inspect

from torch import nn

from medical_gans.errors import SettingError
from medical_gans.networks.dcgan import DcganDiscriminator, DcganGenerator
from medical_gans.networks.nodule_discriminator import NoduleDiscriminator
from medical_gans.networks.nodule_generator import NoduleGenerator

PRESETS = ("resnet", "dcgan")


def nodule_generator(
    preset: str = "resnet",
    spatial_dims: int = 2,
    size: int = 56,
    latent_size: int = 128,
    num_classes: int = 3,
    width: int = 16,
    upsampling: str = "nearest",
    noise: bool = False,
) -> nn.Module:
    """Generator of a preset: ``"resnet"`` (`NoduleGenerator`) or ``"dcgan"`` (`DcganGenerator`, the paper's plan).

    Raises:
        SettingError: unknown preset or upsampling, a size that is not a multiple of 8, or classes for the preset
            that has none.
    """
    _check_preset(preset, num_classes)
    if preset == "dcgan":
        return DcganGenerator(spatial_dims, size, latent_size, width)
    return NoduleGenerator(spatial_dims, size, latent_size, num_classes, width, upsampling, noise)


def nodule_discriminator(
    preset: str = "resnet",
    spatial_dims: int = 2,
    size: int = 56,
    num_classes: int = 3,
    width: int = 16,
    spectral_norm: bool = True,
) -> nn.Module:
    """Discriminator of a preset; `spectral_norm` is for the residual one, the paper's keeps batch norm.

    Raises:
        SettingError: as `nodule_generator`.
    """
    _check_preset(preset, num_classes)
    if preset == "dcgan":
        return DcganDiscriminator(spatial_dims, size, width)
    return NoduleDiscriminator(spatial_dims, size, num_classes, width, spectral_norm)


def _check_preset(preset: str, num_classes: int) -> None:
    if preset not in PRESETS:
        raise SettingError(f"preset is '{preset}'; choose {' or '.join(PRESETS)}.")
    if preset == "dcgan" and num_classes:
        raise SettingError(
            f"The dcgan preset has no classes, num_classes is {num_classes}. Set num_classes to 0, "
            "and malignancy to the class to be learned; or choose preset resnet."
        )


def check_classes(network: nn.Module, name: str, num_classes: int) -> None:
    """Refuse a network that is not told as many classes as there are; one from elsewhere may not say how many it takes.

    Raises:
        SettingError: it takes another number.
    """
    known = getattr(network, "num_classes", None)
    if known is None:
        takes = len(inspect.signature(network.forward).parameters)
        known = num_classes if takes > 1 else 0
    if known != num_classes:
        has = f"has {known} classes" if known else "has no classes"
        raise SettingError(
            f"The {name}, {type(network).__name__}, {has}, num_classes is {num_classes}. Set num_classes to {known}"
            f"{', and malignancy to the class to be learned' if not known else ''}; or choose another network."
        )
