"""Judging synthetic CTs on patients whose true CT is known."""

from medical_gans.evaluation.sources import MadeNow, StoredSyntheticCt, synthetic_ct_source
from medical_gans.evaluation.translation import TranslationEvaluation

__all__ = ["MadeNow", "StoredSyntheticCt", "TranslationEvaluation", "synthetic_ct_source"]
