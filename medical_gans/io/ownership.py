"""What in an output folder is ours: nothing that a user owns is ever replaced or removed.

Beside results lies ``made_from.json``: which run made them, from which input, and their names. A folder that a run
puts down as a whole is listed with the hash of each file, so that a file which somebody added or changed is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medical_gans.errors import OutputError

RECORD = "made_from.json"
_LEFT_BY_SYSTEMS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_ELSEWHERE = "Choose another output_dir"
_NOT_OURS = "is there already and was not made by this program, so it is not replaced."
_TEMPORARY = ".medical_gans-"


@dataclass(frozen=True)
class Source:
    """An image that results are made of.

    Attributes:
        paths: its files, or its folder.
        detail: what tells it from other images in the same place, such as the UID of a series.
        by_content: whether the same bytes elsewhere are the same; not for data sets, which take long to read.
    """

    paths: tuple[Path, ...]
    detail: str = ""
    by_content: bool = True

    def place(self) -> str:
        """Hash of where it lies; paths themselves may name a patient."""
        return _digest([*(os.path.realpath(path) for path in self.paths), self.detail])

    def content(self) -> str:
        """Hash of what it holds."""
        return _digest([*(sha256(path) for path in self.paths), self.detail]) if self.by_content else ""


@dataclass(frozen=True)
class Origin:
    """Which run makes results, and of what.

    Attributes:
        run: workflow and stage.
        sources: images; results are replaced only by those of the same run and of one of these images.
        facts: what else decides, as plain values.
        inputs: further files and folders that the run reads.
    """

    run: str
    sources: Sequence[Source] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Path] = ()

    def as_record(self) -> dict[str, Any]:
        """What ``made_from.json`` says."""
        record: dict[str, Any] = {"run": self.run}
        if self.sources:
            record["places"] = [source.place() for source in self.sources]
            record["contents"] = [source.content() for source in self.sources]
        return {**record, **json.loads(json.dumps(dict(self.facts)))}

    def protected(self) -> list[Path]:
        """Everything that the run reads."""
        return [*(path for source in self.sources for path in source.paths), *self.inputs]


def source(*paths: Path | str | None, detail: str | None = None) -> Source:
    """An image by its files; None is passed over."""
    return Source(tuple(Path(path) for path in paths if path is not None), detail or "")


def data_set(dataset_dir: Any) -> Source:
    """A whole data set by its place."""
    given = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else list(dataset_dir)
    return Source(tuple(Path(os.path.expanduser(name)) for name in given), by_content=False)


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """What ``made_from.json`` in a folder says; None where there is none of ours."""
    if not os.path.isfile(os.path.join(folder, RECORD)):
        return None
    try:
        content = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(content, dict) and isinstance(content.get("run"), str) and _are_names(content.get("files"))
    return content if is_ours else None


def is_whole_result(folder: str | Path) -> bool:
    """Whether a folder was put down as a whole by one of our runs, and not to be the data of others."""
    record = read_record(folder)
    return record is not None and bool(record.get("whole")) and not record.get("data_for_others")


def write_record(folder: Path, origin: Origin) -> None:
    """List all files of a folder in its ``made_from.json``, with their hashes."""
    files = {
        path.relative_to(folder).as_posix(): sha256(path) for path in _files_below(folder) if path != folder / RECORD
    }
    content = {**origin.as_record(), "whole": True, "files": files}
    (folder / RECORD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_replaceable(target: Path, origin: Origin | None, *, thoroughly: bool = True) -> None:
    """Refuse to replace a folder unless it is ours, of the same run and image, unchanged, and no input.

    Args:
        target: the folder; nothing is refused where nothing is there, or an empty folder.
        origin: of what will take its place; None replaces nothing.
        thoroughly: compare hashes of files; without, their names only.

    Raises:
        OutputError: it must not be replaced.
    """
    if not os.path.lexists(target):
        return
    if origin is not None:
        check_no_input(target, origin.protected())
    if target.is_symlink() or not target.is_dir():
        kind = "link" if target.is_symlink() else "file"
        raise OutputError(
            f"{target} is a {kind}, but a folder of results goes there. {_ELSEWHERE}, or move the {kind}."
        )
    if _is_empty(target):
        return
    record = read_record(target)
    if record is None or not record.get("whole") or origin is None:
        raise OutputError(f"{target} {_NOT_OURS} {_ELSEWHERE}, or move the folder.")
    if record["run"] != origin.run:
        raise OutputError(f"{target} holds results of {record['run']}, another run than {origin.run}. {_ELSEWHERE}.")
    if origin.sources and record.get("places") and not _same_image(record, origin.sources):
        raise OutputError(
            f"{target} was made of another image, and its results would be lost. {_ELSEWHERE}, rename the image, or "
            "remove the folder."
        )
    if found := _foreign(target, record["files"], thoroughly):
        raise OutputError(f"{target} would be replaced, but it holds {found}. {_ELSEWHERE}, or move that file.")


def remove_ours(target: Path, run: str) -> None:
    """Remove a folder that a run put down as a whole; one that holds anything else stays."""
    record = read_record(target)
    if target.is_symlink() or record is None or not record.get("whole") or record["run"] != run:
        return
    if _foreign(target, record["files"], thoroughly=True) is None:
        shutil.rmtree(target)


def check_no_input(target: Path, inputs: Iterable[Path]) -> None:
    """Refuse a place of results that is an input, or holds one.

    Raises:
        OutputError: it is or does.
    """
    for path in inputs:
        if not path.exists():
            continue
        for place in (path, Path(os.path.realpath(path))):
            if any(_same(target, above) for above in (place, *place.absolute().parents)):
                holds = "is" if _same(target, place) else "holds"
                raise OutputError(
                    f"{target} would be replaced by results, but it {holds} the input {path.name}. {_ELSEWHERE}."
                )


class OutputFolder:
    """The folder of a run, and which names in it are ours.

    Args:
        folder: output folder of the run.
        origin: run, and image where all files of the folder depend on one.
    """

    def __init__(self, folder: str | os.PathLike[str], origin: Origin) -> None:
        self.folder, self.origin = Path(folder), origin

    def check(self, names: Iterable[str]) -> None:
        """Refuse names of files and folders that are taken by somebody else. Nothing is written.

        Raises:
            OutputError: a name is not ours, is an input, or holds one.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is a file, but results need a folder. Choose another output_dir.")
        record = read_record(self.folder)
        if record is not None and record["run"] != self.origin.run:
            raise OutputError(f"{self.folder} holds the results of another run ({record['run']}). {_ELSEWHERE}.")
        if record is not None and record.get("places") and not _same_image(record, self.origin.sources):
            raise OutputError(
                f"{self.folder} holds results of other data, which would be lost. {_ELSEWHERE}, or remove the folder."
            )
        for name in (RECORD, *names):
            target = self.folder / name
            if not os.path.lexists(target) or (target.is_dir() and not target.is_symlink() and _is_empty(target)):
                continue
            check_no_input(target, self.origin.protected())
            if target.is_symlink():
                raise OutputError(f"{target} is a link, and results would take its place. {_ELSEWHERE}.")
            if record is None or (name != RECORD and name not in record["files"]):
                if name == "manifest.json":
                    raise OutputError(f"{self.folder} holds files of another run ({name}). {_ELSEWHERE}.")
                raise OutputError(f"{target} {_NOT_OURS} {_ELSEWHERE}, or move it.")

    def record(self, names: Iterable[str]) -> str:
        """What ``made_from.json`` of the folder is to say."""
        known = read_record(self.folder) or {}
        files = {**known.get("files", {}), **dict.fromkeys(names)}
        return json.dumps({**self.origin.as_record(), "files": files}, indent=1) + "\n"


