"""Visual Turing Test: a blinded reader study on one offline page, and the analysis of its answers."""

from medical_gans.studies.turing_test.analysis import TuringAnalysis
from medical_gans.studies.turing_test.study import TuringStudy

__all__ = ["TuringAnalysis", "TuringStudy"]
