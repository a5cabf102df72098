"""From the answers of the readers to figures, tables, pictures and a page."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.errors import OutputError
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import prepare_output, whole_file
from medical_gans.report import Manifest
from medical_gans.report.manifest import sha256
from medical_gans.report.page import publishable
from medical_gans.report.reader_study import draw_figures, draw_images, write_report
from medical_gans.studies.turing_test.answers import Key, Reading, find_answers, read_answers, read_key
from medical_gans.studies.turing_test.figures import (
    DEFINITIONS,
    Agreement,
    Figure,
    agreements,
    reader_figures,
    roc_points,
)
from medical_gans.studies.turing_test.page import images_of_page
from medical_gans.studies.turing_test.study import KEY, PAGE

ALL_READERS = "all readers"
Table = Mapping[tuple[str, str], Mapping[str, Figure]]
"""(reader, class) -> name -> figure."""

_NAMES = ("figures.csv", "figures.json", "figures.png", "images.csv", "images.png", "report.html", "manifest.json")

logger = logging.getLogger(__name__)


class TuringAnalysis:
    """Analyses the answers to a study.

    Written to `output_dir`: ``report.html`` with ``figures.png`` and, where the page of the study lies beside its key,
    ``images.png``; ``figures.csv`` and ``figures.json``; ``images.csv`` with the judgements of each image;
    ``manifest.json``.

    Args:
        answers: a file, a folder, a pattern, or a list of these.
        key: of the study.
        output_dir: folder for the results.
        allow_incomplete: analyse what is there where readers left images out.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        answers: str | Path | Sequence[str | Path],
        key: str | Path | None,
        output_dir: str | Path,
        *,
        allow_incomplete: bool = False,
        seed: int = 0,
    ) -> None:
        self.answers, self.key, self.output_dir = answers, key, Path(output_dir)
        self.allow_incomplete, self.seed = allow_incomplete, seed

    def run(self) -> None:
        """Analyse and write.

        Raises:
            SettingError: no key is given.
            InputError: key or answers cannot be used; see `answers.read_answers`.
            OutputError: the folder holds the study itself, or cannot be written.
        """
        key = read_key(self.key)
        files = find_answers(self.answers)
        readings = read_answers(files, key, allow_incomplete=self.allow_incomplete)
        if (self.output_dir / KEY).exists():
            raise OutputError(f"{self.output_dir} holds a study. Choose another output_dir for its analysis.")
        origin = Origin("lung_nodule turing_test, analysis", inputs=[key.file, *files])
        prepare_output(self.output_dir, origin, _NAMES)
        settings = {
            "answers": [file.name for file in files],
            "key": key.file,
            "allow_incomplete": self.allow_incomplete,
        }
        manifest = Manifest("lung_nodule", "turing_test", settings=settings, seed=self.seed)
        manifest.inputs = {file.name: sha256(file) for file in (key.file, *files)}
        for sentence in _incomplete(readings):
            manifest.add_warning(sentence)
            logger.warning(sentence)
        rating = np.stack([reading.rating for reading in readings])
        figures = figure_table(readings, key, self.seed)
        agreement = agreements([reading.reader for reading in readings], rating, key.is_real, self.seed)
        has_images = self._draw(figures, readings, key)
        _write_tables(self.output_dir, figures, agreement, readings, key)
        write_report(
            self.output_dir / "report.html",
            key.study,
            figures,
            agreement,
            years_of_experience={reading.reader: reading.years_of_experience for reading in readings},
            counts=(int(key.is_real.sum()), int((~key.is_real).sum())),
            has_images=has_images,
            definitions=DEFINITIONS,
            warnings=manifest.warnings,
        )
        manifest.write(self.output_dir)
        for (reader, malignancy), found in figures.items():
            if malignancy == "all":
                logger.info("%s: %s", reader, _sentence(found))
        logger.info("Results are in %s; begin with its report.html.", self.output_dir)

    def _draw(self, figures: Table, readings: Sequence[Reading], key: Key) -> bool:
        overall = {reader: found for (reader, malignancy), found in figures.items() if malignancy == "all"}
        curves = {reading.reader: roc_points(reading.rating, key.is_real) for reading in readings}
        draw_figures(self.output_dir / "figures.png", overall, curves)
        images = images_of_page(key.file.parent / PAGE, key.study)
        if not images:
            return False
        draw_images(self.output_dir / "images.png", _telling_images(images, readings, key))
        return True


