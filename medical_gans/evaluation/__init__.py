"""Judging what generators make: synthetic CTs on patients whose true CT is known, nodules on patients never used."""

from medical_gans.evaluation.nodule_classification import Budget
from medical_gans.evaluation.nodule_feature_training import FeatureNetworkTest, MeasuredNodules
from medical_gans.evaluation.nodules import NoduleEvaluation
from medical_gans.evaluation.sources import MadeNow, StoredSyntheticCt, synthetic_ct_source
from medical_gans.evaluation.translation import TranslationEvaluation

__all__ = [
    "Budget",
    "FeatureNetworkTest",
    "MadeNow",
    "MeasuredNodules",
    "NoduleEvaluation",
    "StoredSyntheticCt",
    "TranslationEvaluation",
    "synthetic_ct_source",
]
