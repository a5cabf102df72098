"""One case from file to file: read, compare with training, translate, write whole, draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import InputError
from medical_gans.inference.cohort import Progress, is_made_from, made_from, timed
from medical_gans.inference.synthesis.body import body_outline
from medical_gans.inference.synthesis.dicom_output import DicomOutput
from medical_gans.inference.synthesis.volume import SliceSynthesis
from medical_gans.io import Case, Volume, aligned_to, read_mask, read_volume, save_volume
from medical_gans.io.ownership import Origin, Source, source
from medical_gans.io.writing import whole_folder
from medical_gans.report import Place, input_hashes, write_case_report
from medical_gans.report.cases import CASES_FOLDER
from medical_gans.report.viewer import VIEWER

RUN = "mr_to_ct inference"
SYNTHETIC_CT = "synthetic_ct.nii.gz"
UNCERTAINTY = "uncertainty.nii.gz"


@dataclass(frozen=True)
class CaseSynthesis:
    """Makes the files of a case under an output folder.

    Attributes:
        synthesis: from an MR to a synthetic CT.
        output_dir: gets ``<case>/`` with the volumes and ``report/<case>/`` with the pictures.
        weights: SHA-256 of each weights file.
        fingerprint: of the training images; None compares with nothing.
        strict: refuse an MR that differs from the training images instead of warning.
        dataset_dir: folder that names of inputs are relative to.
        dicom: how DICOM is read and written.
        quality: from MR, HU and standard deviation to a verdict with ``tables()``, ``pictures()``, ``warnings()`` and
            ``places()`` for the report, as `quality.QualityGate` gives it; None checks nothing.
        viewer: write the volumes as a page that can be scrolled too.
    """

    synthesis: SliceSynthesis
    output_dir: Path
    weights: Sequence[str]
    fingerprint: Fingerprint | None = None
    strict: bool = False
    dataset_dir: str | Path = "."
    dicom: DicomOutput = field(default_factory=DicomOutput)
    quality: Callable[..., Any] | None = None
    viewer: bool = True

    def is_finished(self, case: Case) -> bool:
        """Whether the case lies whole in the output folder, made from the same by the same."""
        drawn = self.output_dir / CASES_FOLDER / case.name
        wanted = ["case.json", *([VIEWER] if self.viewer else [])]
        return all((drawn / name).is_file() for name in wanted) and is_made_from(
            self.output_dir / case.name, self._made_from(case)
        )

    def sources(self, case: Case) -> list[Source]:
        """The MR that a case is made of."""
        return [source(*(case.files or [case.mr]), detail=case.series_uid)]

    def run(self, case: Case, on_progress: Progress | None = None) -> list[str]:
        """Make all files of a case; after any exception none of them is there.

        Returns:
            Warnings, as sentences.

        Raises:
            InputError: the MR cannot be used, or `strict` refuses it.
            OutputError: the files cannot be written.
        """
        assert case.mr is not None
        seconds: dict[str, float] = {}
        with timed(seconds, "read"):
            mr = self.dicom.read(case)
            if self.strict:
                mr.check_certain()
            inputs = self._inputs(case)
        with timed(seconds, "compare"):
            warnings = [*mr.notes, *self._compare(mr)]
        with timed(seconds, "synthesis"):
            made = self.synthesis(mr, on_progress)
        seconds["network"] = made.network_seconds
        seconds["synthesis"] -= made.network_seconds
        tables: dict[str, Any] = {}
        pictures: dict[str, Any] = {}
        places: list[Place] = []
        if self.quality is not None:
            with timed(seconds, "checks"):
                verdict = self.quality(mr, made.hounsfield, made.standard_deviation)
            tables, pictures = verdict.tables(), verdict.pictures()
            warnings += verdict.warnings()
            places = verdict.places() if self.viewer else []
        origin = Origin(RUN, self.sources(case), self._made_from(case, inputs))
        with whole_folder(self.output_dir / case.name, origin) as folder:
            with timed(seconds, "write"):
                save_volume(folder / SYNTHETIC_CT, made.hounsfield, mr.affine)
                if made.standard_deviation is not None:
                    save_volume(folder / UNCERTAINTY, made.standard_deviation, mr.affine)
                warnings += self.dicom.save(folder, made.hounsfield, mr)
            reference = _beside(mr, case.ct, read_volume, warnings)
            mask = _beside(mr, case.mask, read_mask, warnings)
            write_case_report(
                self.output_dir,
                case.name,
                mr.array,
                made.hounsfield,
                mr.affine,
                reference=reference,
                mask=mask,
                standard_deviation=made.standard_deviation,
                warnings=warnings,
                inputs=inputs,
                seconds=seconds,
                tables=tables,
                pictures=pictures,
                structures=self._structures(mr, made.hounsfield),
                places=places,
                viewer=self.viewer,
                origin=origin,
            )
        return warnings

    def _structures(self, mr: Volume, hounsfield: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """What is outlined on the page: the body on the synthetic CT, and what was drawn on the MR."""
        yield "body", body_outline(hounsfield, mr.affine)
        yield from self.dicom.drawn(mr)

    def _compare(self, mr: Volume) -> list[str]:
        if self.fingerprint is None:
            return []
        try:
            return self.fingerprint.compare(mr.array, mr.spacing, mr.modality, strict=self.strict)
        except InputError as error:
            raise InputError(f"{mr.source}: {error}") from error

    def _inputs(self, case: Case) -> dict[str, str]:
        return input_hashes(*(case.files or [case.mr]), case.ct, case.mask, dataset_dir=self.dataset_dir)

    def _made_from(self, case: Case, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
        settings = {**self.synthesis.decisive_settings, **self.dicom.decisive_settings, "strict": self.strict}
        facts = made_from(self.weights, settings, self._inputs(case) if inputs is None else inputs)
        return {**facts, "series_uid": case.series_uid}


def _beside(mr: Volume, path: Path | None, read: Any, warnings: list[str]) -> np.ndarray | None:
    """An image of the same case for the pictures; one that does not fit is left out with a warning."""
    if path is None:
        return None
    try:
        volume: Volume = aligned_to(mr, read(path))
    except InputError as error:
        warnings.append(f"{path.name} is left out of the pictures: {error}")
        return None
    return volume.array
