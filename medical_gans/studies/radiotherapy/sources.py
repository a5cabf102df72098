"""Where the images and structures of a dose evaluation come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medical_gans.errors import InputError, SettingError
from medical_gans.io import Case, Volume, read_mask, read_volume
from medical_gans.transforms.reading import checked_ct, with_background_at_zero

CASE = "{case}"
_DICOM = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class DoseSources:
    """Finds what belongs to a case. In every path ``{case}`` stands for the name of the case.

    Args:
        synthetic_ct: file or DICOM folder; None translates the MR of the case.
        target: mask file, or ``FILE.dcm#NAME`` for a structure of an RTSTRUCT or SEG; None takes a sphere.
        organs: of the same kinds; each is called by its structure or file name.
        body: mask of what belongs to the patient; None finds it.
        load_generators: gives trained generators, as `synthesis.load_generators` does.
        synthesis: makes of generators what translates an MR: `synthesis.SliceSynthesis`.
    """

    synthetic_ct: str | Path | None = None
    target: str | Path | None = None
    organs: Sequence[str | Path] = ()
    body: str | Path | None = None
    load_generators: Callable[[], Any] | None = None
    synthesis: Callable[..., Any] | None = None
    _translate: list[Any] = field(default_factory=list, init=False, repr=False)

    def read_reference(self, case: Case) -> Volume:
        """The true CT.

        Raises:
            InputError: it cannot be read.
        """
        assert case.ct is not None
        return checked_ct(read_volume(case.ct, modality="CT"))

    def read_synthetic(self, case: Case) -> Volume:
        """The synthetic CT, as stored or made now. Its affine is its own: it is never taken from the reference.

        Raises:
            InputError: the file or the MR cannot be used.
            SettingError: there is neither a file nor an MR.
        """
        if self.synthetic_ct is not None:
            return read_volume(_of_case(self.synthetic_ct, case))
        if case.mr is None or self.load_generators is None or self.synthesis is None:
            raise SettingError(
                f"There is no synthetic CT of {case.name}: give synthetic_ct, such as out/{CASE}/synthetic_ct.nii.gz, "
                "or a data set with the MR."
            )
        if not self._translate:
            trained = self.load_generators()
            made_by = self.synthesis(trained.generators)
            self._translate.append(made_by)
        mr = with_background_at_zero(read_volume(case.mr, modality="MR"))
        made = self._translate[0](mr)
        return Volume(made.hounsfield, mr.affine, mr.source)

    def read_target(self, case: Case) -> Volume | None:
        """Mask of the target; None where none was given."""
        return None if self.target is None else read_structure(_of_case(self.target, case), case)

    def read_organs(self, case: Case) -> dict[str, Volume]:
        """Masks of the organs by name."""
        found = {}
        for given in self.organs:
            place = _of_case(given, case)
            found[_structure_name(place)] = read_structure(place, case)
        return found

    def read_body(self, case: Case) -> Volume | None:
        """Mask of the patient: as given, or that of the case; None where there is neither."""
        if self.body is not None:
            return read_structure(_of_case(self.body, case), case)
        return None if case.mask is None else read_mask(case.mask)

    def files(self, case: Case) -> list[Path]:
        """All files and folders that a case is read from."""
        given = [self.synthetic_ct or case.mr, self.target, *self.organs, self.body or case.mask]
        places = [_file_and_structure(_of_case(one, case))[0] for one in given if one is not None]
        return [Path(place) for place in (case.ct, *places) if place is not None]


def read_structure(place: str, case: Case) -> Volume:
    """A mask from an image file, or from ``FILE.dcm#NAME`` on the grid of the reference CT.

    Raises:
        InputError: it cannot be read, or the mask is empty.
    """
    file, name = _file_and_structure(place)
    if not Path(file).suffix.lower().startswith(_DICOM):
        return read_mask(place)
    if not name:
        raise InputError(f"{file} may hold several structures. Name one: {file}#NAME.")
    from medical_gans.io.dicom.masks import read_dicom_structure

    assert case.ct is not None
    return read_dicom_structure(Path(file), name, read_volume(case.ct, modality="CT"))


def _of_case(given: str | Path, case: Case) -> str:
    return str(given).replace(CASE, case.name)


def _file_and_structure(place: str) -> tuple[str, str]:
    """``FILE#NAME``; a MONAI config turns every ``#`` that it reads into ``::``."""
    file, _, name = place.replace("::", "#").partition("#")
    return file, name


def _structure_name(place: str) -> str:
    file, name = _file_and_structure(place)
    return name or Path(file).name.split(".")[0]
