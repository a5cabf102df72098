"""A synthetic CT of an MR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.stage_task import Answer, StageTask, check_mr, only_record


class MrToCt(StageTask):
    """int16 HU on the grid of the MR."""

    def __init__(self, model_dir: Path) -> None:
        super().__init__(
            "mr_to_ct",
            "mr_to_ct_inference",
            model_dir,
            about="A synthetic CT from an MR (T1-weighted head, or thigh): int16 HU on the grid of the MR. No "
            "segmentation: get it by REST as NIfTI, or have it stored beside the study with save_label.",
            tag="synthetic_ct",
            options={"site": ["head", "thigh"], "flips": False, "strict": False, "repair": False},
        )

    def answer(
        self, image: Path, settings: dict[str, Any], besides: Mapping[str, Any], request: Mapping[str, Any], work: Path
    ) -> Answer:
        check_mr(image, settings.get("series_uid"))
        output = self.run(image, {**settings, "write_dicom": False}, work)
        record = only_record(output)
        facts = {name: record[name] for name in ("warnings", "tables")}
        return Answer(output / record["name"] / "synthetic_ct.nii.gz", facts)

    def weights_name(self, settings: Mapping[str, Any]) -> str:
        return f"mr_to_ct_{settings.get('site', 'head')}.pt"
