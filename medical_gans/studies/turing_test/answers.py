"""Key and answers, read strictly: figures from the wrong file are worse than none."""

from __future__ import annotations

import glob
import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.errors import InputError, SettingError

TRUTHS = ("generated", "real")
FORMAT = 1
_LEVELS = range(1, 6)


@dataclass(frozen=True)
class Key:
    """What the images of a study are, in the order of reading.

    Attributes:
        study: its name, which the answers carry.
        ask_malignancy: whether readers were asked for benign or malignant.
        tokens: names of the images on the page.
        is_real: ``(images,)`` bool.
        malignancy: class of each image, ``unknown`` where it has none.
        source: of each image, as the study was told.
        file: where the key was read.
    """

    study: str
    ask_malignancy: bool
    tokens: Sequence[str]
    is_real: np.ndarray
    malignancy: np.ndarray
    source: Sequence[str]
    file: Path


@dataclass(frozen=True, eq=False)
class Reading:
    """Answers of one reader; images without an answer have NaN, or an empty text.

    Attributes:
        reader: initials.
        years_of_experience: as the reader said.
        rating: ``(images,)`` from -5 (certainly generated) to 5 (certainly real), never 0.
        malignancy: ``(images,)`` ``benign`` or ``malignant``, as judged.
        seconds: ``(images,)`` on the screen.
        file: where the answers were read.
    """

    reader: str
    years_of_experience: int
    rating: np.ndarray
    malignancy: np.ndarray
    seconds: np.ndarray
    file: Path

    @property
    def answered(self) -> np.ndarray:
        """``(images,)`` bool."""
        return np.isfinite(self.rating)


def read_key(path: str | Path | None) -> Key:
    """Read ``key.json`` of a study.

    Raises:
        SettingError: no key is given.
        InputError: it is missing, damaged, or another kind of file.
    """
    if path is None:
        raise SettingError("Give the key of the study: --key FOLDER_OF_THE_STUDY/key.json.")
    path = Path(path)
    if path.is_dir():
        path = path / "key.json"
    if not path.is_file():
        raise InputError(f"There is no key {path}. Give the key.json that was written with the study.")
    try:
        content = _json(path)
        rows = content["images"]
        truths = [row["truth"] for row in rows]
        if content["format"] != FORMAT or not rows or not set(truths) <= set(TRUTHS):
            raise ValueError(content["format"])
        return Key(
            str(content["study"]),
            bool(content["ask_malignancy"]),
            [str(row["id"]) for row in rows],
            np.array(truths) == "real",
            np.array([str(row["malignancy"]) for row in rows]),
            [str(row["source"]) for row in rows],
            path,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no key of a study. Give the key.json that was written with it.") from error


def find_answers(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """Answers files: of a folder all ``answers_*.json``, or all ``.json`` where none has such a name.

    Args:
        given: a file, a folder, a pattern such as ``answers/*.json``, or a list of these.

    Raises:
        InputError: nothing is there.
    """
    found: dict[Path, None] = {}
    for one in [given] if isinstance(given, str | Path) else given:
        path = Path(one)
        if path.is_dir():
            files = sorted(path.glob("answers_*.json")) or sorted(path.glob("*.json"))
        else:
            files = [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(str(one)))]
        if not files:
            raise InputError(f"There are no answers at {one}. Give a file, a folder, or a pattern in quotes.")
        found.update(dict.fromkeys(files))
    return list(found)


def read_answers(files: Sequence[Path], key: Key, *, allow_incomplete: bool = False) -> list[Reading]:
    """Answers of all readers of a study, by initials.

    Raises:
        InputError: files are unreadable, of another study, or edited, a reader is there twice, or answers are
            missing and `allow_incomplete` is false; all of these are named at once.
    """
    readings, problems = [], []
    for file in files:
        try:
            readings.append(_read(file, key))
        except InputError as error:
            problems.append(str(error))
    by_reader: dict[str, list[Reading]] = {}
    for reading in readings:
        by_reader.setdefault(_same_for(reading.reader), []).append(reading)
    for several in by_reader.values():
        if len(several) > 1:
            listed = ", ".join(str(reading.file) for reading in several)
            problems.append(
                f"The reader {several[0].reader} is there {len(several)} times: {listed}. Give one file each."
            )
    for reading in readings:
        missing = int((~reading.answered).sum())
        if missing == len(key.tokens):
            problems.append(f"{reading.file} has no complete answer. Leave it out.")
        elif missing and not allow_incomplete:
            problems.append(
                f"{reading.file}: {missing} of {len(key.tokens)} answers are missing. Let {reading.reader} go on from "
                "this file, or set allow_incomplete=true to analyse what is there."
            )
    if problems:
        raise InputError(" ".join(problems))
    return sorted(readings, key=lambda reading: _same_for(reading.reader))


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON with sorted keys and no spaces, as the page computes it."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _read(file: Path, key: Key) -> Reading:
    try:
        data = _json(file)
    except (ValueError, OSError) as error:
        raise InputError(f"{file} cannot be read as JSON. Ask for the file again as the page saved it.") from error
    content = data.get("content") if isinstance(data, dict) else None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("answers"), list):
        raise InputError(f"{file} is no answers file. Give only files that the page of the study saved.")
    if content.get("study") != key.study:
        raise InputError(f"{file} answers the study {content.get('study')}, but {key.file} is of {key.study}.")
    if data.get("checksum") != checksum(content):
        raise InputError(f"{file} was edited after the page had saved it. Ask the reader for the original.")
    try:
        return _reading(content, key, file)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} has answers that the page cannot give ({error}). Ask for the original.") from error


def _reading(content: Mapping[str, Any], key: Key, file: Path) -> Reading:
    place = {token: index for index, token in enumerate(key.tokens)}
    rating = np.full(len(place), np.nan)
    seconds = np.full(len(place), np.nan)
    malignancy = np.full(len(place), "", dtype="U9")
    for answer in content["answers"]:
        index = place.pop(answer["id"])
        if answer["confidence"] is None or (key.ask_malignancy and answer["malignancy"] is None):
            continue
        if answer["confidence"] not in _LEVELS or answer["judgement"] not in TRUTHS:
            raise ValueError(answer["id"])
        rating[index] = answer["confidence"] * (1 if answer["judgement"] == "real" else -1)
        seconds[index] = answer["milliseconds"] / 1000
        malignancy[index] = answer["malignancy"] or ""
    return Reading(str(content["reader"]), int(content["years_of_experience"]), rating, malignancy, seconds, file)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _same_for(reader: str) -> str:
    return unicodedata.normalize("NFC", reader).strip().casefold()
