"""Outlines of brain lesions, and training on the outlines that users have corrected."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.interfaces.tasks.train import TrainTask

from lib.devices import device, devices
from lib.http_errors import http_errors
from lib.requests import StageSettings, truth
from lib.running import run_stage
from lib.stage_task import Answer, StageTask, check_mr, find_weights, only_record
from medical_gans.cli.config_files import configs_dir, read_config
from medical_gans.errors import InputError
from medical_gans.io.formats import holds_dicom_images
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.io.writing import whole_file
from medical_gans.weights import WeightsCard

_WEIGHTS = "brain_lesion.pt"
_SEQUENCES = ("FLAIR",)


class BrainLesion(StageTask):
    """uint8 classes on the grid of the MR."""

    def __init__(self, model_dir: Path) -> None:
        super().__init__(
            "brain_lesion",
            "brain_lesion_inference",
            model_dir,
            about="Outlines of brain lesions in MR, by a network that adapts to another scanner. Give one sequence, "
            "or the folder of a case with a file or DICOM series for each sequence of the network, named after it.",
            tag="original",
            kind=InferType.SEGMENTATION,
            labels={"lesion": 1},
            options={"min_volume_ml": 0.0, "strict": False},
        )

    def answer(
        self, image: Path, settings: dict[str, Any], besides: Mapping[str, Any], request: Mapping[str, Any], work: Path
    ) -> Answer:
        settings.setdefault("channels", self._channels(WeightsCard.of(self.weights(settings))))
        check_mr(image)
        dataset = image
        if image.is_file() or holds_dicom_images(image):
            dataset = work / "case.json"
            entry = {"image": [str(image.resolve())], "name": "case"}
            dataset.write_text(json.dumps({"inference": [entry]}), encoding="utf-8")
        output = self.run(dataset, {**settings, "write_dicom": False}, work)
        record = only_record(output)
        facts = {name: record[name] for name in ("warnings", "tables")}
        return Answer(output / record["name"] / "lesions.nii.gz", facts)

    def _channels(self, card: WeightsCard | None) -> list[str]:
        """Sequences that the weights are for; FLAIR where their card does not tell."""
        names = [] if card is None else card.target_channels or card.channels
        return list(names) or list(_SEQUENCES)


class BrainLesionTraining(TrainTask):
    """Trains the segmenter on the images whose label is final: the source side of brain_lesion train, no target.

    The weights are put into the app's folder ``model/``, where inference looks first.

    Args:
        model_dir: that folder.
    """

    name = "brain_lesion"
    stage = "brain_lesion_train"

    def __init__(self, model_dir: Path) -> None:
        super().__init__("Learns from the images with a final label; inference takes the weights at once.")
        self.model_dir = model_dir
        more = {"pretrained": "go on from the weights there are, with their sequences, voxel size and network"}
        self.settings = StageSettings(self.stage, more)
        shown = ("max_epochs", "batch_size", "learning_rate", "views_per_epoch", "seed")
        self._config = {name: self.settings.defaults[name] for name in shown}

    def config(self) -> dict[str, Any]:
        return {"pretrained": True, **self._config, "device": devices()}

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, with the meaning of each option."""
        return {**super().info(), "options": {name: self.settings.comments[name] for name in self.config()}}

    def stats(self) -> dict[str, Any]:
        """Of the last training here."""
        file = self.model_dir / "brain_lesion_training.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Returns:
            Figures for people.

        Raises:
            HTTPException: 422, no image has a final label, or settings or images cannot be used.
        """
        with http_errors():
            return self._train(request, datastore)

    def _train(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        begin = time.perf_counter()
        settings, besides, _ = self.settings.of(request)
        settings = {**self._start(truth("pretrained", besides.get("pretrained", True))), **settings}
        channels = settings.get("channels") or read_config(configs_dir() / f"{self.stage}.yaml")["channels"]
        with tempfile.TemporaryDirectory(prefix="brain_lesion_train_") as work:
            dataset = Path(work, "labelled.json")
            entries = [_entry(pair, channels) for pair in datastore.datalist()]
            if not entries:
                raise InputError("No image of the studies has a final label to learn from. Save one, then train.")
            dataset.write_text(json.dumps({"training": entries}), encoding="utf-8")
            places = {"dataset_dir": str(dataset), "output_dir": f"{work}/run", "target_dir": None}
            run_stage(self.stage, {**settings, **places, "device": device(settings.get("device"))})
            self._publish(Path(work, "run"))
        figures = {"cases": len(entries), "seconds": round(time.perf_counter() - begin, 1), "weights": _WEIGHTS}
        with whole_file(self.model_dir / "brain_lesion_training.json") as temporary:
            temporary.write_text(json.dumps(figures), encoding="utf-8")
        return figures

    def _start(self, pretrained: bool) -> dict[str, Any]:
        """Settings that go on from the weights there are."""
        weights = find_weights(self.model_dir, _WEIGHTS) if pretrained else None
        card = WeightsCard.of(weights) if weights is not None else None
        if weights is None or card is None or not card.network_def:
            return {}
        spacing = list(card.spacing) if any(card.spacing) else None
        start: dict[str, Any] = {"initial_weights": str(weights), "spacing": spacing}
        start |= {"channels": list(card.channels), "class_names": list(card.classes)}
        return {**start, "num_classes": len(card.classes), "network_def": dict(card.network_def)}

    def _publish(self, run: Path) -> None:
        """The card first: weights are never seen without it."""
        self.model_dir.mkdir(parents=True, exist_ok=True)
        for suffix in (".json", ".pt"):
            with whole_file(self.model_dir / Path(_WEIGHTS).with_suffix(suffix)) as temporary:
                shutil.copyfile(run / f"model{suffix}", temporary)


def _entry(pair: Mapping[str, Any], channels: list[str]) -> dict[str, Any]:
    """The entry of a data list for an image and its label."""
    image = Path(pair["image"])
    images = [str(image)]
    if image.is_dir() and not holds_dicom_images(image):
        (case,) = find_sequence_cases(image, channels)
        images = [str(path) for path in case.channels if path is not None]
    return {"image": images, "label": str(pair["label"]), "name": image.name}