def sha256(path: str | Path) -> str:
    """Hash of a file; of a folder (a DICOM series), of the names and hashes of all files in it."""
    path = Path(path)
    if path.is_dir():
        lines = [f"{sha256(f)}  {f.relative_to(path).as_posix()}\n" for f in sorted(path.rglob("*")) if f.is_file()]
        return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_image(record: Mapping[str, Any], sources: Sequence[Source]) -> bool:
    """Whether one of the images lies where one of the record lay, or holds the same."""
    places, contents = record.get("places", []), record.get("contents", [])
    if not sources or any(one.place() in places for one in sources):
        return bool(sources)
    return any(
        one.content() in contents for one in sources if one.by_content and all(path.exists() for path in one.paths)
    )


def _foreign(folder: Path, files: Mapping[str, Any], thoroughly: bool) -> str | None:
    """A file that we did not write, or that was changed since, in words."""
    for path in _files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name == RECORD or path.name in _LEFT_BY_SYSTEMS or path.parent.name == "__pycache__":
            continue
        if name not in files:
            return f"{name}, which was not made by this program"
        if path.is_symlink():
            return f"{name}, a link that was not made by this program"
        if thoroughly and files[name] is not None and sha256(path) != files[name]:
            return f"{name}, which was changed since"
    return None


def _files_below(folder: Path) -> Iterable[Path]:
    """Files, and links to folders, which are not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in sorted(files))
        yield from (Path(parent, name) for name in sorted(folders) if Path(parent, name).is_symlink())


def _is_empty(folder: Path) -> bool:
    """Whether nothing is there but what runs leave that are cut off."""
    return all(entry.name.startswith(_TEMPORARY) for entry in folder.iterdir())


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one place, under whatever names."""
    try:
        first, second = os.stat(one), os.stat(other)
    except OSError:
        return False
    if stat.S_ISDIR(first.st_mode) or stat.S_ISDIR(second.st_mode):
        return os.path.samestat(first, second)
    # two names of one file (a hard link) are two files where one of them is replaced, as ours are
    return os.path.realpath(one) == os.path.realpath(other)


def _are_names(files: Any) -> bool:
    return isinstance(files, dict) and all(isinstance(name, str) for name in files)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256(os.fsencode("\n".join(parts))).hexdigest()[:32]
