"""The same plans on the true and the synthetic CT of each patient: DVH, signed differences, gamma, pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from medical_gans.errors import InputError, SettingError, UserError
from medical_gans.io import Case, save_volume
from medical_gans.io.ownership import Origin, source
from medical_gans.io.writing import prepare_output, whole_folder
from medical_gans.report import Manifest, input_hashes, skip_case, write_page, write_record
from medical_gans.report.cases import CASES_FOLDER, forget_cases
from medical_gans.studies.radiotherapy.anatomy import Anatomy, AnatomyReading
from medical_gans.studies.radiotherapy.density import DensityTable
from medical_gans.studies.radiotherapy.extra import require_extra
from medical_gans.studies.radiotherapy.figures import DoseFigures, dose_figures, write_figures
from medical_gans.studies.radiotherapy.pictures import draw_case
from medical_gans.studies.radiotherapy.plans import BeamDone, Beams, Plan
from medical_gans.studies.radiotherapy.sources import DoseSources

_STAGE = "dose"
_RUN = f"mr_to_ct {_STAGE}"

logger = logging.getLogger(__name__)


class DoseEvaluation:
    """Makes plans on the true CT of each case and computes them again on its synthetic CT.

    Written to `output_dir`: ``dose.csv`` (a line per case, modality, structure and figure), ``dose.json``,
    per case the doses as NIfTI in Gy, ``report.html`` with pictures, ``manifest.json``. A bad case is
    reported, skipped, and named in the error that ends the run; the error of an only case is raised as it is.

    Args:
        cases: with a true CT.
        sources: of synthetic CT and structures.
        output_dir: folder for everything written; an earlier dose evaluation there is replaced.
        photon_angles: degrees of the gantry; none leaves the photon plan out.
        proton_angles: the same of the proton plan.
        beamlet_spacing: mm between beamlets or spots.
        prescription: Gy, that half of the target gets.
        density_table: CSV; None takes the example that ships.
        dose_spacing: mm.
        target_radius: mm, of the sphere in the middle of the body where no target is given.
        largest_offset: mm between the two CT, beyond which a case is refused.
        gamma_points: voxels drawn for the gamma index.
        gamma_cutoff: percent of the prescription below which voxels are left out of it.
        dataset_dir: data set that the cases were found in.
        seed: of the drawing.

    Raises:
        SettingError: a value is out of range.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        sources: DoseSources,
        output_dir: str | Path,
        *,
        photon_angles: Sequence[float] = (0, 72, 144, 216, 288),
        proton_angles: Sequence[float] = (270, 330),
        beamlet_spacing: float = 5.0,
        prescription: float = 2.0,
        density_table: str | Path | None = None,
        dose_spacing: float = 3.0,
        target_radius: float = 25.0,
        largest_offset: float = 5.0,
        gamma_points: int = 10_000,
        gamma_cutoff: float = 10.0,
        dataset_dir: str | Path | Sequence[str | Path] = ".",
        seed: int = 0,
    ) -> None:
        positive = {"prescription": prescription, "dose_spacing": dose_spacing, "target_radius": target_radius}
        for name, value in {**positive, "gamma_points": gamma_points}.items():
            if value <= 0:
                raise SettingError(f"{name} is {value}; give a positive number.")
        angles = {"photon": photon_angles, "proton": proton_angles}
        self.beams = [Beams(modality, given, beamlet_spacing) for modality, given in angles.items() if given]
        if not self.beams:
            raise SettingError("There is no plan: photon_angles and proton_angles are both empty.")
        self.cases = list(cases)
        self.sources = sources
        self.output_dir = Path(output_dir)
        self.prescription = prescription
        table = DensityTable.read(density_table)
        self.read_anatomy = AnatomyReading(sources, table, self.beams, dose_spacing, target_radius, largest_offset)
        self.compare = partial(
            dose_figures, prescription=prescription, points=gamma_points, cutoff=gamma_cutoff, seed=seed
        )
        self.root = dataset_dir if isinstance(dataset_dir, str | Path) else "."
        settings = {
            "dataset_dir": dataset_dir,
            "synthetic_ct": sources.synthetic_ct,
            "target": sources.target,
            "organs": list(sources.organs),
            "density_table": density_table or "example of the package",
            **{f"{modality}_angles": list(given) for modality, given in angles.items()},
            "beamlet_spacing": beamlet_spacing,
            "gamma_points": gamma_points,
            "gamma_cutoff": gamma_cutoff,
            "largest_offset": largest_offset,
            **positive,
        }
        self.manifest = Manifest("mr_to_ct", _STAGE, settings=settings, seed=seed)

    def run(self) -> dict[str, list[DoseFigures]]:
        """Evaluate all cases, write the results and print the table.

        Returns:
            Figures of each plan, by case.

        Raises:
            SettingError: the extra is not installed.
            UserError: cases failed; the others are done.
            OutputError: `output_dir` cannot be written, or holds the results of another kind of run.
        """
        require_extra()
        self._prepare_output()
        found: dict[str, list[DoseFigures]] = {}
        failures: dict[str, str] = {}
        with self.manifest.timed("cases"), logging_redirect_tqdm():
            for case in tqdm(self.cases, desc="cases", unit="case"):
                try:
                    found[case.name] = self._evaluate(case)
                except Exception as error:
                    failures[case.name] = self._fail(case, error)
        if found:
            write_figures(self.output_dir, found, self.prescription)
        write_page(self.output_dir, "MR to CT: dose", settings=self.manifest.settings)
        self.manifest.write(self.output_dir)
        for name, plans in found.items():
            print(f"{name}: synthetic minus reference", *(plan.summary(self.prescription) for plan in plans), sep="\n")
        logger.info("Results are in %s; begin with its report.html.", self.output_dir)
        if failures:
            first = "; ".join(f"{name} ({reason})" for name, reason in list(failures.items())[:5])
            raise UserError(f"{len(failures)} of {len(self.cases)} cases failed: {first}")
        return found

    def _evaluate(self, case: Case) -> list[DoseFigures]:
        begin = time.perf_counter()
        anatomy = self.read_anatomy(case)
        seconds = {"read": time.perf_counter() - begin}
        doses: dict[str, dict[str, np.ndarray]] = {}
        for beams in self.beams:
            begin = time.perf_counter()
            doses[beams.modality] = self._doses(beams, anatomy)
            seconds[beams.modality] = time.perf_counter() - begin
        begin = time.perf_counter()
        figures = [
            self.compare(modality, both, anatomy.target, anatomy.organs, anatomy.grid.spacing)
            for modality, both in doses.items()
        ]
        seconds["figures"] = time.perf_counter() - begin
        self._write_case(case, anatomy, doses, figures, seconds)
        return figures

    def _doses(self, beams: Beams, anatomy: Anatomy) -> dict[str, np.ndarray]:
        densities = anatomy.densities[beams.modality]
        with tqdm(unit="beam", leave=False) as bar:
            plan = Plan(
                beams,
                anatomy.grid,
                densities["reference"],
                anatomy.body,
                anatomy.target,
                anatomy.organs,
                self.prescription,
                _shown_on(bar),
            )
            synthetic = plan.dose(densities["synthetic"], "synthetic CT")
        return {"reference": plan.reference_dose, "synthetic": synthetic}

    def _write_case(
        self,
        case: Case,
        anatomy: Anatomy,
        doses: Mapping[str, Mapping[str, np.ndarray]],
        figures: Sequence[DoseFigures],
        seconds: Mapping[str, float],
    ) -> None:
        origin = self._origin(case)
        with whole_folder(self.output_dir / case.name, origin) as folder:
            for modality, both in doses.items():
                for name, dose in both.items():
                    save_volume(folder / f"{modality}_dose_{name}.nii.gz", dose, anatomy.grid.affine)
        for warning in anatomy.warnings:
            logger.warning("%s: %s", case.name, warning)
        write_record(
            self.output_dir,
            case.name,
            draw=lambda place: draw_case(
                place,
                anatomy.grid,
                anatomy.hounsfield,
                doses,
                {"target": anatomy.target, **anatomy.organs},
                self.prescription,
            ),
            tables={one.title: one.rows(self.prescription) for one in figures},
            metrics={name: value for one in figures for name, value in one.key_figures(self.prescription).items()},
            warnings=anatomy.warnings,
            inputs=input_hashes(*self.sources.files(case), dataset_dir=self.root),
            seconds=seconds,
            origin=origin,
        )

    def _prepare_output(self) -> None:
        names = ("report.html", "manifest.json", "dose.csv", "dose.json", CASES_FOLDER)
        origins = {case.name: self._origin(case) for case in self.cases}
        folders = [(f"{above}{name}", one) for name, one in origins.items() for above in ("", f"{CASES_FOLDER}/")]
        inputs = [path for one in origins.values() for path in one.protected()]
        prepare_output(self.output_dir, Origin(_RUN, inputs=inputs), names, folders)
        forget_cases(self.output_dir, _RUN)

    def _origin(self, case: Case) -> Origin:
        others = [Path(path) for path in self.sources.files(case) if path is not None]
        return Origin(_RUN, [source(case.ct)], inputs=others)

    def _fail(self, case: Case, error: Exception) -> str:
        if len(self.cases) == 1 or (isinstance(error, UserError) and not isinstance(error, InputError)):
            raise error
        return skip_case(self.output_dir, case.name, error, Origin(_RUN))


def _shown_on(bar: Any) -> BeamDone:
    def show(what: str, done: int, total: int) -> None:
        bar.set_description(what)
        bar.total = total
        bar.n = done
        bar.refresh()

    return show
