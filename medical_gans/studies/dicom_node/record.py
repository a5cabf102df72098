"""The record of a node: what came, what went and why not, a line each, without anything that names a patient.

Series and studies are known by the first 12 hexadecimal digits of the SHA-256 of their UID. Who has the archive can
find a series by it, ``printf %s UID | sha256sum | cut -c1-12``; who has only the log cannot.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from medical_gans.report.page import without_folders

FILE = "record.jsonl"
RECEIVED, WAITS, STORED, REFUSED, AGAIN, NOTE = "received", "waits", "stored", "refused", "came again", "note"
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){3,}(?![\d.])")
_REMEMBERED = 500  # series that the status page can show

logger = logging.getLogger(__name__)


def short_name(uid: str) -> str:
    """What a UID is called in record, log and folder names."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def plain(sentence: str) -> str:
    """A sentence without UIDs and folders, on one line."""
    hidden = _UID.sub(lambda found: short_name(found[0]), without_folders(sentence))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in hidden).split())


@dataclass(frozen=True)
class Entry:
    """The last that is known of a series.

    Attributes:
        time: local, ISO 8601.
        series: its short name; empty for what concerns no series.
        what: one of the words of this module.
        sentence: for a person.
        sender: application entity title and address.
        images: received.
        job: tells one translation of the series from the next.
    """

    time: str
    series: str
    what: str
    sentence: str
    sender: str = ""
    images: int = 0
    job: str = ""


class Record:
    """Appends to ``record.jsonl`` and to the log, and remembers the last of each series.

    Args:
        folder: of the node.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.counts: dict[str, int] = {}
        self._latest: OrderedDict[str, Entry] = OrderedDict()
        self._notes: list[Entry] = []
        self._lock = threading.Lock()
        for entry in self._read():
            self._remember(entry)
        self._file = self.path.open("ab")
        if self._file.tell() and not self._ends_with_newline():
            self._file.write(b"\n")

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def add(self, what: str, sentence: str, series: str = "", **details: Any) -> None:
        """Write a line; where the disk is full the log alone has it."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._lock:
            before = self._latest.get(series)
            if before is not None:
                details = {"sender": before.sender, "images": before.images, **details}
            entry = Entry(now, series, what, plain(sentence), **details)
            logger.info("%s%s: %s", f"series {series} " if series else "", what, entry.sentence)
            self._remember(entry)
            try:
                self._file.write(json.dumps(entry.__dict__).encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                logger.error("%s cannot be written: %s.", FILE, os.strerror(error.errno or 0))

    def latest(self) -> list[Entry]:
        """The last of each series, newest first."""
        with self._lock:
            return list(reversed(self._latest.values()))

    def notes(self) -> list[Entry]:
        """What concerned no series, newest first."""
        with self._lock:
            return self._notes[::-1]

    def of(self, series: str) -> Entry | None:
        """The last of one series."""
        with self._lock:
            return self._latest.get(series)

    def _remember(self, entry: Entry) -> None:
        if not entry.series:
            self._notes = [*self._notes[-49:], entry]
            return
        self._latest[entry.series] = entry
        self._latest.move_to_end(entry.series)
        self.counts[entry.what] = self.counts.get(entry.what, 0) + 1
        while len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)

    def _read(self) -> Iterator[Entry]:
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    yield Entry(**json.loads(line))
                except (ValueError, TypeError):  # the last line of a node that was killed
                    continue

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
