"""What an error of a synthetic CT means in dose: density, water-equivalent depth, plans, DVH and gamma."""

from medical_gans.studies.radiotherapy.evaluation import DoseEvaluation
from medical_gans.studies.radiotherapy.sources import DoseSources

__all__ = ["DoseEvaluation", "DoseSources"]
