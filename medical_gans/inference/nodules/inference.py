"""Nodules as files, each with what is needed to make it again."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medical_gans.inference.nodules.sampling import NoduleSampler, Sample
from medical_gans.io import whole_file, whole_folder
from medical_gans.io.nodules import save_patch
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import prepare_output
from medical_gans.report import Manifest, write_results_page
from medical_gans.report.nodules import draw_grid

logger = logging.getLogger(__name__)

_SHOWN = 32
"""Nodules of a class in the picture."""


class NoduleInference:
    """Makes nodules and writes them.

    Written to `output_dir`: ``nodules/nodule_0001_benign.nii.gz`` and so on (int16 HU with voxel size), ``samples.csv``
    (file, latent_seed, class, truncation), ``samples.png``, ``report.html``, ``manifest.json``.

    Args:
        sampler: trained generator.
        samples: to be made.
        output_dir: folder for everything written; its folder ``nodules`` is replaced.
        truncation: keeps the latent numbers within minus and plus this; None for none.
        weights: file that the sampler was loaded from.
        seed: for the manifest.
    """

    def __init__(
        self,
        sampler: NoduleSampler,
        samples: Sequence[Sample],
        output_dir: str | Path,
        *,
        weights: str | Path,
        truncation: float | None = None,
        seed: int = 0,
    ) -> None:
        self.sampler = sampler
        self.samples = list(samples)
        self.output_dir = Path(output_dir)
        self.truncation = truncation
        classes = sorted({sample.malignancy for sample in self.samples})
        settings = {"num_samples": len(self.samples), "classes": classes, "truncation": truncation}
        self.manifest = Manifest("lung_nodule", "inference", settings=settings, seed=seed, device=str(sampler.device))
        self.manifest.add_weights(weights)
        self.origin = Origin("lung_nodule inference", inputs=[Path(weights)])

    def run(self) -> None:
        """Make and write all nodules.

        Raises:
            SettingError: truncation or a latent seed is out of range.
            OutputError: results cannot be written.
        """
        latents = [self.sampler.latent(sample.latent_seed, self.truncation) for sample in self.samples]
        names = ("samples.csv", "samples.png", "report.html", "manifest.json")
        prepare_output(self.output_dir, self.origin, names, [("nodules", self.origin)])
        digits = max(4, len(str(len(self.samples))))
        shown: dict[str, list[tuple[str, np.ndarray]]] = {}
        rows = []
        with self.manifest.timed("nodules"), whole_folder(self.output_dir / "nodules", self.origin) as folder:
            pairs = zip(self.samples, latents, strict=True)
            for number, (sample, latent) in enumerate(tqdm(pairs, "nodules", len(latents), unit="nodule"), start=1):
                nodule = self.sampler.decode(latent, sample.label)
                file = save_patch(
                    folder / f"nodule_{number:0{digits}d}_{sample.malignancy}.nii.gz", nodule, self.sampler.spacing
                )
                truncation = "" if self.truncation is None else self.truncation
                rows.append([f"nodules/{file.name}", sample.latent_seed, sample.malignancy, truncation])
                group = shown.setdefault(sample.malignancy, [])
                if len(group) < _SHOWN:
                    group.append((str(number), nodule))
        with whole_file(self.output_dir / "samples.csv") as temporary, temporary.open("w", newline="") as stream:
            csv.writer(stream).writerows([["file", "latent_seed", "class", "truncation"], *rows])
        draw_grid(dict(sorted(shown.items())), self.sampler.window, self.output_dir / "samples.png")
        self._report()

    def _report(self) -> None:
        size = " x ".join(f"{edge:g}" for edge in self.sampler.spacing)
        low, high = self.sampler.window
        count = len(self.samples)
        write_results_page(
            self.output_dir / "report.html",
            "Generated lung nodules",
            sentences=[
                f"{count} nodule{'s' * (count > 1)}, voxels of {size} mm, in the folder nodules. samples.csv names the "
                "latent seed of each: with the same weights, class and truncation it makes the same nodule again."
            ],
            sections=[
                (
                    "samples.png",
                    f"At most {_SHOWN} of each class, with their numbers; {low:g} HU is black, {high:g} "
                    "white. The patient's front is at the top, the patient's right on the left.",
                )
            ],
            settings=self.manifest.settings,
        )
        self.manifest.write(self.output_dir)
        logger.info("Nodules are in %s; begin with its report.html.", self.output_dir)
