"""Adversarial workflows for medical images: MR to CT, lung nodules, brain lesions. Names are loaded on first use."""

from typing import TYPE_CHECKING

from medical_gans.faces import face

if TYPE_CHECKING:
    from medical_gans.io import Volume, read_volume, save_volume
    from medical_gans.shortcuts import generate_nodules, segment_lesions, synthetic_ct
    from medical_gans.weights import load_network

__version__ = "0.1.0"

_HOME = {
    "Volume": "io",
    "generate_nodules": "shortcuts",
    "load_network": "weights",
    "read_volume": "io",
    "save_volume": "io",
    "segment_lesions": "shortcuts",
    "synthetic_ct": "shortcuts",
}

__all__ = [
    "Volume",
    "__version__",
    "generate_nodules",
    "load_network",
    "read_volume",
    "save_volume",
    "segment_lesions",
    "synthetic_ct",
]

__getattr__, __dir__ = face(__name__, _HOME)
