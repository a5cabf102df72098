"""Names of cases that are safe and unique, and the patient that each case belongs to."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from medical_gans.errors import InputError
from medical_gans.io.layouts import SPLITS, Located

_TAKEN = frozenset({"report", "report.html", "manifest.json", "made_from.json", "lesions.csv", "dose.csv", "dose.json"})
_OF_SYSTEMS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST = 120  # bytes
_SESSION = re.compile(
    r"((ses|session|series|scan|visit|study|time|day|week|month|tp|baseline|follow)[-_ ]?\w*|\d{8})$", re.IGNORECASE
)
_BIDS_SUBJECT = re.compile(r"sub-([a-z0-9]+)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s_.\-]+")


def file_name(text: str) -> str:
    """A text as the name of a file that every system takes, none hides, and no file of a run has."""
    name = re.sub(r"[^\w.-]+", "_", text).lstrip(".").rstrip(".") or "case"
    if len(name.encode()) > _LONGEST:
        short = name.encode()[: _LONGEST - 9].decode(errors="ignore")
        name = f"{short}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name}_case" if name.casefold() in _TAKEN or _OF_SYSTEMS.fullmatch(name) else name


def unique_names(located: Sequence[Located]) -> list[str]:
    """One name per case: its own, with the folders before it where that says too little.

    Raises:
        InputError: two cases have the same name and nothing to tell them apart.
    """
    same_place = Counter(_place(one) for one in located)
    for one in located:
        if same_place[_place(one)] > 1:
            same = [other for other in located if _place(other) == _place(one)]
            listed = ", ".join(str(next(iter(other.images.values()))) for other in same[:2])
            raise InputError(
                f"{len(same)} cases have the same name {one.parts[-1]}, so they would overwrite each "
                f"other's results ({listed}). Rename them, and list each only once."
            )
    return _names(located, _depths(located))


def patients_of(located: Sequence[Located]) -> list[str]:
    """One key per case, the same for all cases of a patient.

    Unless a data list names the patient, the key is the BIDS subject (`sub-01`) or the shortest leading
    piece of the name that has a digit: `PAT01` for `PAT01_a`, `STS_014` for `STS_014`. Leading pieces
    that all cases share say nothing and are left out (`2023_001`, `2023_002`), as are the names of
    folders that split a data set (`training/001`).
    """
    keys = []
    for one, depth in zip(located, _depths(located), strict=True):
        *around, name = one.parts[-depth:]
        around = [part for part in around if not any(split.match(part) for split in SPLITS.values())]
        keys.append("_".join([*around, name]).casefold())
    pieces = [_SEPARATORS.split(key) for key in keys]
    shared = _shared_start(pieces)
    if not all(_has_digit(piece[shared:]) for piece in pieces):
        shared = 0
    return [one.patient or _patient(key, piece[shared:]) for one, key, piece in zip(located, keys, pieces, strict=True)]


def _patient(key: str, pieces: list[str]) -> str:
    if subject := _BIDS_SUBJECT.search(key):
        return subject.group()
    lengths = (length for length in range(1, len(pieces) + 1) if _has_digit(pieces[:length]))
    return "_".join(pieces[: next(lengths, len(pieces))])


def _shared_start(pieces: list[list[str]]) -> int:
    """How many leading pieces all names have in common; none where there is one name only."""
    columns = [set(column) for column in zip(*pieces, strict=False)]
    return next((index for index, column in enumerate(columns) if len(column) > 1), 0)


def _depths(located: Sequence[Located]) -> list[int]:
    """How many of a case's parts its name needs: more where it names a session or repeats, or one beside it does."""
    depths = [min(2, len(one.parts)) if _SESSION.match(one.parts[-1]) else 1 for one in located]
    while True:
        count = Counter(map(str.casefold, _names(located, depths)))
        deeper = [
            depth + (count[name.casefold()] > 1 and depth < len(one.parts))
            for one, depth, name in zip(located, depths, _names(located, depths), strict=True)
        ]
        beside: dict[tuple[str, ...], int] = {}
        for one, depth in zip(located, deeper, strict=True):
            beside[one.parts[:-1]] = max(depth, beside.get(one.parts[:-1], 0))
        deeper = [beside[one.parts[:-1]] for one in located]
        if deeper == depths:
            return depths
        depths = deeper


def _names(located: Sequence[Located], depths: Sequence[int]) -> list[str]:
    return [file_name("_".join(one.parts[-depth:])) for one, depth in zip(located, depths, strict=True)]


def _place(one: Located) -> str:
    return file_name("_".join(one.parts)).casefold()


def _has_digit(pieces: Sequence[str]) -> bool:
    return any(character.isdigit() for piece in pieces for character in piece)
