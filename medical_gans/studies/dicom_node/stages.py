"""What happens to a series that is whole: it is translated, then stored in the archive, each until it is done."""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom

from medical_gans.errors import OutputError, SettingError, UserError
from medical_gans.inference.synthesis.one_case import DICOM_FOLDER, RUN, CaseSynthesis
from medical_gans.io import Case
from medical_gans.io.dicom.headers import UNREADABLE, text
from medical_gans.io.ownership import Origin, check_replaceable
from medical_gans.report.cases import CASES_FOLDER
from medical_gans.studies.dicom_node.delivery import Archive
from medical_gans.studies.dicom_node.record import AGAIN, NOTE, RECEIVED, REFUSED, STORED, WAITS, Record
from medical_gans.studies.dicom_node.series_queue import Ended, Job, SeriesQueue

_LOOK = 0.5  # s between two looks at the queue
_OLD = 600  # s between two looks for structure sets that nobody needs


@dataclass(frozen=True)
class Retries:
    """How long is waited for what.

    Attributes:
        silence: s without a further image after which a series is whole.
        resend: s that a series whose association was cut waits to be sent again.
        translate_cut: translate it then, instead of refusing it.
        first_pause: s before the second try at a step that failed; doubled with each further one.
        longest_pause: s that a pause grows to.
        attempts: at the translation of a series, if the process ends or fails during each.

    Raises:
        SettingError: a number is negative, or no attempt is left.
    """

    silence: float = 20.0
    resend: float = 1800.0
    translate_cut: bool = False
    first_pause: float = 10.0
    longest_pause: float = 3600.0
    attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("silence", "resend", "first_pause", "longest_pause"):
            if getattr(self, name) < 0:
                raise SettingError(
                    f"{name} is {getattr(self, name):g} s; give a number of seconds that is not negative."
                )
        if self.attempts < 1:
            raise SettingError(f"attempts is {self.attempts}; give 1 or more.")

    def next(self, pause: float) -> float:
        """The pause after one of `pause` seconds."""
        return min(max(2 * pause, self.first_pause), self.longest_pause)


