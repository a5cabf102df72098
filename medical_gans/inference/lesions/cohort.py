"""A cohort of cases whose lesions are outlined."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from medical_gans.inference.cohort import CohortEvaluator, Progress
from medical_gans.inference.lesions.dicom_output import LesionDicom
from medical_gans.inference.lesions.one_case import TABLE, LesionCase
from medical_gans.inference.lesions.segmentation import LesionSegmentation, TrainedSegmenter
from medical_gans.io import whole_file
from medical_gans.io.ownership import Source
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.report import Manifest, case_records
from medical_gans.transforms.sequence_volume import Preprocessing


class LesionEvaluator(CohortEvaluator):
    """Outlines lesions in the cases of a data set.

    Written to `output_dir`: for each case ``<case>/lesions.nii.gz`` (uint8 classes on the grid of the first sequence),
    ``<case>/lesions.csv`` and, where wanted, ``<case>/probability.nii.gz`` (of any lesion, float32; with several
    classes also ``probability_<class>.nii.gz``); for DICOM input ``<case>/dicom/`` with SEG and RTSTRUCT; pictures
    under ``report/<case>/``; at the end ``lesions.csv`` of all cases, ``report.html`` and ``manifest.json``. How a
    cohort is done, see `inference.cohort.CohortEvaluator`.

    Args:
        device: where the network is.
        cases: sequences in the network's order.
        segmentation: from sequences to probabilities.
        trained: the segmenter's weights.
        output_dir: folder for everything written.
        channels: names of the sequences.
        missing: those of `channels` declared missing, for the manifest.
        probabilities: write probabilities too.
        min_volume_ml: smaller lesions are dropped.
        strict: refuse a case that differs from the training images instead of warning.
        dataset_dir: data set that the cases were found in.
        dicom: what is written as DICOM.
        preprocessing: from files to sequences; None takes that of the shipped configs.
        seed: for the manifest.
        viewer: write ``report/<case>/viewer.html`` too, the volumes as a page that can be scrolled.
    """

    def __init__(
        self,
        device: torch.device | str,
        cases: Sequence[SequenceCase],
        segmentation: LesionSegmentation,
        trained: TrainedSegmenter,
        output_dir: str | Path,
        *,
        channels: Sequence[str],
        missing: Sequence[str] = (),
        probabilities: bool = False,
        min_volume_ml: float = 0.0,
        strict: bool = False,
        dataset_dir: str | Path = ".",
        dicom: LesionDicom | None = None,
        preprocessing: Preprocessing | None = None,
        seed: int | None = None,
        viewer: bool = True,
    ) -> None:
        dicom = dicom or LesionDicom()
        settings = {
            "dataset_dir": dataset_dir,
            "channels": list(channels),
            "missing": list(missing),
            **segmentation.settings,
            "probabilities": probabilities,
            "min_volume_ml": min_volume_ml,
            "strict": strict,
            "write_dicom": dicom.write,
        }
        manifest = Manifest("brain_lesion", "inference", settings=settings, seed=seed, device=str(device))
        manifest.add_weights(trained.file)
        super().__init__(
            device,
            cases,
            output_dir,
            manifest,
            title="Brain lesions",
            verb="segment",
            part="window",
            advice="Set sw_batch_size to 1 and a smaller roi_size, or use a larger machine.",
        )
        self.lesion_case = LesionCase(
            segmentation,
            trained,
            self.output_dir,
            list(manifest.weights.values()),
            channels,
            probabilities,
            min_volume_ml,
            strict,
            dataset_dir,
            dicom,
            preprocessing,
            viewer,
        )

    def is_finished(self, case: SequenceCase) -> bool:
        return self.lesion_case.is_finished(case)

    def sources(self, case: SequenceCase) -> list[Source]:
        return self.lesion_case.sources(case)

    def do_case(self, case: SequenceCase, on_progress: Progress) -> list[str]:
        return self.lesion_case.run(case, on_progress)

    names = (*CohortEvaluator.names, TABLE)

    def finish(self) -> None:
        """Put the tables of all cases together."""
        rows: list[list[str]] = []
        for record in case_records(self.output_dir):
            table = self.output_dir / record["name"] / TABLE
            if record["status"] != "failed" and table.is_file():
                with open(table, newline="", encoding="utf-8") as file:
                    head, *lesions = csv.reader(file)
                rows = rows or [["case", *head]]
                rows += [[record["name"], *lesion] for lesion in lesions]
        if rows:
            with whole_file(self.output_dir / TABLE) as temporary, open(temporary, "w", newline="") as file:
                csv.writer(file).writerows(rows)
