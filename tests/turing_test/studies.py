"""Small studies, and answers as the page writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.io.nodules import NodulePatches
from medical_gans.studies.turing_test import TuringStudy
from medical_gans.studies.turing_test.answers import checksum
from medical_gans.studies.turing_test.nodules import StudyNodules

CLASSES = ("benign", "malignant", "indeterminate")


def nodules(number: int, seed: int, size: int = 6) -> StudyNodules:
    """Noise, half of it benign."""
    rng = np.random.default_rng(seed)
    hounsfield = rng.integers(-1000, 400, (number, size, size)).astype(np.int16)
    malignancy = [CLASSES[index % 2] for index in range(number)]
    return StudyNodules(hounsfield, malignancy, [f"case{seed}_{index}" for index in range(number)], (0.6, 0.6))


def patches(number: int = 60, seed: int = 0, size: int = 8) -> NodulePatches:
    """Noise of `number` patients with all ratings."""
    rng = np.random.default_rng(seed)
    return NodulePatches(
        rng.integers(-1000, 400, (number, size, size)).astype(np.int16),
        (1 + np.arange(number) % 5).astype(np.int8),
        np.array([f"PATIENT-{index}" for index in range(number)]),
        np.array([f"PATIENT-{index}_nodule" for index in range(number)]),
        (0.6, 0.6),
    )


class NoiseSampler:
    """In place of a trained generator."""

    spacing = (0.6, 0.6)
    size = 8

    def __init__(self, classes: Sequence[str] = CLASSES) -> None:
        self.classes = tuple(classes)

    def label_of(self, name: str) -> int:
        return self.classes.index(name)

    def generate(
        self, seeds: Sequence[int], labels: Sequence[int | None], truncation: float | None = None
    ) -> np.ndarray:
        del truncation
        assert len(seeds) == len(labels)
        shape = (self.size, self.size)
        return np.stack([np.random.default_rng(seed).integers(-1000, 400, shape) for seed in seeds]).astype(np.int16)


def write_study(folder: Path, number: int = 4, **settings: Any) -> dict[str, Any]:
    """A study of so many real and generated nodules; returns its key."""
    given = {"num_real": number, "num_generated": number, "split": "all", **settings}
    TuringStudy(patches, NoiseSampler, folder, **given).run()  # type: ignore[arg-type]
    return json.loads((folder / "key.json").read_text())


def answers_file(
    path: Path, key: Mapping[str, Any], ratings: Sequence[int | None], reader: str = "AB", **changes: Any
) -> Path:
    """Answers with ratings from -5 to 5 in the order of the key; None leaves an image out."""
    answers = [
        {
            "id": image["id"],
            "judgement": "real" if rating > 0 else "generated",
            "confidence": abs(rating),
            "malignancy": "benign" if key["ask_malignancy"] else None,
            "milliseconds": 1500,
        }
        for image, rating in zip(key["images"], ratings, strict=True)
        if rating is not None
    ]
    content = {
        "format": 1,
        "study": key["study"],
        "reader": reader,
        "years_of_experience": 7,
        "saved": "2026-01-31T12:00:00Z",
        "images": len(key["images"]),
        "answers": answers,
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"content": content, "checksum": checksum(content)}))
    return path


def truthful(key: Mapping[str, Any], confidence: int = 3) -> list[int]:
    """Ratings of a reader who is always right."""
    return [confidence if image["truth"] == "real" else -confidence for image in key["images"]]
