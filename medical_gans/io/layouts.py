"""How data sets lie in folders: patient folders, `mr` and `ct` folders, loose images, DICOM folders.

Nothing is read but names (and, for folders without image files, the first bytes of files).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medical_gans.errors import InputError
from medical_gans.io.formats import (
    holds_dicom_images,
    image_stem,
    image_suffix,
    may_hold_dicom,
    visible_entries,
    visible_files,
)

ROLES = ("mr", "ct", "mask", "trusted")
LAYOUTS = (
    "patient folders with mr, ct and mask images (SynthRAD), folders mr/ and ct/ with images, "
    "one image (.nii.gz, .nii, .mha, .mhd, .nrrd), a folder of images, a folder with one DICOM series, "
    "a DICOMDIR, an enhanced DICOM file, a .txt list of DICOM files, a .json datalist"
)
SPLITS = {
    "training": re.compile("train", re.IGNORECASE),
    "validation": re.compile("val", re.IGNORECASE),
    "testing": re.compile(r"test(ing|set|s)?(?![a-z])", re.IGNORECASE),
}
_NAMELESS = (*ROLES, "image", "images", "dicom")
_UNALIGNED = re.compile(r"unaligned|unpaired", re.IGNORECASE)


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


def locate(place: Path, role: str = "mr") -> list[Located]:
    """Every case below `place`; images whose name and folder do not tell count as `role`.

    Raises:
        InputError: `place` does not exist, or two images claim to be the same one.
    """
    if not place.exists():
        raise InputError(f"{place} does not exist. Check the path.")
    if place.is_file():
        if not image_suffix(place) and not may_hold_dicom(place):
            raise InputError(f"{place} is no image or data set that can be read. Understood are: {LAYOUTS}.")
        return [Located(parts_of(place), {role: place}, files=_named_files(place))]
    try:
        labelled = list(_labelled(place, place))
        if labelled:
            return labelled
        return [
            Located(parts_of(image, None if image == place else place), {role: image}) for image in _images_in(place)
        ]
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be read: permission denied.") from error


def _named_files(place: Path) -> tuple[Path, ...]:
    """The files that a DICOMDIR or a text list names."""
    if image_suffix(place):
        return ()
    from medical_gans.io.dicom.index import files_of

    found = files_of(place)
    return () if found == [place] else tuple(found)


def _labelled(folder: Path, root: Path) -> Iterable[Located]:
    """Cases at and below `folder` whose role is told by a file name or a folder name."""
    named = _by_role(folder)
    if "cbct" in named:
        return
    if named.keys() & {"mr", "ct"}:
        *around, name = folder.relative_to(root).parts or (folder.resolve().name,)
        yield _located(tuple(around), name, named)
        return
    folders = {entry.name.lower(): entry for entry in visible_entries(folder) if entry.is_dir()}
    if folders.keys() & {"mr", "ct"}:
        yield from _sets(folder, root, {role: folders[role] for role in ROLES if role in folders})
    for name, entry in folders.items():
        if name not in ROLES:
            yield from _labelled(entry, root)


def _by_role(folder: Path) -> dict[str, Path]:
    """Images of a patient folder: files `mr.*`, `ct.*`, `mask.*`, or DICOM folders of these names."""
    found: dict[str, Path] = {}
    for entry in visible_entries(folder):
        role = image_stem(entry).lower()
        if role not in (*ROLES, "cbct"):
            continue
        if image_suffix(entry) if entry.is_file() else holds_dicom_images(entry):
            if role in found:
                raise InputError(f"{folder} has two {role} images: {found[role].name} and {entry.name}. Keep one.")
            found[role] = entry
    return found


def _sets(folder: Path, root: Path, sets: dict[str, Path]) -> Iterable[Located]:
    """Images of the folders `mr`, `ct`, `mask`, brought together where they have the same name."""
    cases: dict[str, dict[str, Path]] = {}
    for role, place in sets.items():
        for image in _images_in(place):
            images = cases.setdefault(image_stem(image), {})
            if role in images:
                raise InputError(
                    f"{images[role]} and {image} have the same name, so they would overwrite each other's "
                    "results. Rename one."
                )
            images[role] = image
    for name, images in sorted(cases.items()):
        if images.keys() & {"mr", "ct"}:
            yield _located(folder.relative_to(root).parts, name, images)


def _located(around: tuple[str, ...], name: str, images: dict[str, Path]) -> Located:
    splits = [split for part in around for split, pattern in SPLITS.items() if pattern.match(part)]
    aligned = not any(_UNALIGNED.search(part) for part in around)
    return Located((*around, name), images, splits[-1] if splits else None, aligned)


def _images_in(folder: Path) -> list[Path]:
    """The images of one folder: image files and DICOM folders in it, or itself when it holds a series."""
    entries = visible_entries(folder)
    images = [entry for entry in entries if (image_suffix(entry) if entry.is_file() else holds_dicom_images(entry))]
    if not images and _holds_dicom_deep(folder):
        return [folder]
    return images


def _holds_dicom_deep(folder: Path) -> bool:
    """Whether DICOM images lie in a folder or anywhere below it, as in what discs and archives export."""
    return any(
        holds_dicom_images(place) for place in dict.fromkeys([folder, *(f.parent for f in visible_files(folder))])
    )


def parts_of(image: Path, root: Path | None = None) -> tuple[str, ...]:
    """Names of an image below `root`: its own, or its folder's where its own says nothing."""
    path = Path(os.path.abspath(image))
    *around, own = path.parts[len(Path(os.path.abspath(root)).parts) if root else 1 :]
    stem = image_stem(Path(own))
    return (*around, stem) if stem.lower() not in _NAMELESS else tuple(around) or (path.parent.name or stem,)
