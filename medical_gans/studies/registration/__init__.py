"""Registration of CT to MR (extra `register`), so that pairs which were not registered can teach."""

from medical_gans.studies.registration.cohort import RegistrationEvaluator, guided_by
from medical_gans.studies.registration.elastix import Schedule
from medical_gans.studies.registration.pair import PairRegistration
from medical_gans.studies.registration.trust import Limits

__all__ = ["Limits", "PairRegistration", "RegistrationEvaluator", "Schedule", "guided_by"]
