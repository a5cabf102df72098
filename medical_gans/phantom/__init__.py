"""Heads and limbs with known tissues, and the CT and MR that physics makes of them."""

from .acquisition import simulate_ct, simulate_mr
from .dataset import write_dataset
from .grid import Grid
from .head import head
from .lesion_dataset import write_lesion_dataset
from .lesions import Lesion
from .limb import limb
from .phantom import Phantom
from .tissues import TISSUES, Tissue

__all__ = [
    "TISSUES",
    "Grid",
    "Lesion",
    "Phantom",
    "Tissue",
    "head",
    "limb",
    "simulate_ct",
    "simulate_mr",
    "write_dataset",
    "write_lesion_dataset",
]
