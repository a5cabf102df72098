"""How data sets lie in folders, at any depth: patient folders, `mr` and `ct` folders, loose images, DICOM, BIDS.

Nothing is read but names and, for DICOM, the header of one file per folder. Every file is accounted for: it belongs to
a case, or it is passed over, with the reason.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from medical_gans.errors import InputError
from medical_gans.io.formats import (
    check_is_no_root,
    dicom_facts,
    first_dicom_image,
    image_stem,
    image_suffix,
    may_hold_dicom,
    visible_entries,
    why_no_image,
)
from medical_gans.io.ownership import is_whole_result

ROLES = ("mr", "ct", "mask", "trusted")
LAYOUTS = (
    "patient folders with mr, ct and mask images (SynthRAD), folders mr/ and ct/ with images, "
    "one image (.nii.gz, .nii, .mha, .mhd, .nrrd, .nhdr, .mgz, .hdr), a folder of images at any depth (BIDS), a folder "
    "with one DICOM series, a DICOMDIR, an enhanced DICOM file, a .txt list of DICOM files, a .json datalist"
)
SPLITS = {
    "training": re.compile("train", re.IGNORECASE),
    "validation": re.compile("val", re.IGNORECASE),
    "testing": re.compile(r"test(ing|set|s)?(?![a-z])", re.IGNORECASE),
}
_NAMELESS = (*ROLES, "image", "images", "dicom")
_UNALIGNED = re.compile(r"unaligned|unpaired", re.IGNORECASE)
_LABELS = frozenset({"mask", "label", "labels", "seg", "segmentation", "brainmask", "lesion", "lesions"})
_OF_LABELS = frozenset({"masks", "label", "labels", "labelstr", "labelsts", "segmentations"})
_OTHER_BIDS = frozenset({"func", "dwi", "fmap", "perf", "pet", "eeg", "meg", "ieeg", "beh"})
_DULL = frozenset({"anat", "dicom", "dcm", "nifti", "nii", "images", "image"})
_SHOWN = 4

RESULTS = "results of this program"
GONE = "a link to what is not there (git-annex: get it first)"


@dataclass
class Located:
    """The images of one case, and what the folders around them say about it."""

    parts: tuple[str, ...]  # folder names from the data set down to the case, its own name last
    images: dict[str, Path] = field(default_factory=dict)  # by role
    split: str | None = None  # "training", "validation", "testing", when a folder or datalist says so
    aligned: bool = True  # whether MR and CT, where there are both, may be compared voxel by voxel
    patient: str | None = None  # when a datalist names one
    files: tuple[Path, ...] = ()  # of a DICOM series that was given as a list of files

    @property
    def paired(self) -> bool:
        return self.aligned and {"mr", "ct"} <= self.images.keys()


def locate(place: Path, role: str = "mr", passed: dict[Path, str] | None = None) -> list[Located]:
    """Every case below `place`; images whose name and folder do not tell count as `role`.

    Args:
        place: image or folder.
        role: of images whose role nothing tells.
        passed: gets files and folders that belong to no case, with the reason.

    Raises:
        InputError: `place` does not exist, or two images claim to be the same one.
    """
    if not place.exists():
        gone = f"is {GONE}" if place.is_symlink() else "does not exist. Check the path"
        raise InputError(f"{place} {gone}.")
    check_is_no_root(place)
    if place.is_file():
        if not image_suffix(place) and not may_hold_dicom(place):
            why = why_no_image(place)
            raise InputError(f"{place} is no image or data set that can be read ({why}). Understood are: {LAYOUTS}.")
        return [Located(parts_of(place), {role: place}, files=_named_files(place))]
    survey = _Survey(place, role, {} if passed is None else passed)
    try:
        return survey.cases()
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be read: permission denied.") from error


def account(root: Path, images: Iterable[Path], passed: dict[Path, str]) -> None:
    """Add to `passed` every file below `root` that is in no image, not beside one under its name, and not there yet."""
    used = {os.path.abspath(path) for path in images}
    if os.path.abspath(root) in used:
        return
    known = used | {os.path.abspath(path) for path in passed}
    stems = {path[: -len(suffix)] for path in used if (suffix := image_suffix(Path(path)))}
    for parent, folders, files in os.walk(root):
        here = os.path.abspath(parent)
        folders[:] = sorted(name for name in folders if os.path.join(here, name) not in known)
        for name in sorted(files):
            beside = any(os.path.join(here, name[: dot.start()]) in stems for dot in re.finditer(r"\.", name))
            if not beside and os.path.join(here, name) not in known and not name.startswith("."):
                passed[Path(parent, name)] = why_no_image(Path(parent, name))


def said_of(passed: Mapping[Path, str], root: Path | None = None) -> str:
    """What was passed over, as one line: by reason, with names of a few."""
    groups: dict[str, list[str]] = {}
    for path, why in passed.items():
        inside = root is not None and path.is_relative_to(root) and path != root
        groups.setdefault(why, []).append(path.relative_to(root).as_posix() if inside and root else path.name)
    shown = []
    for why, names in groups.items():
        if why == "no image":
            kinds = Counter(Path(name).suffix.lower() or "without suffix" for name in names)
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN))
        else:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            listed = ", ".join(names[:_SHOWN]) + more
        shown.append(f"{listed} ({why})")
    return "; ".join(shown)


@dataclass
class _Survey:
    """One walk through a folder."""

    root: Path
    role: str
    passed: dict[Path, str]

    def __post_init__(self) -> None:
        self._first_image = lru_cache(maxsize=None)(first_dicom_image)  # of a folder, looked for often

    def cases(self) -> list[Located]:
        found = list(self._source_or_below(self.root, above=()))
        account(self.root, [image for one in found for image in (*one.images.values(), *one.files)], self.passed)
        return found

    def _source_or_below(self, folder: Path, above: tuple[str, ...]) -> Iterator[Located]:
        """The folder as one DICOM source where its images are of one study of one patient, else what is in it."""
        if self._is_one_study(folder):
            yield self._unlabelled(folder)
        else:
            yield from self._below(folder, (*above, os.path.realpath(folder)))

    def _below(self, folder: Path, above: tuple[str, ...]) -> Iterator[Located]:
        """Cases at and below a folder."""
        entries = self._entries(folder, above)
        named = self._by_role(folder, entries)
        if "cbct" in named:
            self.passed[folder] = "a cone-beam CT, which is not what is looked for"
            return
        if named.keys() & {"mr", "ct"}:
            yield from self._patient(folder, entries, named, above)
            return
        folders = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
        sets = {role: folders[role] for role in ROLES if role in folders}
        if sets.keys() & {"mr", "ct"}:
            yield from self._sets(folder, sets, above)
            entries = [entry for entry in entries if entry not in sets.values()]
        yield from self._loose(folder, entries, above)

    def _entries(self, folder: Path, above: tuple[str, ...]) -> list[Path]:
        """What is to be looked at in a folder."""
        kept = []
        for entry in visible_entries(folder):
            if not entry.exists():
                self.passed[entry] = GONE
            elif entry.is_dir() and is_whole_result(entry):
                self.passed[entry] = RESULTS
            elif entry.is_dir() and entry.is_symlink() and os.path.realpath(entry) in above:
                self.passed[entry] = "a link to a folder above it"
            else:
                kept.append(entry)
        return kept

    def _by_role(self, folder: Path, entries: list[Path]) -> dict[str, Path]:
        """Images of a patient folder: files `mr.*`, `ct.*`, `mask.*`, or DICOM folders of these names."""
        found: dict[str, Path] = {}
        for entry in entries:
            role = image_stem(entry).lower()
            if role not in (*ROLES, "cbct"):
                continue
            if image_suffix(entry) if entry.is_file() else self._is_dicom_image(entry):
                if role in found:
                    raise InputError(f"{folder} has two {role} images: {found[role].name} and {entry.name}. Keep one.")
                found[role] = entry
        return found

    def _patient(
        self, folder: Path, entries: list[Path], named: dict[str, Path], above: tuple[str, ...]
    ) -> Iterator[Located]:
        """A folder that holds the images of one patient; an only image beside a CT is the MR of that patient."""
        *around, name = folder.relative_to(self.root).parts or (folder.resolve().name,)
        rest = [entry for entry in entries if entry not in named.values() and self._may_be_mr(entry)]
        if self.role in named:
            pass  # what else lies here, such as masks of structures, is none of the images looked for
        elif len(rest) == 1:
            named["mr"] = rest.pop()
        else:
            yield from (self._unlabelled(image) for image in rest)
            if not rest:
                others = [entry for entry in entries if entry.is_dir() and entry not in named.values()]
                yield from self._loose(folder, others, above)
            rest = []
        yield _located(tuple(around), name, named)
        for entry in rest:
            self.passed[entry] = f"beside {named[self.role].name}, which is taken as the {self.role.upper()}"

    def _sets(self, folder: Path, sets: dict[str, Path], above: tuple[str, ...]) -> Iterator[Located]:
        """Images of the folders `mr`, `ct`, `mask`, brought together where they have the same name."""
        cases: dict[str, dict[str, Path]] = {}
        for role, place in sets.items():
            for image in self._images_of_set(place, above):
                images = cases.setdefault(image_stem(image), {})
                if role in images:
                    raise InputError(
                        f"{images[role]} and {image} have the same name, so they would overwrite each other's "
                        "results. Rename one."
                    )
                images[role] = image
        for name, images in sorted(cases.items()):
            if images.keys() & {"mr", "ct"}:
                yield _located(folder.relative_to(self.root).parts, name, images)

    def _images_of_set(self, folder: Path, above: tuple[str, ...]) -> list[Path]:
        """The images of a folder `mr`, `ct` or `mask`: those in it, else those at any depth, or itself."""
        above = (*above, os.path.realpath(folder))
        entries = self._entries(folder, above)
        images = [entry for entry in entries if self._is_image(entry)]
        if images:
            return images
        if self._is_one_study(folder) or self._first_image(folder):
            return [folder]
        return [image for entry in entries if entry.is_dir() for image in self._images_of_set(entry, above)]

    def _loose(self, folder: Path, entries: list[Path], above: tuple[str, ...]) -> Iterator[Located]:
        """Images whose role nothing tells but, at most, a word of their name."""
        if self._first_image(folder):
            yield self._unlabelled(folder)
            entries = [entry for entry in entries if entry.is_file() and image_suffix(entry)]
        in_bids = any(part.lower().startswith("sub-") for part in folder.parts)
        images = [entry for entry in entries if self._is_image(entry)]
        odd = {image: why for image in images if image.is_dir() and (why := self._not_mr(image))}
        if len(odd) < len(images):  # where all are odd, to read one says what is wrong
            self.passed |= odd
            images = [image for image in images if image not in odd]
        for entry in images:
            if why := self._no_candidate(entry):
                self.passed[entry] = why
            else:
                yield self._unlabelled(entry)
        for entry in entries:
            if not entry.is_dir() or self._is_image(entry):
                continue
            if in_bids and entry.name.lower() in _OTHER_BIDS:
                self.passed[entry] = f"BIDS {entry.name.lower()}, no anatomical image"
            else:
                yield from self._source_or_below(entry, above)

    def _no_candidate(self, image: Path) -> str:
        """Why an image of no role cannot be one of those looked for, by its name."""
        words = _words(image)
        around = {part.casefold() for part in image.parent.relative_to(self.root).parts}
        if (words[-1:] and words[-1] in _LABELS) or around & _OF_LABELS:
            return "a label map or mask by its name"
        if self.role == "mr" and {"ct", "cbct"} & set(words) and not {"mr", "mri"} & set(words):
            return "a CT by its name"
        return ""

    def _may_be_mr(self, entry: Path) -> bool:
        if entry.is_file():
            return bool(image_suffix(entry)) and not self._no_candidate(entry)
        return self._is_dicom_image(entry) and not self._not_mr(entry)

    def _not_mr(self, folder: Path) -> str:
        """Why a DICOM folder is no MR, where one is looked for."""
        first = next(self._leaves(folder), None)
        kind = dicom_facts(self._first_image(first))[2] if first else ""
        if self.role != "mr" or kind in ("MR", ""):
            return ""
        return f"DICOM of modality {kind}" if len(kind) == 2 else f"DICOM of kind {kind}"

    def _is_dicom_image(self, folder: Path) -> bool:
        """Whether a folder is one DICOM source: images in it, or in one folder below, or of one study deeper."""
        if self._first_image(folder):
            return True
        return len(list(self._leaves(folder))) == 1 or self._is_one_study(folder)

    def _is_one_study(self, folder: Path) -> bool:
        """Whether DICOM of one study of one patient, and no other image, lies below a folder, not just in it."""
        shown = visible_entries(folder)
        if self._first_image(folder) or any(
            self._is_image(entry) or (entry.is_dir() and entry.name.lower() in ROLES) for entry in shown
        ):
            return False
        if any(image_suffix(Path(name)) for _, _, files in self._walk(folder) for name in files):
            return False
        firsts = [self._first_image(leaf) for leaf in self._leaves(folder)]
        return len({dicom_facts(first)[:2] for first in firsts}) == 1

    def _is_image(self, entry: Path) -> bool:
        """Whether an entry is an image file, or a folder that holds DICOM images itself."""
        return bool(image_suffix(entry)) if entry.is_file() else entry.is_dir() and bool(self._first_image(entry))

    def _leaves(self, folder: Path) -> Iterator[Path]:
        """Folders at or below one that hold DICOM images."""
        return (here for here, _, _ in self._walk(folder) if self._first_image(here))

    def _walk(self, folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
        """All folders at and below one, without hidden ones and results of ours."""
        for parent, folders, files in os.walk(folder):
            here = Path(parent)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and not is_whole_result(here / name)
            )
            yield here, folders, files

    def _unlabelled(self, image: Path) -> Located:
        """A case of one image: named after itself, and after the folders that say whose it is."""
        if image == self.root:
            return Located(parts_of(image), {self.role: image})
        *around, own = image.relative_to(self.root).parts
        stem = image_stem(Path(own))
        known = {stem.casefold(), *(piece.casefold() for piece in re.split(r"[_\s]+", stem))}
        said = [part for part in around if part.casefold() not in _DULL | known and not _splits(part)]
        name = "_".join([*said, *([stem] if stem.lower() not in _NAMELESS else [])]) or self.root.resolve().name
        return _located(tuple(around), name, {self.role: image})


def _located(around: tuple[str, ...], name: str, images: dict[str, Path]) -> Located:
    splits = [split for part in around for split in _splits(part)]
    aligned = not any(_UNALIGNED.search(part) for part in around)
    return Located((*around, name), images, splits[-1] if splits else None, aligned)


def _splits(part: str) -> list[str]:
    return [split for split, pattern in SPLITS.items() if pattern.match(part)]


def _words(path: Path) -> list[str]:
    return [word for word in re.split(r"[\W_]+", image_stem(path).casefold()) if word]


def _named_files(place: Path) -> tuple[Path, ...]:
    """The files that a DICOMDIR or a text list names."""
    if image_suffix(place):
        return ()
    from medical_gans.io.dicom.index import files_of

    found = files_of(place)
    return () if found == [place] else tuple(found)


def parts_of(image: Path, root: Path | None = None) -> tuple[str, ...]:
    """Names of an image below `root`: its own, or its folder's where its own says nothing."""
    path = Path(os.path.abspath(image))
    *around, own = path.parts[len(Path(os.path.abspath(root)).parts) if root else 1 :] or ("case",)
    stem = image_stem(Path(own))
    return (*around, stem) if stem.lower() not in _NAMELESS else tuple(around) or (path.parent.name or stem,)
