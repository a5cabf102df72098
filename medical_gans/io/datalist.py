"""Data lists: a JSON file that names the images of each case, paths relative to the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medical_gans.errors import InputError
from medical_gans.io.formats import check_is_no_root
from medical_gans.io.layouts import GONE, ROLES, Located, parts_of

SECTIONS = ("training", "validation", "testing", "inference")
_KEYS = (*ROLES, "name", "patient")
_EXAMPLE = '{"training": [{"mr": "a/mr.nii.gz", "ct": "a/ct.nii.gz"}], "validation": [...]}'


def read_datalist(path: Path, role: str = "mr", passed: dict[Path, str] | None = None) -> list[Located]:
    """The cases of a data list.

    A section is a list of entries, `{"mr": ..., "ct": ..., "mask": ..., "name": ..., "patient": ...}`
    or a plain path, which counts as `role`; or unpaired, `{"mr": [paths], "ct": [paths]}`. A file that
    is one plain list is the section `inference`. Sections: training, validation, testing, inference.

    Args:
        path: JSON file.
        role: of plain paths.
        passed: gets links to what is not there, with the reason; None refuses them like other missing images.

    Raises:
        InputError: no JSON, no known section, an unknown key, or an image that does not exist.
    """
    sections = read_sections(path, "readable JSON data list", _EXAMPLE)
    cases = [case for section, content in sections.items() for case in _section(path, section, content, role)]
    if passed is not None:
        for case in cases:
            gone = [name for name, image in case.images.items() if image.is_symlink() and not image.exists()]
            passed.update({case.images.pop(name): GONE for name in gone})
        cases = [case for case in cases if case.images]
    missing = [str(image) for case in cases for image in case.images.values() if not image.exists()]
    if missing:
        raise InputError(
            f"{path} names {len(missing)} images that do not exist, the first {missing[0]}. "
            "Paths are relative to the JSON file."
        )
    for case in cases:
        for image in case.images.values():
            check_is_no_root(image)
    return cases


def read_sections(path: Path, expected: str, example: str) -> dict[str, Any]:
    """What stands in each of `SECTIONS`, in their order; empty lists where nothing does.

    Args:
        path: JSON file; one plain list is the section ``inference``.
        expected: what the file should be, for the message of an error.
        example: a data list of the kind that is needed.

    Raises:
        InputError: no JSON, or no known section.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is no {expected} ({error}). Needed: {example}") from error
    sections = {"inference": content} if isinstance(content, list) else content
    if not isinstance(sections, dict) or not set(SECTIONS) & sections.keys():
        raise InputError(f"{path} has none of the sections {', '.join(SECTIONS)}. Needed: {example}")
    if odd := [name for name in SECTIONS if not isinstance(sections.get(name) or [], list | dict)]:
        raise InputError(f"{path}: section {odd[0]} must be a list. Needed: {example}")
    return {section: sections.get(section) or [] for section in SECTIONS}


def check_name(place: str, name: Any, example: str) -> None:
    """Refuse a name that is no text and no number."""
    if isinstance(name, bool) or not isinstance(name or "", str | int | float):
        raise InputError(f"{place} is named {name!r}; a text is needed. Needed: {example}")


def _section(path: Path, section: str, content: Any, role: str) -> Iterable[Located]:
    if isinstance(content, dict):
        yield from _unpaired(path, section, content)
        return
    if not isinstance(content, list):
        raise InputError(f"{path}: section {section} must be a list. Needed: {_EXAMPLE}")
    for entry in content:
        entry = {role: entry} if isinstance(entry, str) else entry
        _check_keys(path, section, entry, _KEYS)
        check_name(f"{path}: an entry of section {section}", entry.get("name"), _EXAMPLE)
        check_name(f"{path}: an entry of section {section}", entry.get("patient"), _EXAMPLE)
        if odd := [name for name in ROLES if not isinstance(entry.get(name) or "", str)]:
            raise InputError(
                f"{path}: {odd[0]} in section {section} is {entry[odd[0]]!r}; a path is needed. {_EXAMPLE}"
            )
        images = {name: path.parent / os.path.expanduser(entry[name]) for name in ROLES if entry.get(name)}
        if not images.keys() & {"mr", "ct"}:
            raise InputError(f"{path}: an entry of section {section} has neither mr nor ct. Needed: {_EXAMPLE}")
        parts = (str(entry["name"]),) if entry.get("name") else parts_of(next(iter(images.values())))
        patient = str(entry["patient"]) if entry.get("patient") else None
        yield Located(parts, images, section, patient=patient)


def _unpaired(path: Path, section: str, content: dict[str, Any]) -> Iterable[Located]:
    """Lists of MR and CT: the two images of one patient become one case, but are never compared."""
    _check_keys(path, section, content, ROLES[:2])
    cases: dict[tuple[str, ...], Located] = {}
    for role, paths in content.items():
        if not isinstance(paths, list) or not all(isinstance(name, str) for name in paths):
            raise InputError(f"{path}: {role} of section {section} must be a list of paths.")
        for image in (path.parent / os.path.expanduser(name) for name in paths):
            case = cases.setdefault(parts_of(image), Located(parts_of(image), {}, section, aligned=False))
            if role in case.images:
                raise InputError(f"{path} lists {image} twice in section {section}. Remove one.")
            case.images[role] = image
    yield from cases.values()


def _check_keys(path: Path, section: str, entry: Any, known: tuple[str, ...]) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{path}: section {section} holds {entry!r}. Needed: {_EXAMPLE}")
    unknown = sorted(entry.keys() - set(known))
    if unknown:
        raise InputError(f"{path}: unknown key {unknown[0]!r} in section {section}. Known are {', '.join(known)}.")
