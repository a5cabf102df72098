"""Anomaly detection on a data set: scores, difference maps, pictures and figures in one folder."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from medical_gans.data.lung_patches import LungPatches
from medical_gans.data.patches import Transform, images_of
from medical_gans.errors import InputError, SettingError
from medical_gans.inference.anomaly.detector import LatentSearch, TrainedDetector, reconstructed
from medical_gans.inference.anomaly.scores import SCORES, anomaly_scores
from medical_gans.io.nodules.patch_files import save_patch
from medical_gans.io.ownership import Origin, data_set, remove_ours
from medical_gans.io.writing import prepare_output, whole_file, whole_folder
from medical_gans.metrics.roc import Auc, auc_with_interval, has_both
from medical_gans.report import Manifest, input_hashes
from medical_gans.report.anomalies import draw_patches, draw_scores, write_anomaly_page

METHODS = ("f_anogan", "anogan")
MAPS = "maps"
_STAGE = "anomaly"

logger = logging.getLogger(__name__)


class AnomalyScoring:
    """Scores patches by how unlike normal lung they are.

    Written to `output_dir`: ``scores.csv``, ``maps/<name>.nii.gz`` (patch minus reconstruction, int16 HU),
    ``patches.png``, ``scores.png`` (with the ROC curve where there are labels), ``figures.csv`` (AUC of each score,
    with labels), ``report.html`` and ``manifest.json``.

    Patches that the weights were trained or chosen on are left out, unless `include_seen`: they look more normal than
    they are.

    Args:
        patches: to score.
        trained: detector and what is known of its training.
        output_dir: folder to write to.
        method: ``f_anogan`` (encoder) or ``anogan`` (search, slower).
        score: name of the score that ranks patches (`scores.SCORES`); all are written.
        preprocessing: from HU to what networks see, as in training.
        inferer: see `detector.reconstructed`; of ``f_anogan`` only.
        search: of the latent vectors; of ``anogan`` only.
        anogan_lambda: weight of the features in AnoGAN's score.
        kappa: weight of the features in f-AnoGAN's score.
        include_seen: score patches of training and validation as well.
        max_patches: score this many at most, drawn at random; None scores all.
        maps: write the difference maps.
        batch_size: patches at once.
        dataset_dir: for the manifest.
        device: where to compute.
        seed: of every random choice.

    Raises:
        SettingError: unknown method or score, or a number out of range.
    """

    def __init__(
        self,
        patches: LungPatches,
        trained: TrainedDetector,
        output_dir: str | Path,
        *,
        method: str = "f_anogan",
        score: str = "fitted",
        preprocessing: Transform,
        inferer: Callable[..., Tensor] | None = None,
        search: LatentSearch | None = None,
        anogan_lambda: float = 0.1,
        kappa: float = 1.0,
        include_seen: bool = False,
        max_patches: int | None = None,
        maps: bool = True,
        batch_size: int = 64,
        dataset_dir: str | Path = ".",
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if method not in METHODS:
            raise SettingError(f"method is '{method}'; choose {' or '.join(METHODS)}.")
        if score not in SCORES:
            raise SettingError(f"score is '{score}'; choose {', '.join(SCORES)}.")
        if score == "fitted" and trained.fitted is None:
            raise SettingError(
                "score is 'fitted', but there were no nodules to fit it on when the weights were trained. "
                "Choose blob, or another that needs none."
            )
        if batch_size < 1 or (max_patches is not None and max_patches < 1):
            raise SettingError(f"batch_size is {batch_size} and max_patches {max_patches}; give 1 or more.")
        self.device = torch.device(device)
        self.trained, self.output_dir, self.score, self.maps = trained, Path(output_dir), score, maps
        self.detector = trained.detector.to(self.device)
        self.method, self.batch_size, self.seed, self.dataset_dir = method, batch_size, seed, dataset_dir
        self.preprocessing, self.inferer = preprocessing, inferer
        self.search = (search or LatentSearch(self.detector, seed=seed)) if method == "anogan" else None
        self.weights = {"anogan_lambda": anogan_lambda, "kappa": kappa}
        self.manifest = Manifest(
            "lung_nodule",
            _STAGE,
            settings={
                "dataset_dir": str(dataset_dir),
                "method": method,
                "score": score,
                "include_seen": include_seen,
                "max_patches": max_patches,
                **self.weights,
                **(
                    {f"search_{name}": getattr(self.search, name) for name in ("steps", "weight")}
                    if self.search
                    else {}
                ),
            },
            seed=seed,
            device=str(self.device),
        )
        self.origin = Origin(f"lung_nodule {_STAGE}", [data_set(dataset_dir)], inputs=[Path(trained.file)])
        self.sides, self.patches = self._chosen(patches, include_seen, max_patches)

    def run(self) -> dict[str, Auc]:
        """Score everything and write the folder.

        Returns:
            AUC by score; empty without labels of both kinds.

        Raises:
            OutputError: the folder cannot be written or holds another run.
        """
        self._prepare_output()
        self.manifest.add_weights(self.trained.file)
        self.manifest.inputs = input_hashes(self.dataset_dir, dataset_dir=self.dataset_dir)
        images = images_of(self.patches.hounsfield, self.preprocessing)
        with self.manifest.timed("reconstruction"):
            made = self._reconstructions(images)
        fitted = self.trained.fitted
        with self.manifest.timed("scores"), torch.inference_mode():
            parts = [
                anomaly_scores(self.detector, one.to(self.device), two.to(self.device), fitted=fitted, **self.weights)
                for one, two in zip(images.split(self.batch_size), made.split(self.batch_size), strict=True)
            ]
        scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        percentile = np.full(len(images), np.nan)
        if self.method == "f_anogan":
            percentile = self.trained.percentile(self.score, scores[self.score])
        labels = self.patches.is_nodule
        known = labels >= 0
        figures = {}
        if has_both(labels):
            figures = {
                name: auc_with_interval(labels[known], one[known], seed=self.seed) for name, one in scores.items()
            }
        with self.manifest.timed("files"):
            self._write(images, made, scores, percentile, figures)
        return figures

    def _chosen(
        self, patches: LungPatches, include_seen: bool, max_patches: int | None
    ) -> tuple[np.ndarray, LungPatches]:
        """Sides and patches that are to be scored."""
        if patches.window != self.trained.window:
            raise SettingError(
                f"window is {list(patches.window)} HU, but the weights were trained with {list(self.trained.window)}. "
                "Set window as it was in training."
            )
        if patches.hounsfield.shape[1] != self.detector.size:
            raise SettingError(
                f"size is {patches.hounsfield.shape[1]}, but the weights were trained with {self.detector.size}."
            )
        sides = self.trained.side(patches)
        kept = np.arange(len(patches)) if include_seen else np.flatnonzero(sides == "unseen")
        if len(kept) < len(patches):
            self.manifest.add_warning(
                f"{len(patches) - len(kept)} of {len(patches)} patches are left out: the weights were trained or "
                "chosen on them. Set include_seen to score them as well."
            )
        if not len(kept):
            raise InputError("The weights were trained or chosen on every patch given. Give others.")
        if max_patches is not None and len(kept) > max_patches:
            kept = np.sort(np.random.default_rng(self.seed).choice(kept, max_patches, replace=False))
            self.manifest.add_warning(f"{max_patches} patches were drawn at random; set max_patches to null for all.")
        return sides[kept], patches.select(kept)

    def _prepare_output(self) -> None:
        """Prove that results can be written, and clear what an earlier run left."""
        names = ("scores.csv", "figures.csv", "patches.png", "scores.png", "report.html", "manifest.json")
        prepare_output(self.output_dir, self.origin, names, [(MAPS, self.origin)])
        for name in names:
            (self.output_dir / name).unlink(missing_ok=True)
        remove_ours(self.output_dir / MAPS, self.origin.run)

    def _reconstructions(self, images: Tensor) -> Tensor:
        if self.search is None:
            return reconstructed(self.detector, images.to(self.device), self.batch_size, self.inferer).cpu()
        parts = images.split(self.batch_size)
        found = []
        with tqdm(total=len(parts) * self.search.steps, desc="search", unit="step") as bar:
            for part in parts:
                found.append(self.search(part.to(self.device), bar.update).cpu())
        return torch.cat(found)

    def _write(
        self,
        images: Tensor,
        made: Tensor,
        scores: Mapping[str, np.ndarray],
        percentile: np.ndarray,
        figures: Mapping[str, Auc],
    ) -> None:
        difference = (images - made)[:, 0].numpy() * (self.patches.window[1] - self.patches.window[0]) / 2
        self._write_scores(scores, percentile)
        if figures:
            self._write_figures(figures)
        if self.maps:
            self._write_maps(difference)
        patches, order = self.patches, np.argsort(-scores[self.score], kind="stable")
        groups = {"most unusual": order, "least unusual": order[::-1]}
        drawn = np.random.default_rng(self.seed).permutation(len(patches))
        if figures:
            groups["nodules, at random"] = drawn[patches.is_nodule[drawn] == 1]
            groups["normal patches, at random"] = drawn[patches.is_nodule[drawn] == 0]
        draw_patches(images[:, 0].numpy(), made[:, 0].numpy(), difference, groups, self.output_dir / "patches.png")
        draw_scores(patches.is_nodule, scores, self.score, figures, self.output_dir / "scores.png")
        write_anomaly_page(
            self.output_dir,
            patches.is_nodule,
            method=self.method,
            score=self.score,
            meanings=SCORES,
            figures=figures,
            warnings=self.manifest.warnings,
            settings=self.manifest.settings,
        )
        self.manifest.write(self.output_dir)
        logger.info("Results are in %s; begin with its report.html.", self.output_dir)
        if figures:
            print(f"AUC of nodule against normal by {self.score}: {figures[self.score]}")

    def _write_scores(self, scores: Mapping[str, np.ndarray], percentile: np.ndarray) -> None:
        with whole_file(self.output_dir / "scores.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "is_nodule", "side", "percentile", *scores])
            for index, name in enumerate(self.patches.name):
                label, place = int(self.patches.is_nodule[index]), percentile[index]
                row = ["" if label < 0 else label, self.sides[index], "" if np.isnan(place) else f"{place:.4f}"]
                writer.writerow([name, *row, *(f"{one[index]:.6g}" for one in scores.values())])

    def _write_figures(self, figures: Mapping[str, Auc]) -> None:
        counts = [int((self.patches.is_nodule == label).sum()) for label in (1, 0)]
        with whole_file(self.output_dir / "figures.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["score", "auc", "low", "high", "nodules", "normal"])
            writer.writerows([name, *(f"{value:.4f}" for value in auc), *counts] for name, auc in figures.items())

    def _write_maps(self, difference: np.ndarray) -> None:
        edges = self.patches.spacing
        if np.isnan(edges).any():
            self.manifest.add_warning("The voxel size is not known; the maps are written with 1 mm.")
            edges = (1.0, 1.0)
        with whole_folder(self.output_dir / MAPS, self.origin) as folder:
            for name, one in zip(self.patches.name, difference, strict=True):
                save_patch(folder / f"{name}.nii.gz", np.rint(one), edges)
