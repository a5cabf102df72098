"""Networks that MONAI lacks, and MONAI's own with the options that adversarial training needs."""

from medical_gans.networks.anomaly_detector import AnomalyDetector, PatchCritic, PatchEncoder
from medical_gans.networks.bone_generator import BoneGenerator
from medical_gans.networks.dcgan import DcganDiscriminator, DcganGenerator
from medical_gans.networks.domain_discriminator import (
    DomainDiscriminator,
    FeatureTaps,
    domain_discriminator,
    feature_channels,
)
from medical_gans.networks.ensemble import Ensemble
from medical_gans.networks.layout import fast_layout
from medical_gans.networks.multi_scale_segmenter import MultiScaleSegmenter
from medical_gans.networks.nodule import nodule_discriminator, nodule_generator
from medical_gans.networks.nodule_classifier import NoduleClassifier
from medical_gans.networks.nodule_discriminator import NoduleDiscriminator
from medical_gans.networks.nodule_generator import NoduleGenerator
from medical_gans.networks.patch_discriminator import patch_discriminator
from medical_gans.networks.resnet_generator import ResidualGenerator, ResnetGenerator

__all__ = [
    "AnomalyDetector",
    "BoneGenerator",
    "DcganDiscriminator",
    "DcganGenerator",
    "DomainDiscriminator",
    "Ensemble",
    "FeatureTaps",
    "MultiScaleSegmenter",
    "NoduleClassifier",
    "NoduleDiscriminator",
    "NoduleGenerator",
    "PatchCritic",
    "PatchEncoder",
    "ResidualGenerator",
    "ResnetGenerator",
    "domain_discriminator",
    "fast_layout",
    "feature_channels",
    "nodule_discriminator",
    "nodule_generator",
    "patch_discriminator",
]
