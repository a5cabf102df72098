"""Promises of the count of lesions outside of the brain: in mm, on whatever grid the brain lies."""

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "lesion_outside.py"
SPEC = importlib.util.spec_from_file_location("lesion_outside", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


@pytest.fixture
def brain():
    """Below 40 mm along the first axis, voxels of 1 mm, stored from high to low."""
    mask = np.zeros((60, 20, 20), np.uint8)
    mask[20:] = 1  # x = 59 - i
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = 59.0
    return nib.Nifti1Image(mask, affine)


def lesions(*boxes):
    array = np.zeros((30, 10, 10), np.uint8)
    for low, high in boxes:
        array[low:high, 4:6, 4:6] = 1
    return nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]))


def test_voxels_beyond_the_distance_are_counted_and_lesions_that_lie_there_whole(brain):
    inside, across, away = (2, 6), (18, 24), (26, 28)  # brain ends between 38 and 40 mm; 4 mm on lies 42
    voxels, whole = benchmark.outside(lesions(inside, across, away), brain, 4.0)
    assert voxels == 4 * (2 + 2)  # those at 44 and 46 mm of the second, and all of the third
    assert whole == 1


def test_lesions_within_the_distance_are_none(brain):
    assert benchmark.outside(lesions((2, 6), (18, 22)), brain, 4.0) == (0, 0)
    assert benchmark.outside(lesions(), brain, 4.0) == (0, 0)