def figure_table(readings: Sequence[Reading], key: Key, seed: int) -> dict[tuple[str, str], dict[str, Figure]]:
    """Figures of each reader and, of several, over all; for all images and for each class."""
    groups = [(reading.reader, [reading]) for reading in readings]
    if len(readings) > 1:
        groups.append((ALL_READERS, list(readings)))
    classes = {"all": np.ones(len(key.tokens), dtype=bool)}
    names = np.unique(key.malignancy)
    if len(names) > 1:
        classes |= {str(name): key.malignancy == name for name in names}
    return {
        (reader, name): _figures_of(group, key, chosen, seed)
        for reader, group in groups
        for name, chosen in classes.items()
    }


def _figures_of(group: Sequence[Reading], key: Key, chosen: np.ndarray, seed: int) -> dict[str, Figure]:
    is_class_right = None
    if key.ask_malignancy:
        judged = np.stack([reading.malignancy for reading in group])
        is_class_right = np.where(judged == "", np.nan, judged == key.malignancy)[:, chosen]
    return reader_figures(
        np.stack([reading.rating for reading in group])[:, chosen],
        key.is_real[chosen],
        np.stack([reading.seconds for reading in group])[:, chosen],
        is_class_right,
        seed,
    )


def _incomplete(readings: Iterable[Reading]) -> list[str]:
    return [
        f"{reading.reader} left {int((~reading.answered).sum())} of {len(reading.rating)} images without an answer."
        for reading in readings
        if not reading.answered.all()
    ]


def _telling_images(
    images: Mapping[str, np.ndarray], readings: Sequence[Reading], key: Key
) -> dict[str, list[tuple[np.ndarray, str]]]:
    """Images that say most about the generator, by their mean rating."""
    rating = _mean_rating(readings)

    def row(is_real: bool, sign: int) -> list[tuple[np.ndarray, str]]:
        order = [i for i in np.argsort(sign * rating, kind="stable") if key.is_real[i] == is_real]
        return [
            (images[key.tokens[i]], f"{key.malignancy[i]}, {rating[i]:+.1f}")
            for i in order
            if math.isfinite(rating[i]) and sign * rating[i] < 0
        ]

    return {
        "generated, and judged real (mean rating from \N{MINUS SIGN}5 to 5)": row(False, -1),
        "generated, and recognised": row(False, 1),
        "real, and judged generated": row(True, 1),
    }


def _mean_rating(readings: Sequence[Reading]) -> np.ndarray:
    rating = np.stack([reading.rating for reading in readings])
    known = np.isfinite(rating)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, rating, 0.0).sum(axis=0) / known.sum(axis=0))


def _write_tables(
    folder: Path, figures: Table, agreement: Sequence[Agreement], readings: Sequence[Reading], key: Key
) -> None:
    rows = [
        {"reader": reader, "class": malignancy, "figure": name, **_plain(figure)}
        for (reader, malignancy), found in figures.items()
        for name, figure in found.items()
    ]
    _write_csv(folder / "figures.csv", rows)
    mean = _mean_rating(readings)
    _write_csv(
        folder / "images.csv",
        [
            {
                "id": token,
                "truth": "real" if key.is_real[i] else "generated",
                "class": str(key.malignancy[i]),
                "source": key.source[i],
                "readers": sum(bool(reading.answered[i]) for reading in readings),
                "judged_real": sum(bool(reading.rating[i] > 0) for reading in readings),
                "mean_rating": round(float(mean[i]), 3) if math.isfinite(mean[i]) else None,
            }
            for i, token in enumerate(key.tokens)
        ],
    )
    content = {
        "study": key.study,
        "readers": [
            {
                "reader": reading.reader,
                "years_of_experience": reading.years_of_experience,
                "answers": int(reading.answered.sum()),
            }
            for reading in readings
        ],
        "figures": rows,
        "agreement": [{"readers": row.readers, "method": row.method, **_plain(row.kappa)} for row in agreement],
        "definitions": DEFINITIONS,
    }
    with whole_file(folder / "figures.json") as temporary:
        temporary.write_text(json.dumps(publishable(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _plain(figure: Figure) -> dict[str, Any]:
    """Six significant digits, None where not defined."""

    def plain(value: float) -> float | None:
        return float(f"{value:.6g}") if math.isfinite(value) else None

    return {"value": plain(figure.value), "low": plain(figure.low), "high": plain(figure.high), "n": figure.n}


def _sentence(found: Mapping[str, Figure]) -> str:
    return ", ".join(
        f"{name} {found[name].value:.2f} ({found[name].low:.2f} to {found[name].high:.2f})"
        for name in ("accuracy", "auc", "frr", "trr")
    )
