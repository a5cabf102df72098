"""Generated lung nodules: as files and as walks through the latent space."""

from medical_gans.inference.nodules.inference import NoduleInference
from medical_gans.inference.nodules.interpolation import NoduleWalk
from medical_gans.inference.nodules.sampling import Sample, requested_samples

__all__ = ["NoduleInference", "NoduleWalk", "Sample", "requested_samples"]
