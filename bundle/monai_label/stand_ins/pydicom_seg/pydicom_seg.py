"""Stands in for pydicom-seg: MONAI Label imports it when it starts, and uses it only to convert DICOM SEG."""

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"pydicom_seg.{name} is not there: pydicom-seg 0.4.1 cannot be imported with pydicom 3, so MONAI Label does "
        "without DICOM SEG. medical-gans brain_lesion inference writes DICOM SEG itself."
    )
