"""The MONAI Label app of medical-gans: every workflow from one server.

    monailabel start_server --app bundle/monai_label --studies DIR

Each model runs the config of its workflow in the server's process, as ``python -m monai.bundle run`` does, so that
voxels are the same. Weights are looked for in ``model/`` of this folder, then among the shipped ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lib.brain_lesion import BrainLesion, BrainLesionTraining
from lib.http_errors import http_errors, refuse
from lib.lung_anomaly import LungAnomaly
from lib.lung_nodule import LungNodule
from lib.mr_to_ct import MrToCt
from lib.requests import truth
from lib.stage_task import StageTask
from lib.studies import Studies
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from medical_gans import __version__

_SHOWN = 5  # names in a message


class MedicalGansApp(MONAILabelApp):
    """Brain lesions, synthetic CT, lung nodules and lung anomalies.

    Args:
        app_dir: this folder; its ``model/`` holds weights that go before the shipped ones.
        studies: folder of images, DICOM series and case folders, or the URL of a DICOMweb server.
        conf: from ``--conf KEY VALUE``: ``models`` names the models to offer, with commas; all by default.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.model_dir = Path(app_dir) / "model"
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="medical-gans",
            description="Adversarial workflows for medical images: outlines of brain lesions, synthetic CT from MR, "
            "lung nodules to order, and what is unusual in a lung. For research, not for diagnosis.",
            version=__version__,
        )

    def init_datastore(self) -> Datastore:
        """Studies from a folder, DICOM series and case folders included; from DICOMweb as MONAI Label reads them."""
        return super().init_datastore() if self.studies.startswith(("http://", "https://")) else Studies(self.studies)

    def init_infers(self) -> dict[str, InferTask]:
        tasks: list[StageTask] = [one(self.model_dir) for one in (BrainLesion, MrToCt, LungNodule, LungAnomaly)]
        return {task.name: task for task in tasks if task.name in self._offered([task.name for task in tasks])}

    def init_trainers(self) -> dict[str, TrainTask]:
        name = BrainLesionTraining.name
        return {name: BrainLesionTraining(self.model_dir)} if name in self._infers else {}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAI Label's; what is wrong with a request becomes an HTTP error that says so.

        Raises:
            HTTPException: 404 without such a model or image, 422 for input or settings that cannot be used, 503 for a
                model without weights.
        """
        with http_errors():
            task = self._infers.get(str(request.get("model")))
            if task is None:
                refuse(404, f"There is no model {request.get('model')!r}; there are {', '.join(self._infers)}.")
            self._check_image(request.get("image"), datastore or self.datastore())
            request = {**request, "save_label": truth("save_label", request.get("save_label", False))}
            request.setdefault("label_tag", task.tag)
            return super().infer(request, datastore)

    def _check_image(self, image: Any, datastore: Datastore) -> None:
        if not isinstance(image, str) or not image:
            refuse(422, "The request names no image. Give the id of one in the studies, or post a file.")
        if os.path.exists(image) or datastore.get_image_uri(image):
            return
        known = sorted(datastore.list_images())
        listed = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
        refuse(404, f"The studies hold no image {image!r}. They hold {len(known)}{': ' * bool(known)}{listed}.")

    def _offered(self, names: list[str]) -> list[str]:
        wanted = [name.strip() for name in self.conf.get("models", ",".join(names)).split(",")]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise SystemExit(f"--conf models names {unknown[0]!r}; there are {', '.join(names)}.")
        return wanted
