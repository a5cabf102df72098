"""Generated lung nodules: as files, as walks through the latent space, and placed into a CT."""

from medical_gans.generation.inference import NoduleInference
from medical_gans.generation.interpolation import NoduleWalk
from medical_gans.generation.placing import NodulePlacement
from medical_gans.generation.samples import Sample, requested_samples

__all__ = ["NoduleInference", "NodulePlacement", "NoduleWalk", "Sample", "requested_samples"]