class Stages:
    """Takes series from `received` to the archive: one thread looks what is whole, one translates, one stores.

    Args:
        queue: what is to do.
        record: of what was done.
        synthesis: of one case, as ``mr_to_ct inference`` does it; it writes to ``results``.
        archive: where results go.
        retries: how long is waited.
        keep_results: leave results where they are once they are stored.
    """

    def __init__(
        self,
        queue: SeriesQueue,
        record: Record,
        synthesis: CaseSynthesis,
        archive: Archive,
        retries: Retries,
        *,
        keep_results: bool = False,
    ) -> None:
        self.queue, self.record, self.synthesis, self.archive = queue, record, synthesis, archive
        self.retries, self.keep_results = retries, keep_results
        self.stopped = threading.Event()
        self._due: dict[str, float] = {}  # of a job, by the clock that never jumps
        self._archive_due = self._archive_pause = 0.0
        self._next_look = 0.0
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Finish what a node before left half done, then work in the background."""
        for job in self.queue.jobs():
            if self.queue.outcome(job.series)[0] == job.token:
                self._clear(job)
        steps = {"queue": self._claim_next, "translation": self._translate_next, "archive": self._store_next}
        for name, work in steps.items():
            thread = threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, patience: float = 5.0) -> None:
        """Let the threads end; what they leave unfinished is done by the next node."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(patience)

    def _repeat(self, work: Callable[[], bool]) -> None:
        while not self.stopped.is_set():
            try:
                if not work():
                    self.stopped.wait(_LOOK)
            except OSError as error:  # of the queue itself, most likely a full disk
                self.record.add(NOTE, f"The queue cannot be worked on: {os.strerror(error.errno or 0)}.")
                self.stopped.wait(self.retries.first_pause)
            except Exception as error:
                self.record.add(NOTE, f"A fault of ours: {_place_of(error)}.")
                self.stopped.wait(self.retries.first_pause)

    # --- what is whole ---

    def _claim_next(self) -> bool:
        """Move what is whole to the work, refuse what will not become so, and forget what is done."""
        for one in self.queue.ended(self.retries.silence, self.retries.resend):
            known = self.record.of(one.series)
            sender = one.sender or (known.sender if known else "")
            details = {"sender": sender, "images": one.images}
            _, outcome, objects = self.queue.outcome(one.series)
            if outcome == STORED and one.objects <= objects:
                self.queue.drop(one)
                self.record.add(AGAIN, "It came again; its CT is stored already.", one.series, **details)
            elif outcome == STORED and not objects <= one.objects:
                self.queue.drop(one)
                sentence = (
                    f"{one.images} images came after its CT had been made of {len(objects)} others. Send the whole "
                    "series again; its new CT then stands beside the old one."
                )
                self.record.add(REFUSED, sentence, one.series, **details)
            elif one.cut and not self.retries.translate_cut:
                self.queue.drop(one)
                sentence = (
                    f"Only {one.images} images came ({one.cut}), and it was not sent again within "
                    f"{self.retries.resend:g} s. Send it again."
                )
                self.record.add(REFUSED, sentence, one.series, **details)
            elif job := self.queue.claim(Ended(one.series, sender, one.images, one.cut, one.objects), self._study(one)):
                sentence = f"{one.images} images, to be translated."
                if one.cut:
                    sentence += f" It may lack some: {one.cut}."
                self.record.add(RECEIVED, sentence, one.series, **details, job=job.token)
        if time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + _OLD
            if count := self.queue.old_structure_sets():
                hours = self.queue.limits.structure_hours
                self.record.add(NOTE, f"{count} structure sets that lay here for {hours:g} h were removed.")
        return False

    def _study(self, one: Ended) -> str:
        try:
            first = self.queue.images_of(one)[0]
            header = pydicom.dcmread(first, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        except (*UNREADABLE, IndexError):
            return ""
        return text(header, "StudyInstanceUID")

    # --- translation ---

    def _translate_next(self) -> bool:
        waiting = [job for job in self.queue.jobs() if not job.made and self._is_due(job)]
        if not waiting:
            return False
        self._translate(min(waiting, key=lambda job: job.attempts))  # what ended a node before comes last
        return True

    def _translate(self, job: Job) -> None:
        if job.attempts >= self.retries.attempts:
            self._refuse(
                job, f"Its translation ended {job.attempts} times with the node or by a fault of ours. Report it."
            )
            return
        job.attempts += 1
        self.queue.keep(job)
        case = self._case(job)
        begin = time.perf_counter()
        try:
            if not self.synthesis.is_finished(case):
                self.synthesis.run(case)
        except OutputError as error:
            job.attempts -= 1
            self._postpone(job, str(error))
        except UserError as error:
            self._refuse(job, str(error))
        except Exception as error:
            if isinstance(error, MemoryError) or "allocate" in str(error) * isinstance(error, RuntimeError):
                self._refuse(job, "It does not fit into the memory. Set tile to 256, or use a larger machine.")
                return
            self._postpone(job, f"A fault of ours in its translation: {_place_of(error)}.")
        else:
            job.attempts, job.made, job.pause = 0, True, 0.0
            self.queue.keep(job)
            took = time.perf_counter() - begin
            sentence = " ".join([f"Translated in {took:.1f} s, to be stored.", *self._warnings(job)])
            self.record.add(RECEIVED, sentence, job.series, job=job.token, images=job.images, sender=job.sender)

    def _case(self, job: Job) -> Case:
        return Case(job.series, mr=self.queue.images(job))

    # --- the archive ---

    def _store_next(self) -> bool:
        if time.monotonic() < self._archive_due:
            return False
        job = next((job for job in self.queue.jobs() if job.made and self._is_due(job)), None)
        if job is None:
            return False
        files = sorted((self.synthesis.output_dir / job.series / DICOM_FOLDER).rglob("*.dcm"))
        if not files:  # somebody took them away
            job.made = False
            self.queue.keep(job)
            return True
        try:
            self.archive.store(files)
        except OutputError as error:
            self._postpone(job, str(error))
        except UserError as error:
            self._archive_pause = self.retries.next(self._archive_pause)
            self._archive_due = time.monotonic() + self._archive_pause
            self._wait(job, str(error).partition(";")[0], self._archive_pause)
        else:
            self._archive_pause = 0.0
            sentence = f"{len(files)} objects stored, {time.time() - job.since:.0f} s after it was whole."
            self._finish(job, STORED, " ".join([sentence, *self._warnings(job)]))
        return True

    # --- how a job ends ---

    def _is_due(self, job: Job) -> bool:
        return time.monotonic() >= self._due.get(job.series, 0.0)

    def _postpone(self, job: Job, why: str) -> None:
        job.pause = self.retries.next(job.pause)
        self._due[job.series] = time.monotonic() + job.pause
        self.queue.keep(job)
        self._wait(job, why, job.pause)

    def _wait(self, job: Job, why: str, pause: float) -> None:
        sentence = f"{why.rstrip('. ')}. Next try in {pause:.0f} s."
        self.record.add(WAITS, sentence, job.series, job=job.token, sender=job.sender, images=job.images)

    def _refuse(self, job: Job, why: str) -> None:
        self._finish(job, REFUSED, why)

    def _finish(self, job: Job, outcome: str, sentence: str) -> None:
        self.queue.finish(job, outcome, sentence)
        self._clear(job)

    def _clear(self, job: Job) -> None:
        """Of a job that `done` knows: tell what became of it, and take away what is not needed any more."""
        _, outcome, _ = self.queue.outcome(job.series)
        last = self.record.of(job.series)
        if last is None or last.job != job.token or last.what != outcome:
            sentence = self.queue.sentence(job.series)
            self.record.add(outcome, sentence, job.series, job=job.token, sender=job.sender, images=job.images)
        if not self.keep_results:
            for folder in (self.synthesis.output_dir, self.synthesis.output_dir / CASES_FOLDER):
                self._remove_results(folder / job.series)
        self._due.pop(job.series, None)
        self.queue.remove(job)

    def _remove_results(self, folder: Path) -> None:
        try:
            check_replaceable(folder, Origin(RUN))
        except OutputError as error:  # somebody put a file there
            self.record.add(NOTE, f"Results stay: {error}")
        else:
            self.queue.remove_folder(folder)

    def _warnings(self, job: Job) -> list[str]:
        """What the report of a case warns of."""
        try:
            case = self.synthesis.output_dir / CASES_FOLDER / job.series / "case.json"
            return [str(one) for one in json.loads(case.read_text(encoding="utf-8"))["warnings"]]
        except (OSError, ValueError, KeyError):
            return []


def _place_of(error: BaseException) -> str:
    """Kind and place of an exception, without its words, which may quote a patient's."""
    frames = traceback.extract_tb(error.__traceback__)
    shown = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[:-4:-1])
    return f"{type(error).__name__} at {shown}"
