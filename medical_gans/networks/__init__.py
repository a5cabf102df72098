"""Networks that MONAI lacks, and MONAI's own with the options that adversarial training needs."""

from medical_gans.networks.patch_discriminator import patch_discriminator
from medical_gans.networks.resnet_generator import ResnetGenerator

__all__ = ["ResnetGenerator", "patch_discriminator"]
