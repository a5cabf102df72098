"""One case from file to file (read, compare with training, translate, write whole, draw), and a cohort of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import InputError, OutputError, SettingError
from medical_gans.inference.cohort import CohortEvaluator, Progress, is_made_from, made_from, timed
from medical_gans.inference.synthesis.body import body_outline
from medical_gans.inference.synthesis.volume import SliceSynthesis, SyntheticCT
from medical_gans.io import Case, Volume, aligned_to, mapped, read_mask, read_volume, save_volume
from medical_gans.io.ownership import Origin, Source, source
from medical_gans.io.writing import whole_folder
from medical_gans.networks.freed_memory import give_back_freed_memory
from medical_gans.report import Manifest, Place, input_hashes, write_case_report
from medical_gans.report.cases import CASES_FOLDER
from medical_gans.report.manifest import sha256
from medical_gans.report.viewer import VIEWER
from medical_gans.transforms.reading import with_background_at_zero

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
        for number, structure_set in enumerate(
            find_structure_sets(mr.source, mr.headers[0].FrameOfReferenceUID), start=1
        ):
            target = contours / f"RS{number:04}.dcm"
            try:
                warnings += carry_structure_set(
                    structure_set,
                    mr.headers,
                    mr.array.shape,
                    mr.affine,
                    series,
                    target,
                    outline=outline,
                    seed=self.uid_seed,
                )
                carried += 1
            except InputError as error:
                warnings.append(f"{structure_set.name} was not carried to the CT: {error}")
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

        for file in find_structure_sets(mr.source, mr.headers[0].FrameOfReferenceUID):
            try:
                structures, _ = read_structure_set(file)
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
        if not all((drawn / name).is_file() for name in wanted):
            return False
        return is_made_from(self.output_dir / case.name, self._made_from(case))

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
        with mapped.large_volumes_in(self.output_dir):
            return self._run(case, on_progress)

    def _run(self, case: Case, on_progress: Progress | None) -> list[str]:
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
        give_back_freed_memory()  # before checks and pictures need some
        seconds["network"] = made.network_seconds
        seconds["synthesis"] -= made.network_seconds
        tables: dict[str, Any] = {}
        pictures: dict[str, Any] = {}
        places: list[Place] = []
        origin = Origin(RUN, self.sources(case), self._made_from(case, inputs))
        with whole_folder(self.output_dir / case.name, origin) as folder, ThreadPoolExecutor(1) as beside:
            writing = beside.submit(self._save, folder, made, mr)
            if self.quality is not None:
                with timed(seconds, "checks"):
                    verdict = self.quality(mr, made.hounsfield, made.standard_deviation, made.estimates)
                tables, pictures = verdict.tables(), verdict.pictures()
                warnings += verdict.warnings()
                places = verdict.places() if self.viewer else []
            with timed(seconds, "write"):  # what is left of it after the checks
                warnings += writing.result()
            reference = _beside(mr, case.ct, read_volume, warnings)
            mask = _beside(mr, case.mask, read_mask, warnings)
            give_back_freed_memory()  # of the checks
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

    def _save(self, folder: Path, made: SyntheticCT, mr: Volume) -> list[str]:
        """Write the volumes; return sentences on what one should know about them."""
        save_volume(folder / SYNTHETIC_CT, made.hounsfield, mr.affine)
        if made.standard_deviation is not None:
            save_volume(folder / UNCERTAINTY, made.standard_deviation, mr.affine)
        return self.dicom.save(folder, made.hounsfield, mr)

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


class CaseEvaluator(CohortEvaluator):
    """Runs whole-volume synthesis over the cases of a data set.

    Written to `output_dir`: for each case ``<case>/synthetic_ct.nii.gz`` (int16 HU on the grid of the MR)
    and, where several estimates were averaged, ``<case>/uncertainty.nii.gz`` (their standard deviation,
    int16 HU); for DICOM input ``<case>/dicom/`` with a CT series; pictures under ``report/<case>/``; at the end
    ``report.html`` and ``manifest.json``. How a cohort is done, see `inference.cohort.CohortEvaluator`.

    Args:
        device: where the generators are.
        cases: with at least an MR; a CT on the same grid is shown beside the result.
        synthesis: from an MR to a synthetic CT.
        weights: files that the generators were loaded from.
        output_dir: folder for everything written.
        fingerprint: of the training images, to which each MR is compared.
        strict: refuse an MR that differs from the training images instead of warning.
        dataset_dir: data set that the cases were found in.
        dicom: how DICOM is read, written and sent.
        quality: checks of each result, see `one_case.CaseSynthesis`.
        seed: for the manifest.
        viewer: write ``report/<case>/viewer.html`` too, the volumes as a page that can be scrolled.
    """

    def __init__(
        self,
        device: torch.device | str,
        cases: Sequence[Case],
        synthesis: SliceSynthesis,
        weights: Sequence[Path],
        output_dir: str | Path,
        *,
        fingerprint: Fingerprint | None = None,
        strict: bool = False,
        dataset_dir: str | Path | Sequence[str | Path] = ".",
        dicom: DicomOutput | None = None,
        quality: Callable[..., Any] | None = None,
        seed: int | None = None,
        viewer: bool = True,
    ) -> None:
        shown = dataset_dir if isinstance(dataset_dir, str | Path) else [str(place) for place in dataset_dir]
        self.dicom = dicom or DicomOutput()
        settings = {"dataset_dir": shown, "strict": strict, **synthesis.settings, **self.dicom.settings}
        manifest = Manifest("mr_to_ct", "inference", settings=settings, seed=seed, device=str(device))
        manifest.weights = {_name(file, weights): sha256(file) for file in weights}
        super().__init__(
            device,
            cases,
            output_dir,
            manifest,
            title="Synthetic CT from MR",
            verb="translate",
            part="slice",
            advice="Set tile to 256, or use a larger machine.",
        )
        self.case_synthesis = CaseSynthesis(
            synthesis,
            self.output_dir,
            sorted(manifest.weights.values()),
            fingerprint,
            strict,
            shown if isinstance(shown, str | Path) else ".",
            self.dicom,
            quality,
            viewer,
        )

    def is_finished(self, case: Case) -> bool:
        return self.case_synthesis.is_finished(case)

    def sources(self, case: Case) -> list[Source]:
        return self.case_synthesis.sources(case)

    def do_case(self, case: Case, on_progress: Progress) -> list[str]:
        return self.case_synthesis.run(case, on_progress)

    def deliver(self, case: Case) -> None:
        self.dicom.deliver(self.output_dir / case.name)


def _name(file: Path, among: Sequence[Path]) -> str:
    """Name of a weights file, with its folder where several runs each wrote one of that name."""
    shared = sum(other.name == file.name for other in among) > 1
    return f"{file.absolute().parent.name}/{file.name}" if shared else file.name
