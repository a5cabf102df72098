"""A model of the server: one stage of medical_gans, from an image to a volume."""

from __future__ import annotations

import tempfile
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.delivery import deliver
from lib.devices import device, devices
from lib.http_errors import http_errors, refuse
from lib.requests import StageSettings
from lib.running import run_stage
from medical_gans.cli.config_files import models_dir
from medical_gans.errors import InputError
from medical_gans.io import list_series
from medical_gans.io.formats import may_hold_dicom
from medical_gans.report import case_records


@dataclass(frozen=True)
class Answer:
    """What a model made of an image.

    Attributes:
        file: NIfTI of the volume.
        facts: for the JSON of the answer.
    """

    file: Path
    facts: Mapping[str, Any] = field(default_factory=dict)


class StageTask(InferTask):
    """Runs a stage on the image of a request.

    Args:
        name: of the model.
        stage: config, without suffix.
        model_dir: weights in it go before the shipped ones.
        about: description for people.
        tag: under which results are stored beside the study where a request does not say.
        kind: tells viewers how to offer the model; ``others`` are offered by REST only.
        labels: name and value of what a label map shows.
        options: shown to clients, with their defaults; the first of a list is the default.
        more: what the model takes besides the settings of the stage, with its meaning.
    """

    def __init__(
        self,
        name: str,
        stage: str,
        model_dir: Path,
        *,
        about: str,
        tag: str,
        kind: InferType = InferType.OTHERS,
        labels: Mapping[str, int] | None = None,
        options: Mapping[str, Any] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind, dict(labels or {}), 3, about, {**(options or {}), "device": devices()})
        self.name, self.stage, self.model_dir, self.tag = name, stage, model_dir, tag
        self.settings = StageSettings(stage, more)

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, with the meaning of each option; a model without weights says so."""
        shown = super().info()
        shown["options"] = {name: self.settings.comments[name] for name in self.config()}
        if missing := self._missing_weights():
            shown["description"] = f"No weights yet. {missing} {self.description}"
        return shown

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Run the stage.

        Returns:
            A file that MONAI Label sends and then deletes, and the facts that go with it.

        Raises:
            HTTPException: see `http_errors`.
        """
        begin = time.perf_counter()
        with http_errors(), tempfile.TemporaryDirectory(prefix=f"{self.name}_") as work:
            settings, besides, ignored = self.settings.of(request)
            answer = self.answer(Path(str(request.get("image"))), settings, besides, request, Path(work))
            file = deliver(answer.file, request.get("result_extension") or ".nii.gz", self.name)
        facts = {"label_names": self.labels, "centroids": {}, **answer.facts, "ignored": ignored}
        return file, {**facts, "latencies": {"total": round(time.perf_counter() - begin, 2)}}

    @abstractmethod
    def answer(
        self, image: Path, settings: dict[str, Any], besides: Mapping[str, Any], request: Mapping[str, Any], work: Path
    ) -> Answer:
        """Make the volume of an image.

        Args:
            image: file or folder.
            settings: of the stage.
            besides: what the model takes besides.
            request: as it came.
            work: empty folder, gone afterwards.
        """

    def run(self, dataset: Path, settings: Mapping[str, Any], work: Path) -> Path:
        """Run the stage on a data set; returns its output folder."""
        output = work / "output"
        places = {"dataset_dir": str(dataset), "output_dir": str(output), "weights": str(self.weights(settings))}
        run_stage(self.stage, {**settings, **places, "device": device(settings.get("device"))})
        return output

    def weights(self, settings: Mapping[str, Any]) -> Path:
        """Weights file for these settings.

        Raises:
            HTTPException: 503, there is none.
        """
        name = self.weights_name(settings)
        found = find_weights(self.model_dir, name)
        return found if found is not None else refuse(503, missing_weights(self.name, self.model_dir, name))

    def weights_name(self, settings: Mapping[str, Any]) -> str:
        """File name of the weights for these settings."""
        return f"{self.name}.pt"

    def _missing_weights(self) -> str:
        name = self.weights_name({})
        return "" if find_weights(self.model_dir, name) else missing_weights(self.name, self.model_dir, name)


def find_weights(model_dir: Path, name: str) -> Path | None:
    """Weights trained or put here, else the shipped ones."""
    return next((folder / name for folder in (model_dir, models_dir()) if (folder / name).is_file()), None)


def missing_weights(model: str, model_dir: Path, name: str) -> str:
    """What to do about a model without weights."""
    return (
        f"The model {model} has no weights: {name} is neither in {model_dir} nor among the shipped ones. Train it, or "
        "put a weights file of that name with its card (.json) there."
    )


def check_mr(image: Path, series_uid: str | None = None) -> None:
    """Refuse a DICOM source that says it is no MR; the stages themselves warn only.

    Raises:
        InputError: it does.
    """
    if not may_hold_dicom(image):
        return
    modalities = [series.modality for series in list_series(image) if series_uid in (None, series.uid)]
    if modalities and not {"", "?", "MR"} & set(modalities):
        raise InputError(f"{image.name} is {modalities[0]}, but an MR is needed. Choose the MR series.")


def only_record(output: Path) -> dict[str, Any]:
    """Name and findings of the only case of a run.

    Raises:
        InputError: the image was several cases.
    """
    records = case_records(output)
    if len(records) != 1:
        raise InputError(f"The image holds {len(records)} cases; give one, such as a single series by series_uid.")
    return records[0]
