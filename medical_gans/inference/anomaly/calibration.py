"""Last part of a training: what scores held-out normal patches get, and how well nodules stand out."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medical_gans.data.lung_views import AnomalySplit
from medical_gans.data.patches import Transform, images_of
from medical_gans.inference.anomaly.detector import detector_card, reconstructed
from medical_gans.inference.anomaly.scores import SCORES, anomaly_scores, fit_score, quantiles
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import prepare_output, whole_file
from medical_gans.metrics.roc import Auc, auc_with_interval, has_both
from medical_gans.networks.anomaly_detector import AnomalyDetector
from medical_gans.training.parallel import is_first_process
from medical_gans.weights import save_weights

logger = logging.getLogger(__name__)


class Calibration:
    """Scores the validation patches and writes ``model.pt``, its card, and ``validation.csv``.

    Where they hold nodules, the weights of the score ``fitted`` are fitted to them; its figure in ``validation.csv`` is
    cross-validated.

    The test patches are not touched: judge them once with ``medical-gans lung_nodule anomaly``.

    Args:
        detector: trained.
        split: its validation side is scored, and told to the card with the training side.
        output_dir: folder to write to.
        network_def: as it was configured, for the card.
        preprocessing: from HU to what networks see.
        inferer: see `detector.reconstructed`.
        kappa: weight of the features in f-AnoGAN's score.
        anogan_lambda: weight of the features in AnoGAN's score.
        device: where the detector is.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        split: AnomalySplit,
        output_dir: str | Path,
        *,
        network_def: Mapping[str, Any],
        preprocessing: Transform,
        inferer: Callable[..., Tensor] | None = None,
        kappa: float = 1.0,
        anogan_lambda: float = 0.1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.detector, self.split, self.network_def = detector, split, dict(network_def)
        self.output_dir, self.device = Path(output_dir), torch.device(device)
        self.preprocessing, self.inferer = preprocessing, inferer
        self.kappa, self.anogan_lambda = kappa, anogan_lambda

    def check_output(self) -> None:
        """Refuse, before hours of training, to replace what is not ours.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        names = ("model.pt", "model.json", "validation.csv")
        prepare_output(self.output_dir, Origin("lung_nodule anomaly_train"), names, writes=is_first_process())

    def run(self) -> dict[str, Auc]:
        """AUC of each score on the validation patches; empty where they hold no nodule.

        Raises:
            OutputError: the folder cannot be written.
        """
        if not is_first_process():
            return {}
        self.check_output()
        patches = self.split.validation
        images = images_of(patches.hounsfield, self.preprocessing).to(self.device)
        made = reconstructed(self.detector, images, inferer=self.inferer)
        with torch.inference_mode():
            scores = anomaly_scores(self.detector, images, made, kappa=self.kappa, anogan_lambda=self.anogan_lambda)
        normal, fitted = patches.is_nodule == 0, None
        if min(int(normal.sum()), int((~normal).sum())) > 1:
            fitted, scores["fitted"] = fit_score(scores, patches.is_nodule)
        known = quantiles({name: one[normal] for name, one in scores.items()})
        card = detector_card(self.split, self.network_def, known, fitted)
        save_weights(self.output_dir / "model.pt", self.detector)
        card.save(self.output_dir / "model.pt")
        figures = {}
        if has_both(patches.is_nodule):
            figures = {name: auc_with_interval(patches.is_nodule, one) for name, one in scores.items()}
            self._write(figures, normal)
            best = max(figures, key=lambda name: figures[name].value)
            logger.info("Validation: AUC %s by %s; weights in %s.", figures[best], best, self.output_dir / "model.pt")
        return figures

    def _write(self, figures: Mapping[str, Auc], normal: np.ndarray) -> None:
        with whole_file(self.output_dir / "validation.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["score", "auc", "low", "high", "nodules", "normal", "meaning"])
            for name, auc in figures.items():
                shown = [f"{value:.4f}" for value in auc]
                writer.writerow([name, *shown, int((~normal).sum()), int(normal.sum()), SCORES[name]])
