"""Anomaly detection by generators of normal anatomy: AnoGAN and f-AnoGAN (Schlegl et al. 2017, 2019)."""
