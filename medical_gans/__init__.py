"""Adversarial workflows for medical images: MR to CT, lung nodules, brain lesions."""

__version__ = "0.1.0"
