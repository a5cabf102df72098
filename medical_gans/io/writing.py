"""Results appear whole or not at all: temporary name beside the target, then one rename.

A temporary name tells who made it, so that what a run leaves which is cut off is cleared by the next one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from medical_gans.errors import OutputError, UserError
from medical_gans.io.ownership import RECORD, Origin, OutputFolder, check_replaceable, write_record

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NEARLY_FULL = 1 << 20  # bytes: with less than this left, a failed write is put down to the disk
_TEMPORARY = re.compile(r"\.medical_gans-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{12}-.+")
_ABANDONED = 24 * 3600  # seconds, after which what another machine left is taken for abandoned
_MINE: set[str] = set()  # temporary names of this process
_CLAIMS: dict[str, tuple[OutputFolder, list[str]]] = {}  # by folder, written down with the first result in it


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it to `path` on success, remove it on any exception.

    The temporary name keeps the suffix, so that writers which choose a format by suffix can use it.
    Raises OutputError when the disk is full or the place cannot be written.
    """
    target = Path(path)
    temporary = _beside(target)
    with _output_errors(target, temporary):
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            _write_claim(target)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | os.PathLike[str], origin: Origin | None = None) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; it takes the place of `path` on success.

    A folder that was there before stays untouched until then and on any exception; it is replaced only where it is
    ours and of the same origin, see `ownership.check_replaceable`.

    Args:
        path: the folder.
        origin: written into it as ``made_from.json``; None writes nothing and replaces only an empty folder.

    Raises:
        OutputError: the folder is somebody else's, the disk is full, or the place cannot be written.
    """
    target = Path(path)
    temporary = _beside(target)
    with _output_errors(target, temporary):
        check_replaceable(target, origin, thoroughly=False)
        try:
            temporary.mkdir()
            yield temporary
            if origin is not None:
                write_record(temporary, origin)
            check_replaceable(target, origin)
            _write_claim(target)
            _take_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def prepare_output(
    output_dir: str | os.PathLike[str],
    origin: Origin,
    names: Iterable[str],
    folders: Iterable[tuple[str, Origin]] = (),
    *,
    writes: bool = True,
) -> Path:
    """Before any work: refuse what results must not replace, prove that they can be written, clear leftovers.

    Args:
        output_dir: folder of the run; made where needed.
        origin: of the run.
        names: of the files and folders that the run keeps directly in `output_dir`.
        folders: put down as a whole, with the origin of each.
        writes: False only looks, as all but the first of several processes do.

    Raises:
        OutputError: something there is not ours, is an input, or holds one; or the folder cannot be written.
    """
    place, kept = OutputFolder(output_dir, origin), list(names)
    with _output_errors(place.folder, place.folder):
        place.check(kept)
        for name, made_from in folders:
            check_replaceable(place.folder / name, made_from, thoroughly=False)
    if writes:
        check_writable(place.folder)
        clear_leftovers(place.folder)
    _CLAIMS[os.path.realpath(place.folder)] = place, kept
    return place.folder


def _write_claim(target: Path) -> None:
    """Before a result is there, write down beside it which names are ours: a run may be cut off at any moment."""
    for folder in (target.parent, *target.absolute().parents):
        if claim := _CLAIMS.pop(os.path.realpath(folder), None):
            place, names = claim
            with whole_file(place.folder / RECORD) as temporary:
                temporary.write_text(place.record(names), encoding="utf-8")


def clear_leftovers(folder: Path) -> None:
    """Remove temporary files and folders of runs that were cut off, in a folder and its folder of pictures."""
    for place in (folder, folder / "report"):
        if not place.is_dir() or place.is_symlink():
            continue
        for entry in list(place.iterdir()):
            if not _is_abandoned(entry):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def made_from(files: Sequence[Path], *recipe: object) -> str:
    """Part of the name of a file that is kept: other where a file of `files` or the recipe has changed."""
    facts = [(str(file), file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(os.fsencode(f"{facts}{recipe}")).hexdigest()[:12]


def check_writable(output_dir: str | os.PathLike[str]) -> Path:
    """Make `output_dir` where needed and prove that a file can be written there.

    Called before any work starts, so that hours of it are not lost. Raises OutputError.
    """
    folder = Path(output_dir)
    probe = _beside(folder / "probe")
    with _output_errors(folder, folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file, but results need a folder. Choose another output_dir.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"test")
        finally:
            if folder.is_dir():
                probe.unlink(missing_ok=True)
    return folder


def _beside(target: Path) -> Path:
    name = f".medical_gans-{_host()}-{os.getpid()}-{uuid4().hex[:12]}-{target.name[-50:]}"  # with its suffix
    _MINE.add(name)
    return target.with_name(name)


def _host() -> str:
    """Of this machine, without its name."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_abandoned(entry: Path) -> bool:
    """Whether a temporary name is ours, and who made it is gone."""
    found = _TEMPORARY.fullmatch(entry.name)
    if found is None or entry.name in _MINE:
        return False
    if found["host"] != _host() or sys.platform == "win32":  # where a process cannot be asked whether it lives
        return time.time() - entry.lstat().st_mtime > _ABANDONED
    process = int(found["process"])
    if process == os.getpid():  # numbers come again, in containers at once
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _take_place(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = _beside(target)
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


@contextmanager
def _output_errors(target: Path, temporary: Path) -> Iterator[None]:
    """Turn failures to write below `temporary` into OutputError; leave every other exception alone."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno not in _FULL and not _concerns(error, target, temporary):
            raise
        raise OutputError(_explanation(error, target)) from error
    except RuntimeError as error:  # torch and ITK report a full disk as RuntimeError without an errno
        if _free_bytes(target) >= _NEARLY_FULL:
            raise
        raise OutputError(_explanation(OSError(errno.ENOSPC, ""), target)) from error


def _concerns(error: OSError, target: Path, temporary: Path) -> bool:
    if error.filename is None:
        return error.errno in _DENIED or error.errno == errno.EIO
    failed = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else temporary
    return any(place == failed or place in failed.parents for place in (target, temporary)) or (
        failed in target.parents
    )


def _explanation(error: OSError, target: Path) -> str:
    if error.errno in _FULL:
        free = _free_bytes(target) / 2**20
        return (
            f"{target} could not be written: the disk or quota is full ({free:.0f} MiB free). "
            "Free space or choose another output_dir, then run again."
        )
    if error.errno in _DENIED:
        return (
            f"{target} could not be written: no permission to write there. "
            "Change the permissions or choose another output_dir."
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{target} could not be written: {reason}. Check the path or choose another output_dir."


def _free_bytes(path: Path) -> int:
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free
