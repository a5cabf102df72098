"""What the feature network learns from, by which generated nodules are judged, and its test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.data.patches import Transform, images_of
from medical_gans.errors import InputError, SettingError
from medical_gans.evaluation.nodule_sources import JUDGED
from medical_gans.evaluation.nodule_usefulness import REAL, Interval, auc_intervals
from medical_gans.io.nodules import NodulePatches, require_classes, split_by_patient
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import prepare_output
from medical_gans.metrics.radiomics import radiomic_measures
from medical_gans.report import Manifest, Table, input_hashes, write_results_page
from medical_gans.report.nodules import roc_curves
from medical_gans.training.parallel import is_first_process

_EXTREME = 5.0
_BATCH = 128

logger = logging.getLogger(__name__)


class MeasuredNodules:
    """Nodules of training and of test patients with their radiomic measures.

    Args:
        patches: of all patients.
        preprocessing: from HU to what networks see.
        num_measures: that the network learns; must be as many as there are.
        window: HU within which is measured.
        split_fractions: as for the generator, whose test patients must stay unseen.
        split_seed: likewise.

    Attributes:
        training: patches of training patients, whatever the rating.
        test: of test patients.
        images: of `training`, ``(n, 1, *spatial)``.
        malignant: of `training`, ``(n,)``: 1, 0, or NaN where nobody knows.
        measures: of `training`, ``(n, measures)``, in standard deviations of the training patches; beyond 5 cut.
        test_measures: of `test`, likewise.
        names: of the measures.

    Raises:
        InputError: no test patients, a class without samples, or voxels of unknown size.
        SettingError: `num_measures` is another number.
    """

    def __init__(
        self,
        patches: NodulePatches,
        preprocessing: Transform,
        *,
        num_measures: int,
        window: Sequence[float] = (-1000.0, 400.0),
        split_fractions: Sequence[float] = (0.6, 0.1, 0.3),
        split_seed: int = 0,
    ) -> None:
        if not np.isfinite(patches.spacing).all():
            raise InputError("The voxel size of the nodules is not known. Set spacing to mm, such as 0.6.")
        self.training, self.test = (
            split_by_patient(patches, side, split_fractions, split_seed) for side in ("train", "test")
        )
        for chosen, what in ((self.training, "the training patients"), (self.test, "the test patients")):
            require_classes(chosen, JUDGED, what)
        self.preprocessing, self.window = preprocessing, tuple(window)
        self.images = images_of(self.training.hounsfield, preprocessing)
        self.malignant = np.array([0.0, 1.0, np.nan, np.nan])[self.training.label]  # the last for -1, unknown
        self.measures, self.test_measures, self.names = self._measures()
        if len(self.names) != num_measures:
            raise SettingError(
                f"num_measures is {num_measures}, but nodules have {len(self.names)}. Set it to {len(self.names)}."
            )

    def _measures(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        ours, names = radiomic_measures(self.training.hounsfield, self.training.spacing, self.window)
        theirs, _ = radiomic_measures(self.test.hounsfield, self.test.spacing, self.window)
        mean, deviation = ours.mean(0), np.maximum(ours.std(0), 1e-6)
        cut = [np.clip((measures - mean) / deviation, -_EXTREME, _EXTREME) for measures in (ours, theirs)]
        return cut[0], cut[1], names


class FeatureNetworkTest:
    """Tests a trained feature network on test patients.

    Written to `output_dir`: ``report.html``, ``pictures/roc.png`` and ``manifest.json``.

    Args:
        dataset: what it learned from, and the test patients.
        network: trained; of images to the logit of malignancy and the measures.
        output_dir: folder of the training.
        inferer: of (images, network).
        settings: of the training, for the manifest.
        dataset_dir: that the patches were read from, for the manifest.
        device: cpu or cuda.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        dataset: MeasuredNodules,
        network: nn.Module,
        output_dir: str | Path,
        *,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        settings: Mapping[str, Any] | None = None,
        dataset_dir: str | Path = ".",
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.dataset, self.network, self.output_dir, self.inferer = dataset, network, Path(output_dir), inferer
        self.dataset_dir, self.device, self.seed = dataset_dir, torch.device(device), seed
        told = {"dataset_dir": dataset_dir, "window": dataset.window, **(settings or {})}
        self.manifest = Manifest("lung_nodule", "features", settings=told, seed=seed, device=str(device))

    def check_output(self) -> None:
        """Refuse, before a training, to replace what is not ours.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        names = ("report.html", "pictures", "manifest.json")
        prepare_output(self.output_dir, Origin("training"), names, writes=is_first_process())

    def run(self) -> Interval | None:
        """Test, write, and print the figures.

        Returns:
            AUC of malignancy on the test patients; None in all processes but the first.

        Raises:
            OutputError: the folder cannot be written.
        """
        if not is_first_process():
            return None
        self.check_output()
        self.manifest.inputs |= input_hashes(self.dataset_dir, dataset_dir=self.dataset_dir)
        training, test = self.dataset.training, self.dataset.test
        with self.manifest.timed("test"):
            given = self._outputs(test)
        rated = np.isin(test.label, tuple(JUDGED))
        logits, truth = given[rated, 0].astype(np.float64)[None], test.label[rated]
        area = auc_intervals({REAL: logits}, truth == 1, test.patient[rated], self.seed)[0][REAL]
        malignancy = Table(
            f"Malignancy of {len(truth)} nodules of {len(np.unique(test.patient[rated]))} test patients",
            ["AUC (95 %)"],
            [[f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"]],
        )
        explained = self._explained(given[:, 1:])
        roc_curves(self.output_dir / "pictures" / "roc.png", {REAL: logits}, truth, {REAL: "test patients"})
        write_results_page(
            self.output_dir / "report.html",
            "Lung nodules: feature network",
            sentences=[f"It learned from {len(training)} nodules of {len(np.unique(training.patient))} patients."],
            sections=[malignancy, ("pictures/roc.png", "ROC curve of malignancy."), explained],
            settings=self.manifest.settings,
        )
        self.manifest.write(self.output_dir)
        print(malignancy.as_text(), explained.as_text(), sep="\n\n")
        logger.info("The feature network is %s.", self.output_dir / "model.pt")
        return area

    def _outputs(self, patches: NodulePatches) -> np.ndarray:
        """``(n, 1 + measures)`` of all test patches."""
        network, training = self.network.to(self.device), self.network.training
        network.eval()
        batches = images_of(patches.hounsfield, self.dataset.preprocessing).split(_BATCH)
        with torch.inference_mode():
            found = torch.cat([self.inferer(batch.to(self.device), network).cpu() for batch in batches])
        network.train(training)
        return found.float().numpy()

    def _explained(self, given: np.ndarray) -> Table:
        """Share of the variance of each measure that the network knows."""
        wanted = self.dataset.test_measures
        error, variance = np.square(given - wanted).mean(0), wanted.var(0)
        rows = [
            [name, f"{1.0 - missed / whole:.2f}" if whole > 1e-6 else "constant"]
            for name, missed, whole in zip(self.dataset.names, error, variance, strict=True)
        ]
        return Table("Radiomic measures that the features hold", ["measure", "variance explained"], rows)
