"""A cohort from MR to synthetic CT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.inference.cohort import CohortEvaluator, Progress
from medical_gans.inference.synthesis.dicom_output import DicomOutput
from medical_gans.inference.synthesis.one_case import CaseSynthesis
from medical_gans.inference.synthesis.volume import SliceSynthesis
from medical_gans.io import Case
from medical_gans.io.ownership import Source
from medical_gans.report import Manifest
from medical_gans.report.manifest import sha256


class CaseEvaluator(CohortEvaluator):
    """Runs whole-volume synthesis over the cases of a data set.

    Written to `output_dir`: for each case ``<case>/synthetic_ct.nii.gz`` (int16 HU on the grid of the MR)
    and, where several estimates were averaged, ``<case>/uncertainty.nii.gz`` (their standard deviation,
    int16 HU); for DICOM input ``<case>/dicom/`` with a CT series; pictures under ``report/<case>/``; at the end
    ``report.html`` and ``manifest.json``. How a cohort is done, see `cohort.CohortEvaluator`.

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
