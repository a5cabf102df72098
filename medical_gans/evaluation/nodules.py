"""How good generated nodules are: near to real ones, varied, no copies, and of use to a classifier."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from medical_gans.data.patches import Transform
from medical_gans.errors import InputError, SettingError
from medical_gans.evaluation.nodule_classification import Budget
from medical_gans.evaluation.nodule_features import Features, NetworkFeatures, RadiomicFeatures, ScriptFeatures
from medical_gans.evaluation.nodule_figures import FLOOR, Figures, Samples, distances_to_training, judge, plan_halves
from medical_gans.evaluation.nodule_output import check_own_output
from medical_gans.evaluation.nodule_results import TRAINING, Findings, write_findings
from medical_gans.evaluation.nodule_sources import (
    JUDGED,
    GeneratedNodules,
    check_same_patches,
    generate_nodules,
    read_generated,
    samplers_by_class,
    samplers_of_weights,
)
from medical_gans.evaluation.nodule_usefulness import Labelled, Usefulness, usefulness
from medical_gans.inference.nodules.sampling import NoduleSampler
from medical_gans.io.nodules import NodulePatches, require_classes, split_by_patient
from medical_gans.io.ownership import Origin, data_set
from medical_gans.io.writing import whole_folder
from medical_gans.report import Manifest, input_hashes
from medical_gans.report.manifest import sha256

_STAGE = "evaluate"

logger = logging.getLogger(__name__)


class NoduleEvaluation:
    """Judges one or several generators against test patients, with real patients themselves as the floor.

    Written to `output_dir`, whole or not at all: ``metrics.csv`` and ``metrics.json``, ``report.html`` with
    ``pictures/``, ``manifest.json``. The feature network, the generators and the classifiers learn from training
    patients; everything is judged on test patients.

    Args:
        read_patches: gives the real nodules.
        load_sampler: gives the trained generator; not called where `generated` is given.
        output_dir: folder for everything written; an earlier evaluation there is replaced.
        weights: of the generator, for its name and the manifest.
        generated: output folder of an inference run that is judged instead of new nodules.
        compare: further generators, by name: a weights file with its card, or ``{"benign": file, "malignant": file}``.
        num_generated: nodules made of each class.
        truncation: of latent numbers, see `NoduleSampler.latent`.
        features: weights of the feature network.
        extractor: TorchScript file of a further one, see `ScriptFeatures`.
        extractor_size: pixels that it wants.
        extractor_range: values that it wants.
        window: HU of black and white.
        split_fractions: as in training.
        split_seed: as in training.
        k: neighbours that make a manifold.
        repeats: random halves of the test patients.
        trainings: of each classifier; 0 leaves usefulness out.
        preprocessing: from HU to what the classifiers see.
        classifier: makes one, untrained.
        inferer: of the generators in `compare`, see `NoduleSampler`.
        budget: of each of its trainings.
        dataset_dir: that the patches were read from, for the manifest.
        device: cpu or cuda.
        seed: of generation, halves, trainings and bootstrap.
    """

    def __init__(
        self,
        read_patches: Callable[[], NodulePatches],
        load_sampler: Callable[[], NoduleSampler],
        output_dir: str | Path,
        *,
        weights: str | Path,
        generated: str | Path | None = None,
        compare: Mapping[str, Any] | None = None,
        num_generated: int = 500,
        truncation: float | None = None,
        features: str | Path,
        extractor: str | Path | None = None,
        extractor_size: int = 224,
        extractor_range: Sequence[float] = (0.0, 1.0),
        window: Sequence[float] = (-1000.0, 400.0),
        split_fractions: Sequence[float] = (0.6, 0.1, 0.3),
        split_seed: int = 0,
        k: int = 5,
        repeats: int = 100,
        trainings: int = 3,
        preprocessing: Transform,
        classifier: Callable[[], nn.Module],
        inferer: Callable[..., Tensor] | None = None,
        budget: Budget | None = None,
        dataset_dir: str | Path = ".",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.read_patches, self.load_sampler, self.output_dir = read_patches, load_sampler, Path(output_dir)
        self.weights, self.generated, self.compare = Path(weights), generated, dict(compare or {})
        self.num_generated, self.truncation = num_generated, truncation
        self.features, self.extractor = Path(features), extractor
        self.extractor_size, self.extractor_range = extractor_size, extractor_range
        self.window, self.split_fractions, self.split_seed = tuple(window), tuple(split_fractions), split_seed
        self.k, self.repeats, self.trainings = k, repeats, trainings
        self.preprocessing, self.classifier, self.inferer = preprocessing, classifier, inferer
        self.budget, self.dataset_dir, self.device, self.seed = budget or Budget(), dataset_dir, str(device), seed
        self.output_dir = Path(os.path.realpath(output_dir))
        given = [self.weights, features, extractor, generated, *self.compare.values()]
        inputs = [Path(path) for path in given if isinstance(path, str | Path)]
        inputs += data_set(dataset_dir).paths
        self.origin = Origin(f"lung_nodule {_STAGE}", inputs=inputs)
        self.name = "generated" if generated is not None else self.weights.stem
        settings = {
            name: getattr(self, name)
            for name in (
                *("dataset_dir", "weights", "generated", "compare", "num_generated", "truncation", "features"),
                *("extractor", "window", "split_fractions", "split_seed", "k", "repeats", "trainings"),
            )
        }
        self.manifest = Manifest(
            "lung_nodule", _STAGE, settings={**settings, **vars(self.budget)}, seed=seed, device=self.device
        )

    def run(self) -> Figures:
        """Judge, write the results and print the tables.

        Returns:
            (classes, features, samples) -> figure -> value.

        Raises:
            InputError: no test patients, a class without samples, too few samples, another patch size, or files that
                cannot be read.
            SettingError: a setting is out of range, or a name is given twice.
            OutputError: `output_dir` cannot be written, or holds something else.
        """
        check_own_output(self.output_dir, self.origin)
        taken = {FLOOR, TRAINING, self.name} & set(self.compare)
        if taken:
            raise SettingError(f"compare gives the name {taken.pop()!r}, which the table already has. Choose another.")
        timed = self.manifest.timed
        with timed("read"):
            training, test = self._read()
            extractors = self._extractors(training)
        with timed("generate"):
            generators = self._generators(test)
        labels = {TRAINING: training.label} | {name: nodules.label for name, nodules in generators.items()}
        plans = plan_halves(test.label, test.patient, labels, k=self.k, repeats=self.repeats, seed=self.seed)
        with timed("features"):
            samples, nearest = self._samples(extractors, training, test, generators)
        with timed("figures"):
            candidates = {name: samples[name] for name in labels}
            span = self.window[1] - self.window[0]
            figures = judge(samples[FLOOR], candidates, plans, data_range=span, k=self.k, seed=self.seed)
        with timed("classifiers"):
            useful = self._usefulness(training, test, generators) if self.trainings else None
        findings = Findings(figures, useful, samples, nearest, training.hounsfield)
        with whole_folder(self.output_dir, self.origin) as folder:
            tables = write_findings(folder, findings, self.manifest, self.window, self.seed)
        print("\n\n".join([*(table.as_text() for table in tables), *self.manifest.warnings]))
        logger.info("Results are in %s; begin with its report.html.", self.output_dir)
        return figures

    def _read(self) -> tuple[NodulePatches, NodulePatches]:
        """All nodules of training patients, benign and malignant ones of test patients."""
        patches = self.read_patches()
        found = []
        for split, what in (("train", "the training patients"), ("test", "the test patients")):
            chosen = split_by_patient(patches, split, self.split_fractions, self.split_seed)
            if not len(chosen):
                raise InputError(f"There are no {split} patients. Give them a share in split_fractions.")
            require_classes(chosen, JUDGED, what)
            found.append(chosen)
        self.manifest.inputs |= input_hashes(self.dataset_dir, dataset_dir=self.dataset_dir)
        training, test = found
        return training, test.select(np.isin(test.label, tuple(JUDGED)))

    def _generators(self, test: NodulePatches) -> dict[str, GeneratedNodules]:
        """Generated nodules by name, the main generator first."""
        loaded: dict[str, tuple[dict[str, NoduleSampler], dict[str, Path]]] = {}
        found = {}
        if self.generated is not None:
            found[self.name] = read_generated(self.generated)
        else:
            loaded[self.name] = samplers_by_class(self.load_sampler()), {"weights": self.weights}
        for name, weights in self.compare.items():
            loaded[name] = samplers_of_weights(weights, self.device, self.inferer)
        for name, (samplers, files) in loaded.items():
            for kind, file in files.items():
                self.manifest.weights[f"{name}, {kind}: {file.name}"] = sha256(file)
            found[name] = generate_nodules(
                samplers, self.num_generated, seed=self.seed, truncation=self.truncation, name=name
            )
        for name, nodules in found.items():
            check_same_patches(test, nodules, name)
            if not nodules.has_classes:
                self.manifest.add_warning(
                    f"{name} has no classes: it is judged for benign and malignant together only, and no classifier "
                    "can learn from it."
                )
        return found

    def _samples(
        self,
        extractors: Mapping[str, Features],
        training: NodulePatches,
        test: NodulePatches,
        generators: Mapping[str, GeneratedNodules],
    ) -> tuple[dict[str, Samples], dict[str, dict[str, np.ndarray]]]:
        """All sets with their features, and by generator and kind the index of the nearest training patch."""
        sets: dict[str, NodulePatches | GeneratedNodules] = {TRAINING: training, FLOOR: test, **generators}
        features = {
            name: {kind: extract(nodules.hounsfield) for kind, extract in extractors.items()}
            for name, nodules in tqdm(sets.items(), desc="features", unit="set", leave=False)
        }
        # a training patch is its own nearest: 0 apart
        nothing = dict.fromkeys((*extractors, "pixels"), np.zeros(len(training)))
        samples = {TRAINING: Samples(training.hounsfield, training.label, features[TRAINING], nothing)}
        nearest = {}
        for name, nodules in sets.items():
            if name != TRAINING:
                apart, nearest[name] = distances_to_training(
                    nodules.hounsfield, features[name], training.hounsfield, features[TRAINING]
                )
                samples[name] = Samples(nodules.hounsfield, nodules.label, features[name], apart)
        return samples, nearest

    def _extractors(self, training: NodulePatches) -> dict[str, Features]:
        self.manifest.add_weights(self.features)
        found: dict[str, Features] = {
            "network": NetworkFeatures(self.features, training.spacing, self.device),
            "radiomic": RadiomicFeatures(training.hounsfield, training.spacing, self.window),
        }
        if self.extractor is not None:
            found["extractor"] = ScriptFeatures(
                self.extractor,
                self.window,
                size=self.extractor_size,
                value_range=self.extractor_range,
                device=self.device,
            )
            self.manifest.add_weights(self.extractor)
        return found

    def _usefulness(
        self, training: NodulePatches, test: NodulePatches, generators: Mapping[str, GeneratedNodules]
    ) -> Usefulness:
        return usefulness(
            _labelled(training),
            {name: _labelled(nodules) for name, nodules in generators.items() if nodules.has_classes},
            _labelled(test),
            test.patient,
            preprocessing=self.preprocessing,
            budget=self.budget,
            trainings=self.trainings,
            classifier=self.classifier,
            seed=self.seed,
            device=self.device,
        )


def _labelled(nodules: NodulePatches | GeneratedNodules) -> Labelled:
    """The benign and malignant ones."""
    judged = np.isin(nodules.label, tuple(JUDGED))
    return Labelled(nodules.hounsfield[judged], nodules.label[judged] == 1)
