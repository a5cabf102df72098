"""Stands in for torchvision, whose wheels on PyPI load beside a CUDA build of torch only."""

__version__ = "0.0.0+stand.in"
