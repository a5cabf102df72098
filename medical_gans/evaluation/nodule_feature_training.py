"""Training of the feature network by which generated nodules are judged."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medical_gans.errors import InputError
from medical_gans.evaluation.nodule_classification import Budget, images_of, malignancy_logits, train_classifier
from medical_gans.evaluation.nodule_output import check_own_output
from medical_gans.evaluation.nodule_pictures import roc_curves
from medical_gans.evaluation.nodule_sources import JUDGED
from medical_gans.evaluation.nodule_usefulness import REAL, Interval, auc_intervals
from medical_gans.io.nodules import NodulePatches, require_classes, split_by_patient
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import whole_folder
from medical_gans.metrics.radiomics import radiomic_measures
from medical_gans.networks.nodule_classifier import NoduleClassifier
from medical_gans.report import Manifest, Table, input_hashes, write_results_page
from medical_gans.training.checkpoints import WeightsCard, save_weights

_STAGE = "features"
_EXTREME = 5.0
_BATCH = 128

logger = logging.getLogger(__name__)


class NoduleFeatureTraining:
    """Teaches a `NoduleClassifier` malignancy and the radiomic measures, on training patients only.

    Malignancy alone would leave features that see nothing else; the measures make them see place, edge, texture,
    sharpness and noise. Written to `output_dir`: ``model.pt`` with its card, ``report.html``, ``manifest.json``.

    Args:
        read_patches: gives the nodules.
        network: makes the classifier of its number of measures.
        output_dir: folder for everything written; an earlier training there is replaced.
        window: HU that become [-1, 1].
        split_fractions, split_seed: as for the generator, whose test patients must stay unseen.
        budget: of the training.
        dataset_dir: that the patches were read from, for the manifest.
        device: cpu or cuda.
        seed: of initial weights, order and augmentation.
    """

    def __init__(
        self,
        read_patches: Callable[[], NodulePatches],
        network: Callable[..., NoduleClassifier],
        output_dir: str | Path,
        *,
        window: Sequence[float] = (-1000.0, 400.0),
        split_fractions: Sequence[float] = (0.6, 0.1, 0.3),
        split_seed: int = 0,
        budget: Budget | None = None,
        dataset_dir: str | Path = ".",
        device: Any = "cpu",
        seed: int = 0,
    ) -> None:
        self.read_patches, self.network = read_patches, network
        self.output_dir, self.origin = Path(os.path.realpath(output_dir)), Origin(f"lung_nodule {_STAGE}")
        self.window, self.split_fractions, self.split_seed = tuple(window), tuple(split_fractions), split_seed
        self.budget, self.dataset_dir, self.device, self.seed = budget or Budget(), dataset_dir, str(device), seed
        settings: dict[str, Any] = {
            "dataset_dir": dataset_dir,
            "window": self.window,
            "split_fractions": self.split_fractions,
        }
        settings |= {"split_seed": split_seed, **vars(self.budget)}
        self.manifest = Manifest("lung_nodule", _STAGE, settings=settings, seed=seed, device=self.device)

    def run(self) -> Interval:
        """Train, test, write, and print the figures.

        Returns:
            AUC of malignancy on the test patients.

        Raises:
            InputError: no test patients, a class without samples, or voxels of unknown size.
            OutputError: `output_dir` cannot be written, or holds something else.
        """
        check_own_output(self.output_dir, self.origin)
        with self.manifest.timed("read"):
            training, test = self._read()
        with self.manifest.timed("measures"):
            measures, wanted, names = self._measures(training, test)
        with self.manifest.timed("training"):
            torch.manual_seed(self.seed)
            network = self.network(num_measures=measures.shape[1])
            truth = np.array([0.0, 1.0, np.nan, np.nan])[training.label]  # the last for -1, unknown
            images = images_of(training.hounsfield, self.window)
            train_classifier(
                network,
                images,
                truth,
                measures,
                budget=self.budget,
                seed=self.seed,
                device=self.device,
                progress="feature network",
            )
        with self.manifest.timed("test"):
            rated = test.select(np.isin(test.label, tuple(JUDGED)))
            logits = malignancy_logits(network, images_of(rated.hounsfield, self.window), self.device)[None]
            area = auc_intervals({REAL: logits}, rated.label == 1, rated.patient, self.seed)[0][REAL]
            malignancy = Table(
                f"Malignancy of {len(rated)} nodules of {len(np.unique(rated.patient))} test patients",
                ["AUC (95 %)"],
                [[f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"]],
            )
            explained = self._explained(network, test, wanted, names)
        with whole_folder(self.output_dir, self.origin) as folder:
            save_weights(folder / "model.pt", network)
            self._card(network, training.spacing).save(folder / "model.pt")
            roc_curves(folder / "pictures" / "roc.png", {REAL: logits}, rated.label, {REAL: "test patients"})
            write_results_page(
                folder / "report.html",
                "Lung nodules: feature network",
                sentences=[f"It learned from {len(training)} nodules of {len(np.unique(training.patient))} patients."],
                sections=[malignancy, ("pictures/roc.png", "ROC curve of malignancy."), explained],
                settings=self.manifest.settings,
            )
            self.manifest.write(folder)
        print(malignancy.as_text(), explained.as_text(), sep="\n\n")
        logger.info("The feature network is %s.", self.output_dir / "model.pt")
        return area

    def _read(self) -> tuple[NodulePatches, NodulePatches]:
        """Training and test patients, whatever the rating."""
        patches = self.read_patches()
        if not np.isfinite(patches.spacing).all():
            raise InputError("The voxel size of the nodules is not known. Set spacing to mm, such as 0.6.")
        training, test = (
            split_by_patient(patches, s, self.split_fractions, self.split_seed) for s in ("train", "test")
        )
        for chosen, what in ((training, "the training patients"), (test, "the test patients")):
            require_classes(chosen, JUDGED, what)
        self.manifest.inputs |= input_hashes(self.dataset_dir, dataset_dir=self.dataset_dir)
        return training, test

    def _measures(self, training: NodulePatches, test: NodulePatches) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Radiomic measures of both in standard deviations of the training patches, and their names."""
        ours, names = radiomic_measures(training.hounsfield, training.spacing, self.window)
        theirs, _ = radiomic_measures(test.hounsfield, test.spacing, self.window)
        mean, deviation = ours.mean(0), np.maximum(ours.std(0), 1e-6)
        cut = [np.clip((x - mean) / deviation, -_EXTREME, _EXTREME) for x in (ours, theirs)]
        return cut[0], cut[1], names

    def _explained(
        self, network: NoduleClassifier, test: NodulePatches, wanted: np.ndarray, names: Sequence[str]
    ) -> Table:
        """Share of the variance of each measure that the network knows."""
        with torch.inference_mode():
            batches = images_of(test.hounsfield, self.window).split(_BATCH)
            given = torch.cat([network(batch.to(self.device))[:, 1:].cpu() for batch in batches]).numpy()
        error, variance = np.square(given - wanted).mean(0), wanted.var(0)
        rows = [
            [name, f"{1.0 - missed / whole:.2f}" if whole > 1e-6 else "constant"]
            for name, missed, whole in zip(names, error, variance, strict=True)
        ]
        return Table("Radiomic measures that the features hold", ["measure", "variance explained"], rows)

    def _card(self, network: NoduleClassifier, spacing: Sequence[float]) -> WeightsCard:
        return WeightsCard(
            spacing=list(spacing), network=network.arguments, classes=list(JUDGED.values()), window=list(self.window)
        )
