"""Figures by which results are judged, on numpy arrays in physical units."""

from medical_gans.metrics.synthetic_ct import synthetic_ct_metrics

__all__ = ["synthetic_ct_metrics"]
