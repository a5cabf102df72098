"""One case from files to files: read, compare with training, segment, write whole, draw."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.errors import InputError
from medical_gans.inference.cohort import Progress, is_made_from, made_from, recipe, timed
from medical_gans.inference.lesions.dicom_output import LesionDicom
from medical_gans.inference.lesions.lesions import COLUMNS, larger_lesions, lesion_table
from medical_gans.inference.lesions.pictures import CAPTIONS, LesionPictures
from medical_gans.inference.lesions.segmentation import LesionSegmentation, TrainedSegmenter
from medical_gans.io import save_volume
from medical_gans.io.ownership import Origin, Source, source
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.writing import whole_folder
from medical_gans.report import Place, ViewedImage, input_hashes, write_record, write_viewer
from medical_gans.report.cases import CASES_FOLDER
from medical_gans.report.viewer import GREY, MAP, VIEWER
from medical_gans.report.views import Window
from medical_gans.transforms.sequence_volume import Preprocessing, SequenceVolume, read_sequence_case

RUN = "brain_lesion inference"
LABELS = "lesions.nii.gz"
PROBABILITY = "probability.nii.gz"
TABLE = "lesions.csv"
_ON_PAGE = 40  # rows of the table
_COARSE = 2.0  # times the voxel size of training
_MUCH = 0.25  # of the foreground


@dataclass(frozen=True)
class LesionCase:
    """Makes the files of a case under an output folder.

    Attributes:
        segmentation: from sequences to probabilities.
        trained: what is known of its weights.
        output_dir: gets ``<case>/`` with label map and table and ``report/<case>/`` with the pictures.
        weights: SHA-256 of the weights file.
        channels: names of the sequences, in the network's order.
        probabilities: write the probability of each class of lesions too.
        min_volume_ml: smaller lesions are dropped.
        strict: refuse a case that differs from the training images instead of warning.
        dataset_dir: folder that names of inputs are relative to.
        dicom: what is written as DICOM.
        preprocessing: from files to sequences; None takes that of the shipped configs.
        viewer: write the volumes as a page that can be scrolled too.
    """

    segmentation: LesionSegmentation
    trained: TrainedSegmenter
    output_dir: Path
    weights: Sequence[str]
    channels: Sequence[str]
    probabilities: bool = False
    min_volume_ml: float = 0.0
    strict: bool = False
    dataset_dir: str | Path = "."
    dicom: LesionDicom = field(default_factory=LesionDicom)
    preprocessing: Preprocessing | None = None
    viewer: bool = True

    def is_finished(self, case: SequenceCase) -> bool:
        """Whether the case lies whole in the output folder, made from the same by the same."""
        drawn = self.output_dir / CASES_FOLDER / case.name
        wanted = ["case.json", *([VIEWER] if self.viewer else [])]
        return all((drawn / name).is_file() for name in wanted) and is_made_from(
            self.output_dir / case.name, self._made_from(case)
        )

    def sources(self, case: SequenceCase) -> list[Source]:
        """The sequences that a case is made of."""
        return [source(path) for path in case.channels if path is not None]

    def run(self, case: SequenceCase, on_progress: Progress | None = None) -> list[str]:
        """Make all files of a case; after any exception none of them is there.

        Returns:
            Warnings, as sentences.

        Raises:
            InputError: a sequence cannot be used, or `strict` refuses it.
            OutputError: the files cannot be written.
        """
        seconds: dict[str, float] = {}
        with timed(seconds, "read"):
            volume = self._read(case)
            self._check_names(case, volume)
            self.dicom.check(volume.source)
            inputs = self._inputs(case)
        with timed(seconds, "compare"):
            warnings = [*volume.source.notes, *volume.notes, *self.trained.notes, *self._compare(case, volume)]
        with timed(seconds, "segmentation"):
            found = self.segmentation(volume, on_progress)
            probability, label = (
                found.probability,
                larger_lesions(found.label, volume.source.affine, self.min_volume_ml),
            )
        with timed(seconds, "table"):
            rows = lesion_table(
                label,
                probability,
                volume.source.affine,
                classes=self.trained.classes,
                middle_mm=_middle(volume),
            )
            warnings += _about(label, volume)
        origin = Origin(RUN, self.sources(case), self._made_from(case, inputs))
        with whole_folder(self.output_dir / case.name, origin) as folder:
            with timed(seconds, "write"):
                save_volume(folder / LABELS, label, volume.source.affine)
                self._save_probabilities(folder, probability, volume.source.affine)
                write_table(folder / TABLE, rows)
                warnings += self.dicom.save(folder, label, self.trained.classes, volume.source)

            places = [_place(row) for row in rows[:_ON_PAGE]]

            def draw(place: Path) -> Mapping[str, str]:
                with timed(seconds, "pictures"):
                    channels = self._draw(case, volume, label, probability, place)
                if self.viewer:
                    with timed(seconds, "viewer"):
                        self._write_viewer(
                            place / VIEWER, case.name, volume, channels, label, probability, places, warnings
                        )
                return CAPTIONS

            write_record(
                self.output_dir,
                case.name,
                draw=draw,
                tables={"Lesions, the largest first": [_on_page(row) for row in rows[:_ON_PAGE]]} if rows else {},
                metrics={"lesions": len(rows), "volume_ml": sum(row["volume_ml"] for row in rows)},
                warnings=warnings,
                inputs=inputs,
                seconds=seconds,
                places=places if self.viewer else (),
                origin=origin,
            )
        return warnings

    def _read(self, case: SequenceCase) -> SequenceVolume:
        spacing = self.segmentation.spacing
        return read_sequence_case(
            case, self.channels, preprocessing=self.preprocessing, spacing=spacing, strict=self.strict
        )

    def _check_names(self, case: SequenceCase, volume: SequenceVolume) -> None:
        """Refuse DICOM whose own description says that it is another sequence."""
        names = dict.fromkeys([*self.channels, *self.trained.sequences])
        for channel, path in zip(self.channels, case.channels, strict=True):
            description = volume.descriptions.get(channel, "")
            others = [name for name in names if name != channel and _says(description, name)]
            if others and not _says(description, channel):
                raise InputError(
                    f"{path} is given as {channel}, but its series description says {others[0]}. Check the order "
                    "of the sequences, rename the folder, or choose another series by select."
                )

    def _compare(self, case: SequenceCase, volume: SequenceVolume) -> list[str]:
        """What is unlike training, as sentences."""
        empty = [name for name, path in zip(self.channels, case.channels, strict=True) if path is None]
        notes = [f"{name} is declared missing: the network sees nothing in its place." for name in empty]
        coarse = [
            f"{have:.3g} mm where {wanted:.3g} mm were trained"
            for have, wanted in zip(sorted(volume.source.spacing), sorted(self._trained_spacing()), strict=False)
            if have > _COARSE * wanted
        ]
        if coarse:
            notes.append(f"Voxels measure {', '.join(coarse)}: small lesions may be missed, and outlines are coarse.")
        if self.trained.fingerprint is not None:
            source = volume.source
            try:
                notes += self.trained.fingerprint.compare(
                    source.array, source.spacing, source.modality, strict=self.strict
                )
            except InputError as error:
                raise InputError(f"{source.source}: {error}") from error
        return notes

    def _trained_spacing(self) -> list[float]:
        return [edge for edge in self.trained.spacing or () if edge]

    def _save_probabilities(self, folder: Path, probability: np.ndarray, affine: np.ndarray) -> None:
        if not self.probabilities:
            return
        save_volume(folder / PROBABILITY, 1 - probability[0], affine)
        if len(probability) > 2:
            for value in range(1, len(probability)):
                save_volume(folder / f"probability_{value}.nii.gz", probability[value], affine)

    def _draw(
        self, case: SequenceCase, volume: SequenceVolume, label: np.ndarray, probability: np.ndarray, place: Path
    ) -> dict[str, np.ndarray]:
        """Pictures; returns the sequences on the grid of the first one."""
        there = [number for number, path in enumerate(case.channels) if path is not None]
        images = volume.to_source_grid(np.concatenate([volume.image[there], volume.foreground[None]]))
        channels = {self.channels[number]: image for number, image in zip(there, images, strict=False)}
        LesionPictures.from_stored(
            channels,
            images[-1] > 0.5,
            label,
            1 - probability[0],
            volume.source.affine,
            self.trained.classes,
        ).draw(place)
        return channels

    def _write_viewer(
        self,
        path: Path,
        name: str,
        volume: SequenceVolume,
        channels: Mapping[str, np.ndarray],
        label: np.ndarray,
        probability: np.ndarray,
        places: Sequence[Place],
        warnings: Sequence[str],
    ) -> None:
        """Sequences, the first with the numbers of its file, the others as the network saw them; and what was found."""
        first, *others = channels
        images = [ViewedImage(first, volume.source.array, GREY, "")]
        images += [ViewedImage(f"{other} (normalised)", channels[other], GREY, "") for other in others]
        likely = np.rint(1000 * (1 - probability[0])) / 10
        images.append(ViewedImage("probability", likely, MAP, "%", Window(50, 100)))
        classes = self.trained.classes
        outlines = (
            (classes[value] if value < len(classes) else f"class {value}", label == value)
            for value in np.unique(label[label > 0]).tolist()
        )
        write_viewer(
            path,
            name,
            images,
            volume.source.affine,
            structures=outlines,
            places=places,
            warnings=warnings,
            start=places[0].position if places else None,
            shown=range(len(images) - 1),
            faded=(0, len(images) - 1),
        )

    def _inputs(self, case: SequenceCase) -> dict[str, str]:
        return input_hashes(*case.channels, case.mask, dataset_dir=self.dataset_dir)

    def _made_from(self, case: SequenceCase, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
        settings = {
            **self.segmentation.decisive_settings,
            "preprocessing": recipe(self.preprocessing),
            "channels": list(self.channels),
            "missing": [name for name, path in zip(self.channels, case.channels, strict=True) if path is None],
            "probabilities": self.probabilities,
            "min_volume_ml": self.min_volume_ml,
            "write_dicom": self.dicom.write,
            "strict": self.strict,
        }
        return made_from(self.weights, settings, self._inputs(case) if inputs is None else inputs)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write lesions as CSV; without any, the head alone."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([_plain(row[name]) for name in COLUMNS] for row in rows)


def _plain(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def _on_page(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "lesion": str(row["lesion"]),
        "class": row["class"],
        "volume (ml)": f"{row['volume_ml']:.3g}",
        "voxels": str(row["voxels"]),
        "side": row["side"],
        "right, anterior, superior (mm)": ", ".join(
            f"{row[name]:.0f}" for name in ("right_mm", "anterior_mm", "superior_mm")
        ),
        "mean probability": f"{row['mean_probability']:.2f}",
    }


def _place(row: Mapping[str, Any]) -> Place:
    return Place(
        f"lesion {row['lesion']}, {row['class']}, {row['volume_ml']:.3g} ml",
        (float(row["right_mm"]), float(row["anterior_mm"]), float(row["superior_mm"])),
    )


def _middle(volume: SequenceVolume) -> float:
    """Where the middle of the foreground lies along left-right, in mm to the right."""
    counts = volume.foreground.sum(axis=(1, 2)), volume.foreground.sum(axis=(0, 2)), volume.foreground.sum(axis=(0, 1))
    centre = [float((count * np.arange(len(count))).sum() / count.sum()) for count in counts]
    return float(volume.affine[0, :3] @ centre + volume.affine[0, 3])


def _about(label: np.ndarray, volume: SequenceVolume) -> list[str]:
    """What a result itself tells of an image that the network may not know."""
    if not label.any():
        return [
            "No lesion was found. That is no proof that there is none: look at the images, and check that the sequence "
            "is one that the weights know."
        ]
    voxel = abs(np.linalg.det(volume.source.affine[:3, :3]))
    head = volume.foreground.sum() * abs(np.linalg.det(volume.affine[:3, :3]))
    share = float(np.count_nonzero(label) * voxel / head)
    if share < _MUCH:
        return []
    return [
        f"Lesions fill {share:.0%} of what the image shows. The network probably does not know this kind of image: do "
        "not trust the outlines."
    ]


def _says(description: str, name: str) -> bool:
    words, wanted = (re.split(r"[\W_]+", text.casefold()) for text in (description, name))
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words)))
