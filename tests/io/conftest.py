"""DICOM series made for tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_images import dicom_slice

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Change = Callable[[int, pydicom.Dataset], None]


@pytest.fixture
def write_series(tmp_path: Path):
    """Write a series with shuffled file names and instance numbers; return its folder and its pixels.

    `change(k, image)` may alter the k-th slice along the normal; setting `image.left_out` drops it.
    """

    def write(
        modality: str = "MR",
        orientation=AXIAL,
        slices: int = 5,
        spacing: float = 2.5,
        origin=(-20.0, -30.0, 40.0),
        folder: str = "series",
        uid: str = "1.2.3.100",
        change: Change | None = None,
    ) -> tuple[Path, np.ndarray]:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(7)
        pixels = random.integers(0, 2000, (slices, 6, 4)).astype(np.int16)  # slice, row, column
        axes = np.array(orientation).reshape(2, 3)
        normal = np.cross(*axes) / np.linalg.norm(np.cross(*axes))
        for k, number in enumerate(random.permutation(slices)):
            position = np.array(origin) + k * spacing * normal
            image = dicom_slice(modality, pixels[k], position, orientation, uid)
            image.InstanceNumber = int(number) + 1
            if change:
                change(k, image)
            if "left_out" not in vars(image):
                image.save_as(place / f"{uid}-{number:03}.dcm", enforce_file_format=True)
        return place, pixels

    return write
