"""A nodule generated and placed into a lung CT where a user clicks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.points import clicked_points
from lib.stage_task import Answer, StageTask
from medical_gans.errors import SettingError

_FILES = {"ct": "ct.nii.gz", "mask": "mask.nii.gz", "nodule": "nodule.nii.gz"}


class LungNodule(StageTask):
    """The CT with the nodule, the nodule's mask, or the generated patch."""

    def __init__(self, model_dir: Path) -> None:
        super().__init__(
            "lung_nodule",
            "lung_nodule_place",
            model_dir,
            about="A generated lung nodule, placed into a lung CT at the clicked point. Viewers, which ask for uint8, "
            "get its mask; by REST the CT with the nodule (int16 HU), its mask or the nodule's patch.",
            tag="with_nodule",
            kind=InferType.DEEPGROW,  # viewers offer such models as a tool to click with
            labels={"nodule": 1},
            options={"result": [*_FILES], "malignancy": ["malignant", "benign"], "seed": 0},
            more={
                "result": "what is returned: ct, mask or nodule; a request for uint8 always gets the mask",
                "position": "mm of the nodule's centre as [x, y, z]; in place of a click",
                "convention": "of position: RAS or LPS",
            },
        )

    def answer(
        self, image: Path, settings: dict[str, Any], besides: Mapping[str, Any], request: Mapping[str, Any], work: Path
    ) -> Answer:
        wanted = str(besides.get("result") or "ct")
        if wanted not in _FILES:
            raise SettingError(f"result is {wanted!r}; choose {', '.join(_FILES)}.")
        if str(request.get("result_dtype", "")).removeprefix("np.") == "uint8":
            wanted = "mask"
        point = clicked_points(image, {"convention": settings.pop("convention", None), **besides}, request)[-1]
        output = self.run(image, {**settings, "position": list(point), "convention": "RAS"}, work)
        facts = json.loads((output / "placed" / "nodule.json").read_text(encoding="utf-8"))
        warnings = json.loads((output / "manifest.json").read_text(encoding="utf-8")).get("warnings", [])
        return Answer(output / "placed" / _FILES[wanted], {"result": wanted, "nodule": facts, "warnings": warnings})
