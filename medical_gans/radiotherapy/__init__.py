"""What an error of a synthetic CT means in dose: density, water-equivalent depth, plans, DVH and gamma."""

from medical_gans.radiotherapy.evaluation import DoseEvaluation
from medical_gans.radiotherapy.sources import DoseSources

__all__ = ["DoseEvaluation", "DoseSources"]
