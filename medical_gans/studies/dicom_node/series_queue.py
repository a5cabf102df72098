"""The queue on disk: what a node has taken stays there until its CT is stored, through kill -9 and restarts.

::

    received/<series>/mr/<object>.dcm   images as they come; an object is known by its UID
    received/<series>/<sender>.open     an association that sent to the series and was not closed in order
    structures/<study>/<object>.dcm     structure sets, which wait for their MR
    work/<series>/                      a whole series: mr/, structures/ and job.json
    done/<series>.json                  what became of it, so that the same series sent again is not done again

Every step is one rename. A series leaves `received` whole, and `work` only once `done` has it: a node that is killed
at any moment finds on disk what is left to do. An association that is cut, by its sender or because the node was
killed, leaves its mark, and the series waits to be sent again: a part of a series is never taken for the whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from medical_gans.errors import OutputError, SettingError
from medical_gans.studies.dicom_node.record import short_name

IMAGES, STRUCTURES = "mr", "structures"
_CUT = "its association was cut"
_MIB, _GIB = 2**20, 2**30


class NoRoomError(OutputError):
    """The node takes nothing more for now; the sender may try again later."""


@dataclass(frozen=True)
class QueueLimits:
    """What a node takes.

    Attributes:
        object_mib: largest object.
        images: of one series.
        series: that may wait and be worked on at a time.
        free_gib: of the disk, that stay free.
        structure_hours: that a structure set waits for its MR.

    Raises:
        SettingError: one of them is not above 0.
    """

    object_mib: float = 512.0
    images: int = 4000
    series: int = 500
    free_gib: float = 2.0
    structure_hours: float = 24.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0 and name != "free_gib":
                raise SettingError(f"The limit {name} of the node is {value:g}; give a number above 0.")


@dataclass
class Sender:
    """An association while it is open.

    Attributes:
        name: title and address, for the record.
        thread: lives as long as the association.
        token: names its marks.
        failed: why, by series and object, for those that it did not get in.
    """

    name: str
    thread: threading.Thread | None = None
    token: str = field(default_factory=lambda: uuid4().hex[:12])
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    _earlier: dict[str, list[str]] = field(default_factory=dict)  # marks of others, dead when it began on a series


@dataclass
class Job:
    """A series in work, as ``job.json`` holds it.

    Attributes:
        series: short name.
        token: tells one translation of a series from the next.
        sender: who sent it.
        images: how many.
        attempts: at translation that ended with the process or a fault of ours.
        made: its results are written.
        pause: s, the last between two tries.
        since: time of its arrival, s since the epoch.
    """

    series: str
    token: str
    sender: str
    images: int
    attempts: int = 0
    made: bool = False
    pause: float = 0.0
    since: float = 0.0


@dataclass(frozen=True)
class Ended:
    """A series that is whole, or will not become so.

    Attributes:
        series: short name.
        sender: who sent it last.
        images: how many there are.
        cut: why it is not whole; empty where it is.
        objects: names of its images.
    """

    series: str
    sender: str
    images: int
    cut: str
    objects: frozenset[str]


class SeriesQueue:
    """What has come and is not done yet.

    Args:
        folder: of the node.
        limits: of what is taken.
    """

    def __init__(self, folder: Path, limits: QueueLimits) -> None:
        self.folder, self.limits = folder, limits
        self._received, self._work, self._done = folder / "received", folder / "work", folder / "done"
        self._structures, self._incoming, self._trash = folder / STRUCTURES, folder / "incoming", folder / "trash"
        self._lock = threading.Lock()
        self._changed: dict[str, float] = {}
        self._senders: dict[str, str] = {}
        self._open: dict[str, Sender] = {}
        for left in (self._incoming, self._trash):
            shutil.rmtree(left, ignore_errors=True)
        for place in (self._received, self._work, self._done, self._structures, self._incoming, self._trash):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)  # patients lie here until their CT are stored

    # --- what comes ---

    def opened(self, sender: Sender) -> None:
        """An association begins."""
        with self._lock:
            self._open[sender.token] = sender

    def add_image(self, sender: Sender, series_uid: str, object_uid: str, content: bytes) -> str:
        """Keep an image; once this returns, it is on disk.

        Returns:
            The short name of its series, where this is its first image; else an empty text.

        Raises:
            NoRoomError: a limit is reached or the disk is full.
        """
        series = short_name(series_uid)
        try:
            return self._add_image(sender, series, object_uid, content)
        except OSError as error:
            reason = str(error) if isinstance(error, NoRoomError) else f"the disk: {os.strerror(error.errno or 0)}"
            sender.failed.setdefault(series, {})[object_uid] = reason
            if isinstance(error, NoRoomError):
                raise
            raise NoRoomError(f"The node cannot keep an image ({reason}).") from error

    def _add_image(self, sender: Sender, series: str, object_uid: str, content: bytes) -> str:
        self._check_room(len(content))
        temporary = self._write(content)
        try:
            with self._lock:
                place = self._received / series
                is_new = not place.is_dir()
                if is_new:
                    self._check_count()
                    (place / IMAGES).mkdir(parents=True)
                    _sync(self._received)
                self._mark(sender, series)
                target = place / IMAGES / f"{_object_name(object_uid)}.dcm"
                if not target.exists():
                    if len(os.listdir(target.parent)) >= self.limits.images:
                        most = self.limits.images
                        raise NoRoomError(f"The series has more than {most} images, the limit (largest_series).")
                    os.replace(temporary, target)
                    _sync(target.parent)
                self._changed[series] = time.monotonic()
                self._senders[series] = sender.name
            sender.failed.get(series, {}).pop(object_uid, None)
            return series if is_new else ""
        finally:
            temporary.unlink(missing_ok=True)

    def add_structure_set(self, study_uid: str, object_uid: str, content: bytes) -> None:
        """Keep a structure set until an MR of its study comes.

        Raises:
            NoRoomError: a limit is reached or the disk is full.
        """
        try:
            self._check_room(len(content))
            temporary = self._write(content)
            place = self._structures / short_name(study_uid)
            with self._lock:
                place.mkdir(exist_ok=True)
                os.replace(temporary, place / f"{_object_name(object_uid)}.dcm")
                _sync(place)
        except OSError as error:
            if isinstance(error, NoRoomError):
                raise
            raise NoRoomError(f"The node cannot keep a structure set ({os.strerror(error.errno or 0)}).") from error

    def released(self, sender: Sender) -> None:
        """An association is about to be closed in order: what it sent whole is whole."""
        with self._lock:
            for series, earlier in sender._earlier.items():
                for token in [sender.token, *earlier] if not sender.failed.get(series) else []:
                    (self._received / series / f"{token}.open").unlink(missing_ok=True)
                self._changed[series] = time.monotonic()
            self._open.pop(sender.token, None)

    def closed(self, sender: Sender) -> None:
        """An association has ended, in order or not."""
        with self._lock:
            self._open.pop(sender.token, None)
            for series in sender._earlier:
                if (mark := self._received / series / f"{sender.token}.open").exists():
                    reasons = sender.failed.get(series, {})
                    mark.write_text(next(iter(reasons.values()), _CUT), encoding="utf-8")
                self._changed[series] = time.monotonic()

    def _mark(self, sender: Sender, series: str) -> None:
        if series in sender._earlier and (self._received / series / f"{sender.token}.open").exists():
            return
        others = (mark.stem for mark in (self._received / series).glob("*.open"))
        sender._earlier[series] = [token for token in others if not self._is_open(token)]
        (self._received / series / f"{sender.token}.open").write_text(_CUT, encoding="utf-8")
        _sync(self._received / series)

    def _is_open(self, token: str) -> bool:
        sender = self._open.get(token)
        return sender is not None and (sender.thread is None or sender.thread.is_alive())

    def _check_room(self, size: int) -> None:
        if size > self.limits.object_mib * _MIB:
            raise NoRoomError(
                f"An object of {size / _MIB:.0f} MiB is larger than the limit of {self.limits.object_mib:g} "
                "(largest_object)."
            )
        free = shutil.disk_usage(self.folder).free
        if free - size < self.limits.free_gib * _GIB:
            raise NoRoomError(
                f"The disk has {free / _GIB:.2f} GiB left, and {self.limits.free_gib:g} are to stay free (free_disk)."
            )

    def _check_count(self) -> None:
        waiting = sum(len(os.listdir(place)) for place in (self._received, self._work))
        if waiting >= self.limits.series:
            raise NoRoomError(f"{waiting} series wait already, which is the limit (largest_queue).")

    def _write(self, content: bytes) -> Path:
        temporary = self._incoming / f"{uuid4().hex}.part"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    # --- what is whole ---

    def ended(self, quiet: float, resend: float) -> Iterator[Ended]:
        """Series that have become whole, and those that were cut and not sent again, oldest first.

        Args:
            quiet: s without a further image, with every association closed.
            resend: s that a series which was cut waits to be sent again.
        """
        with self._lock:
            found = []
            for place in _by_age(self._received):
                last = self._changed.setdefault(place.name, time.monotonic())
                marks = list(place.glob("*.open"))
                waits = resend if marks else quiet
                is_open = any(self._is_open(mark.stem) for mark in marks)
                if is_open or time.monotonic() - last < waits or (self._work / place.name).exists():
                    continue
                objects = frozenset(path.stem for path in (place / IMAGES).glob("*.dcm"))
                cut = next((mark.read_text(encoding="utf-8") or _CUT for mark in marks), "")
                found.append(Ended(place.name, self._senders.get(place.name, ""), len(objects), cut, objects))
        yield from found

    def claim(self, one: Ended, study_uid: str) -> Job | None:
        """Move a whole series to the work; None where more of it came meanwhile."""
        with self._lock:
            place, target = self._received / one.series, self._work / one.series
            if {path.stem for path in (place / IMAGES).glob("*.dcm")} != one.objects or target.exists():
                return None
            if any(self._is_open(mark.stem) for mark in place.glob("*.open")):
                return None
            job = Job(one.series, uuid4().hex[:12], one.sender, one.images, since=time.time())
            shutil.rmtree(place / STRUCTURES, ignore_errors=True)
            waiting = self._structures / short_name(study_uid)
            if waiting.is_dir():
                (place / STRUCTURES).mkdir()
                for path in waiting.iterdir():
                    os.link(path, place / STRUCTURES / path.name)
            _write_json(place / "job.json", asdict(job))
            place.rename(target)
            _sync(self._work)
            self._changed.pop(one.series, None)
            self._senders.pop(one.series, None)
        return job

    def images_of(self, one: Ended) -> list[Path]:
        """Files of a series that is not claimed yet."""
        return sorted((self._received / one.series / IMAGES).glob("*.dcm"))

    def drop(self, one: Ended) -> None:
        """Give up a series that is not claimed."""
        with self._lock:
            objects = {path.stem for path in (self._received / one.series / IMAGES).glob("*.dcm")}
            if objects == one.objects:
                self.remove_folder(self._received / one.series)
                self._changed.pop(one.series, None)

    def old_structure_sets(self) -> int:
        """Remove structure sets that waited in vain; how many."""
        oldest, count = time.time() - 3600 * self.limits.structure_hours, 0
        with self._lock:
            for place in self._structures.iterdir():
                for path in place.iterdir():
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                        count += 1
                if not any(place.iterdir()):
                    place.rmdir()
        return count

    # --- what is worked on ---

    def jobs(self) -> list[Job]:
        """All series in work, oldest first."""
        found = []
        for place in _by_age(self._work):
            try:
                found.append(Job(**json.loads((place / "job.json").read_text(encoding="utf-8"))))
            except (OSError, ValueError, TypeError):  # moved away meanwhile
                continue
        return sorted(found, key=lambda job: job.since)

    def images(self, job: Job) -> Path:
        """Folder of the MR of a job."""
        return self._work / job.series / IMAGES

    def keep(self, job: Job) -> None:
        """Write down what has changed of a job."""
        _write_json(self._work / job.series / "job.json", asdict(job))

    def finish(self, job: Job, outcome: str, sentence: str) -> None:
        """Write down what became of a job. From here on it is done."""
        objects = sorted(path.stem for path in self.images(job).glob("*.dcm"))
        entry = {"job": job.token, "outcome": outcome, "sentence": sentence, "objects": objects}
        _write_json(self._done / f"{job.series}.json", entry)

    def remove(self, job: Job) -> None:
        """Take away the MR of a job that is finished."""
        self.remove_folder(self._work / job.series)

    def outcome(self, series: str) -> tuple[str, str, frozenset[str]]:
        """Token of the job, outcome and names of the images of a series that is done; empty where it is not."""
        try:
            entry = json.loads((self._done / f"{series}.json").read_text(encoding="utf-8"))
            return entry["job"], entry["outcome"], frozenset(entry["objects"])
        except (OSError, ValueError, KeyError):
            return "", "", frozenset()

    def sentence(self, series: str) -> str:
        """What `finish` was told of a series; empty where it is not done."""
        try:
            return str(json.loads((self._done / f"{series}.json").read_text(encoding="utf-8"))["sentence"])
        except (OSError, ValueError, KeyError):
            return ""

    def waiting(self) -> int:
        """Series that are still coming or not whole."""
        return len(os.listdir(self._received))

    def remove_folder(self, place: Path) -> None:
        """In one step: a folder that is half removed would be taken for a whole one."""
        gone = self._trash / uuid4().hex
        try:
            place.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)


def _object_name(object_uid: str) -> str:
    """Longer than `short_name`: two images of one name would be one."""
    return hashlib.sha256(object_uid.encode()).hexdigest()[:32]


def _by_age(folder: Path) -> list[Path]:
    found = []
    for entry in os.scandir(folder):
        try:
            if entry.is_dir():
                found.append((entry.stat().st_mtime, Path(entry.path)))
        except FileNotFoundError:  # moved away meanwhile
            continue
    return [path for _, path in sorted(found)]


def _write_json(path: Path, content: object) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
