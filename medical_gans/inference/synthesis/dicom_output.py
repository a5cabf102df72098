"""What a case gets beside its NIfTI: the synthetic CT as a DICOM series, and its way to an archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medical_gans.errors import InputError, OutputError, SettingError
from medical_gans.inference.synthesis.body import body_outline
from medical_gans.io import Case, Volume, read_volume
from medical_gans.transforms.modality import with_background_at_zero

if TYPE_CHECKING:
    from medical_gans.io.dicom.ct import CtSeries
    from medical_gans.io.dicom.structure_set import Structure

DICOM_FOLDER = "dicom"
_OUTLINE_ERROR = 1.0  # percent of volume


@dataclass(frozen=True)
class DicomOutput:
    """DICOM intake and output of a run.

    Attributes:
        write: ``"auto"`` writes a CT series where the MR came as DICOM, True asks for one, False for none.
        repair: resample tilted stacks on intake instead of refusing them.
        select: words of the header that choose a series, or a stack in one: ``water``, ``echo 2``, ``volume 3``.
        uid_seed: None makes new UIDs in every run; a number, the same for the same content.
        send: ``host:port`` that everything written is stored to; None keeps it here.
        calling_ae: our application entity title.
        called_ae: that of the archive.

    Raises:
        SettingError: a value is out of range, or something is to be sent and nothing written.
        UserError: pynetdicom, which sending needs, is not installed.
    """

    write: bool | str = "auto"
    repair: bool = False
    select: str | None = None
    uid_seed: int | None = None
    send: str | None = None
    calling_ae: str = "MEDICAL_GANS"
    called_ae: str = "ANY-SCP"

    def __post_init__(self) -> None:
        if self.write not in ("auto", True, False):
            raise SettingError(f"write_dicom is {self.write!r}; choose auto, true or false.")
        if self.select is not None:
            object.__setattr__(self, "select", str(self.select))
        if self.send is not None:
            from medical_gans.io.dicom.sending import check_can_send

            if self.write is False:
                raise SettingError("send needs something to send, but write_dicom is false. Set it to auto or true.")
            check_can_send(self.send, self.calling_ae, self.called_ae)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as plain values."""
        return {**self.decisive_settings, "send": self.send}

    @property
    def decisive_settings(self) -> dict[str, Any]:
        """The settings that the files depend on."""
        return {"write_dicom": self.write, "repair": self.repair, "select": self.select, "uid_seed": self.uid_seed}

    def read(self, case: Case) -> Volume:
        """The MR of a case; refused here, before any work, where a series is asked for that cannot be tied to it.

        With ``"auto"`` it then comes without its headers, and says so.

        Raises:
            InputError: it cannot be used, or its headers say that it is no MR.
        """
        mr = read_volume(case.mr_source or "", case.series_uid, self.repair, select=self.select, modality="MR")
        if mr.modality not in (None, "MR"):
            raise InputError(
                f"{mr.source} is a {mr.modality} series by its headers, but an MR is translated. Give the MR series; "
                "where a folder holds several, series_uid chooses one."
            )
        mr = with_background_at_zero(mr)
        if self.write is True and not mr.headers:
            raise InputError(f"write_dicom is true, but {mr.source} is no DICOM series to take patient and study from.")
        if self.write and mr.headers:
            from medical_gans.io.dicom.attributes import check_source, why_untied

            if self.write is True:
                check_source(mr.headers)
            if reason := why_untied(mr.headers):
                return replace(mr, headers=(), repairs=(*mr.repairs, f"{reason} Only NIfTI is written."))
        return mr

    def save(self, folder: Path, hounsfield: np.ndarray, mr: Volume) -> list[str]:
        """Write ``<folder>/dicom`` where it is wanted; return sentences on what one should know about it.

        Raises:
            OutputError: the files cannot be written.
        """
        if not self.write or not mr.headers:
            return []
        from medical_gans.io.dicom.carrying import carry_structure_set, find_structure_sets
        from medical_gans.io.dicom.ct import write_ct_series
        from medical_gans.io.dicom.structure_set import write_structure_set

        place = folder / DICOM_FOLDER
        series = write_ct_series(hounsfield, mr.affine, mr.headers, place, mr=mr.array, seed=self.uid_seed)
        warnings = list(series.warnings)
        outline, about_outline = _outline(series)
        warnings += about_outline
        contours = place / "rtstruct"
        contours.mkdir()
        carried = 0
        for number, source in enumerate(find_structure_sets(mr.source, mr.headers[0].FrameOfReferenceUID), start=1):
            target = contours / f"RS{number:04}.dcm"
            try:
                warnings += carry_structure_set(
                    source, mr.headers, mr.array.shape, mr.affine, series, target, outline=outline, seed=self.uid_seed
                )
                carried += 1
            except InputError as error:
                warnings.append(f"{source.name} was not carried to the CT: {error}")
        if outline is not None and not carried:
            write_structure_set(contours / "BODY.dcm", [outline], series.headers, label="BODY", seed=self.uid_seed)
        return warnings

    def drawn(self, mr: Volume) -> Iterator[tuple[str, np.ndarray]]:
        """Name and mask on the grid of the MR of each structure that was drawn on it; none without headers.

        A structure that cannot be filled on that grid is passed over: `save` says so where it matters.
        """
        if not mr.headers:
            return
        from medical_gans.io.dicom.carrying import find_structure_sets
        from medical_gans.io.dicom.structure_set import read_structure_set, structure_mask

        for source in find_structure_sets(mr.source, mr.headers[0].FrameOfReferenceUID):
            try:
                structures, _ = read_structure_set(source)
            except InputError:
                continue
            for structure in structures:
                try:
                    yield structure.name, structure_mask(structure, mr.array.shape, mr.affine)
                except InputError:
                    continue

    def deliver(self, folder: Path) -> None:
        """Store what lies under ``<folder>/dicom`` in the archive, where one was named.

        Raises:
            UserError: the archive cannot be reached, or objects were not stored; each is named with its reason.
        """
        files = sorted((folder / DICOM_FOLDER).rglob("*.dcm"))
        if self.send is None or not files:
            return
        from medical_gans.io.dicom.sending import send_files

        failures = send_files(files, self.send, calling_ae=self.calling_ae, called_ae=self.called_ae)
        if failures:
            raise OutputError(_not_stored(self.send, files, failures))


def _outline(series: CtSeries) -> tuple[Structure | None, list[str]]:
    """The body as a structure, and sentences on what one should know about it."""
    from medical_gans.io.dicom.structure_set import structure_from_mask

    body = body_outline(series.hounsfield, series.affine)
    if not body.any():
        return None, ["The CT shows no body, so no outline of it was written."]
    outline, volume = structure_from_mask("BODY", body, series.affine, "EXTERNAL")
    if abs(volume.error_percent) <= _OUTLINE_ERROR:
        return outline, []
    return outline, [
        f"The body outline encloses {volume.contour_ml:.0f} ml of the {volume.mask_ml:.0f} ml of its voxels."
    ]


def _not_stored(address: str, files: Sequence[Path], failures: dict[Path, str]) -> str:
    listed = "".join(f"\n  {path.parent.name}/{path.name}: {reason}" for path, reason in failures.items())
    return (
        f"{len(failures)} of {len(files)} objects were not stored by {address}. They lie in "
        f"{files[0].parent.parent}; mend the cause and run again to send them:{listed}"
    )
