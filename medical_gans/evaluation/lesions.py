"""How well segmenters find lesions on patients with labels, and what adaptation closes of the gap between domains."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medical_gans.errors import InputError, SettingError
from medical_gans.evaluation.lesion_features import FeaturePicture, LesionFeatureSpace
from medical_gans.evaluation.lesion_figures import DEFINITIONS, Scores, lost_words
from medical_gans.evaluation.lesion_methods import (
    ADAPTED,
    SOURCE_ONLY,
    LesionMethod,
    Segment,
    TrainedSegmenter,
    image_hashes,
    load_member,
    parse_methods,
    patient_roles,
    role_notes,
    shown_file,
    stored_prediction,
)
from medical_gans.evaluation.lesion_pictures import outlines
from medical_gans.evaluation.lesion_results import PICTURES, Findings, write_findings
from medical_gans.evaluation.nodule_output import check_own_output
from medical_gans.io.ownership import Origin
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.volumes import check_same_grid
from medical_gans.io.writing import whole_folder
from medical_gans.metrics.segmentation import segmentation_metrics
from medical_gans.report import Manifest, input_hashes
from medical_gans.report.manifest import sha256
from medical_gans.transforms.sequence_volume import SequenceVolume

_WORKFLOW, _STAGE = "brain_lesion", "evaluate"

logger = logging.getLogger(__name__)


class LesionEvaluation:
    """Judges segmenters, and predictions made before, over cases with labels.

    Written to `output_dir`, whole or not at all: ``metrics.csv`` and ``metrics.json``, ``report.html`` with
    ``pictures/``, ``manifest.json``. Every case is read and checked before the first one is segmented.

    Args:
        weights: methods by name, see `lesion_methods.parse_methods`; ``source_only``, ``adapted`` and ``oracle`` have
            a meaning, other names are free.
        find_cases: `io.sequences.find_sequence_cases` of the data set, its labels and masks: takes ``channels``,
            ``missing`` and ``labels_required``.
        read_case: `io.sequences.read_sequence_case` with the classes of the labels: takes a case, names of its
            channels, and ``spacing``.
        load_segmenter: gives of ``weights`` and ``channels`` a network of its own: `inference.lesions.load_segmenter`.
        segmentation: makes of a network and ``spacing`` what segments a volume: `inference.lesions.LesionSegmentation`.
        output_dir: folder for everything written; an earlier evaluation there is replaced.
        channels: sequences, in the network's order.
        missing: sequences that no method gets.
        num_classes: background included.
        spacing: mm; None takes that of each card.
        exclude: cases left out, such as those used without labels for adaptation.
        feature_space: measures the features of source only and adapted; None, or one without a source, leaves it out.
        dataset_dir: that the cases come from, for the manifest.
        device: where the networks are, for the manifest.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        weights: Mapping[str, Any] | str | Path | None,
        find_cases: Callable[..., list[SequenceCase]],
        read_case: Callable[..., SequenceVolume],
        load_segmenter: Callable[..., TrainedSegmenter],
        segmentation: Callable[..., Segment],
        output_dir: str | Path,
        *,
        channels: Sequence[str],
        missing: Sequence[str] = (),
        num_classes: int = 2,
        spacing: Sequence[float | None] | None = None,
        exclude: Sequence[str] = (),
        feature_space: LesionFeatureSpace | None = None,
        dataset_dir: str | Path = ".",
        device: Any = "cpu",
        seed: int = 0,
    ) -> None:
        self.find_cases, self.read_case, self.output_dir = find_cases, read_case, Path(os.path.realpath(output_dir))
        self.channels, self.missing, self.num_classes = tuple(channels), tuple(missing), num_classes
        self.exclude, self.dataset_dir, self.seed = tuple(exclude), dataset_dir, seed
        self.feature_space = feature_space if feature_space is not None and feature_space.source_dir else None
        self.methods = parse_methods(weights, channels, missing)
        self.members = {
            method.name: [
                load_member(method, file, load_segmenter, segmentation, spacing=spacing, num_classes=num_classes)
                for file in method.files
            ]
            for method in self.methods
        }
        settings = {
            "dataset_dir": dataset_dir,
            "weights": weights,
            **{name: getattr(self, name) for name in ("channels", "missing", "num_classes", "exclude")},
            "spacing": spacing,
            **(self.feature_space.settings if self.feature_space else {}),
        }
        self.manifest = Manifest(_WORKFLOW, _STAGE, settings=settings, seed=seed, device=str(device))
        for method in self.methods:
            for number, file in enumerate(method.files):
                if not file.is_dir():
                    self.manifest.weights[f"{method.name}, seed {number}: {shown_file(file)}"] = sha256(file)

    def run(self) -> dict[str, Scores]:
        """Judge, write the results and print the tables.

        Returns:
            Class of lesions -> figures of all methods, seeds and cases.

        Raises:
            InputError: no case with a label, or a case, label or prediction that cannot be used.
            SettingError: `exclude` names no case, or sequences do not fit the weights.
            OutputError: `output_dir` cannot be written, or holds something else.
        """
        origin = self._origin([])
        check_own_output(self.output_dir, origin)
        with self.manifest.timed("read"):
            cases = self._cases()
            origin = self._origin(cases)
            check_own_output(self.output_dir, origin)
            seen = {method.name: self._seen_by(method, cases) for method in self.methods}
            self._check(cases)
        roles = patient_roles(image_hashes(cases), self.members, self.exclude)
        with whole_folder(self.output_dir, origin) as folder:
            with self.manifest.timed("feature space"):
                spaces = self._feature_spaces(seen)
            values, pictures = self._judge_all(cases, seen, roles, folder)
            classes = self._classes()
            scores = {
                name: Scores([case.name for case in cases], {m: found[:, :, place] for m, found in values.items()})
                for place, name in enumerate(classes)
            }
            files = {method.name: method.files for method in self.methods}
            findings = Findings(scores, roles, files, pictures, spaces, role_notes(roles, self.exclude))
            tables = write_findings(folder, findings, self.manifest, self.seed)
        said = [*lost_words(scores), *findings.notes, *self.manifest.warnings]
        print("\n\n".join([*(table.as_text() for table in tables), "\n".join(said)]))
        logger.info("Results are in %s; begin with its report.html.", self.output_dir)
        return scores

    def _origin(self, cases: Sequence[SequenceCase]) -> Origin:
        files = [path for case in cases for path in (*case.channels, case.label, case.mask) if path is not None]
        files += [file for method in self.methods for file in method.files]
        return Origin(f"{_WORKFLOW} {_STAGE}", inputs=files)

    def _cases(self) -> list[SequenceCase]:
        cases = self.find_cases(channels=self.channels, missing=self.missing, labels_required=True)
        names = {case.name for case in cases}
        unknown = [name for name in self.exclude if name not in names]
        if unknown:
            raise SettingError(f"exclude names {unknown[0]}, which is no case. There are {', '.join(sorted(names))}.")
        left = [case for case in cases if case.name not in self.exclude]
        if not left:
            raise InputError(f"exclude leaves none of the {len(cases)} cases to judge. Exclude fewer.")
        if any(case.label is None for case in left):
            raise InputError("There are cases without a label map, and nothing to judge them by. Name it with label.")
        return left

    def _seen_by(self, method: LesionMethod, cases: Sequence[SequenceCase]) -> list[SequenceCase]:
        """The cases as a method sees them, in the order of `cases`."""
        if all(file.is_dir() for file in method.files):
            return list(cases)
        found = {case.name: case for case in self.find_cases(channels=method.channels, missing=method.missing)}
        lost = [case.name for case in cases if case.name not in found]
        if lost:
            raise InputError(f"{method.name} sees {', '.join(method.channels)}, which case {lost[0]} has not.")
        return [found[case.name] for case in cases]

    def _check(self, cases: Sequence[SequenceCase]) -> None:
        """Read everything once: a bad label is to cost seconds, not hours."""
        for case in tqdm(cases, desc="check", unit="case", leave=False):
            volume = self.read_case(case, self.channels, spacing=None)
            for member in (one for members in self.members.values() for one in members):
                if member.network is None:
                    stored_prediction(member.file, case.name, volume.source, self.num_classes)
            files = (*case.channels, case.label, case.mask)
            self.manifest.inputs |= input_hashes(*files, dataset_dir=self.dataset_dir)
            for note in volume.notes:
                self.manifest.add_warning(f"{case.name}: {note}")

    def _judge_all(
        self,
        cases: Sequence[SequenceCase],
        seen: Mapping[str, Sequence[SequenceCase]],
        roles: Mapping[str, str],
        folder: Path,
    ) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
        """By method ``(seed, case, class, figure)``, and the pictures with their captions."""
        classes = self.num_classes - 1
        values = {
            name: np.zeros((len(members), len(cases), classes, len(DEFINITIONS)))
            for name, members in self.members.items()
        }
        pictures = []
        for place, case in enumerate(tqdm(cases, desc="cases", unit="case")):
            truth = self.read_case(case, self.channels, spacing=None)
            first, read = {}, dict[Any, SequenceVolume]()
            for method in self.methods:
                with self.manifest.timed("segment"):
                    found = self._predictions(method, seen[method.name][place], truth, read)
                with self.manifest.timed("figures"):
                    for seed, label in enumerate(found):
                        values[method.name][seed, place] = _figures(label, truth, classes)
                first[method.name] = found[0]
            with self.manifest.timed("pictures"):
                dice = {name: found[0, place, :, 0].mean() for name, found in values.items()}
                pictures.append(_draw(folder, place, case.name, truth, first, dice, roles[case.name]))
        return values, pictures

    def _predictions(
        self, method: LesionMethod, case: SequenceCase, truth: SequenceVolume, read: dict[Any, SequenceVolume]
    ) -> list[np.ndarray]:
        """Label maps of all seeds, on the grid of the label; `read` keeps the case for methods that see the same."""
        found = []
        for member in self.members[method.name]:
            if member.segment is None:
                found.append(stored_prediction(member.file, case.name, truth.source, self.num_classes))
                continue
            key = method.channels, method.missing, member.spacing
            if key not in read:
                read[key] = self.read_case(case, method.channels, spacing=member.spacing)
                check_same_grid(truth.source, read[key].source)
            found.append(member.segment(read[key]).label)
        return found

    def _feature_spaces(self, seen: Mapping[str, Sequence[SequenceCase]]) -> list[FeaturePicture]:
        if self.feature_space is None:
            return []
        able = [method for method in self.methods if self.members[method.name][0].network is not None]
        chosen = [method for method in able if method.name in (SOURCE_ONLY, ADAPTED)] or able
        if not chosen:
            self.manifest.add_warning("There is no feature space: no method has weights, only predictions.")
        return [
            self.feature_space.measure(method, self.members[method.name][0], seen[method.name], self.read_case)
            for method in chosen
        ]

    def _classes(self) -> list[str]:
        """Names of the classes of lesions: of a card that has as many, else numbered."""
        for member in (one for members in self.members.values() for one in members):
            if member.card is not None and len(member.card.classes) == self.num_classes:
                return list(member.card.classes[1:])
        return ["lesion"] if self.num_classes == 2 else [f"class {number}" for number in range(1, self.num_classes)]


def _figures(label: np.ndarray, truth: SequenceVolume, classes: int) -> np.ndarray:
    """``(class, figure)``."""
    assert truth.source_label is not None
    found = [
        segmentation_metrics(label == number, truth.source_label == number, truth.source.spacing)
        for number in range(1, classes + 1)
    ]
    return np.array([[figures[name] for name in DEFINITIONS] for figures in found])


def _draw(
    folder: Path,
    number: int,
    case: str,
    truth: SequenceVolume,
    predictions: Mapping[str, np.ndarray],
    dice: Mapping[str, float],
    role: str,
) -> tuple[str, str]:
    """Picture of a case, and its caption."""
    assert truth.source_label is not None
    file = f"{PICTURES}/case_{number}.png"
    words = {
        name: f"Dice {value:.3f}" + ("" if predictions[name].any() else ", nothing found")
        for name, value in dice.items()
    }
    outlines(folder / file, truth.source.array, truth.source.affine, truth.source_label, predictions, words)
    return file, f"{case} ({role}): outlines of truth and prediction where most of the lesion is; first seed."
