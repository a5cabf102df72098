"""What a case that came as DICOM gets beside its NIfTI: a segmentation (SEG) and a structure set (RTSTRUCT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medical_gans.errors import InputError, SettingError
from medical_gans.io import Volume

DICOM_FOLDER = "dicom"
_AXIAL = 0.999  # cosine between the normal of the slices and the long axis of the body


@dataclass(frozen=True)
class LesionDicom:
    """DICOM output of a run.

    Attributes:
        write: ``"auto"`` writes where the first sequence came as DICOM, True asks for it, False writes none.

    Raises:
        SettingError: it is none of these.
    """

    write: bool | str = "auto"

    def __post_init__(self) -> None:
        if self.write not in ("auto", True, False):
            raise SettingError(f"write_dicom is {self.write!r}; choose auto, true or false.")

    def check(self, source: Volume) -> None:
        """Refuse, before any work, an image that nothing can be tied to.

        Raises:
            InputError: it is no DICOM series where one is asked for, or lacks what objects on it need.
        """
        if self.write is True and not source.headers:
            raise InputError(
                f"write_dicom is true, but {source.source} is no DICOM series to take patient and study from."
            )
        if self.write is True and (reason := _why_untied(source)):
            raise InputError(f"{reason} Export it from its source again, or set write_dicom to false for NIfTI.")

    def save(self, folder: Path, label: np.ndarray, classes: Sequence[str], source: Volume) -> list[str]:
        """Write ``<folder>/dicom`` where it is wanted; return sentences on what one should know about it.

        Args:
            folder: of the case.
            label: ``(i, j, k)`` on the grid of `source`.
            classes: names of the classes, the background first.
            source: image that the objects refer to.

        Raises:
            OutputError: the files cannot be written.
        """
        if not self.write or not source.headers:
            return []
        if reason := _why_untied(source):
            return [f"{reason} Only NIfTI was written."]
        names = {int(v): classes[v] if v < len(classes) else f"class {v}" for v in np.unique(label) if v}
        if not names:
            return ["No DICOM objects were written, since there is nothing to outline."]
        from medical_gans.io.dicom.segmentation import write_segmentation
        from medical_gans.io.dicom.structure_set import structure_from_mask, write_structure_set

        place = folder / DICOM_FOLDER
        place.mkdir()
        notes = []
        try:
            write_segmentation(place / "lesions_seg.dcm", label, names, source.headers)
        except InputError as error:
            notes.append(f"No DICOM SEG was written: {error}")
        outlines = [structure_from_mask(name, label == value, source.affine)[0] for value, name in names.items()]
        write_structure_set(place / "lesions_rtstruct.dcm", outlines, source.headers, label="Lesions")
        normal = source.affine[:3, 2] / np.linalg.norm(source.affine[:3, 2])
        if abs(normal[2]) < _AXIAL:
            notes.append(
                "The contours of the RTSTRUCT lie in the slices of the MR, which are not axial. Programs that expect "
                "axial slices may lose them: use the SEG or the NIfTI file there."
            )
        return notes


def _why_untied(source: Volume) -> str | None:
    from medical_gans.io.dicom.attributes import NEEDED_TO_REFER, why_untied

    return why_untied(source.headers, NEEDED_TO_REFER) if source.headers else None
