"""Results appear whole or not at all: temporary name beside the target, then one rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from medical_gans.errors import OutputError, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NEARLY_FULL = 1 << 20  # bytes: with less than this left, a failed write is put down to the disk


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
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; it takes the place of `path` on success.

    A folder that was there before stays untouched until then and on any exception.
    Raises OutputError when the disk is full or the place cannot be written.
    """
    target = Path(path)
    temporary = _beside(target)
    with _output_errors(target, temporary):
        try:
            temporary.mkdir()
            yield temporary
            _take_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_writable(output_dir: str | os.PathLike[str]) -> Path:
    """Make `output_dir` where needed and prove that a file can be written there.

    Called before any work starts, so that hours of it are not lost. Raises OutputError.
    """
    folder = Path(output_dir)
    probe = folder / f".{uuid4().hex}"
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
    return target.with_name(f".{uuid4().hex[:12]}-{target.name}")


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
