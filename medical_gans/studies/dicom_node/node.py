"""A DICOM node as a whole: it runs until it is told to stop, and may be killed at any moment."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import SettingError, UserError
from medical_gans.inference.synthesis import DicomOutput, SliceSynthesis
from medical_gans.inference.synthesis.one_case import CaseSynthesis
from medical_gans.io.ownership import sha256
from medical_gans.io.writing import check_writable, clear_leftovers
from medical_gans.studies.dicom_node.delivery import Archive
from medical_gans.studies.dicom_node.peers import Peers, TlsFiles
from medical_gans.studies.dicom_node.receiving import Receiver
from medical_gans.studies.dicom_node.record import AGAIN, REFUSED, STORED, Record
from medical_gans.studies.dicom_node.series_queue import QueueLimits, SeriesQueue
from medical_gans.studies.dicom_node.stages import Retries, Stages
from medical_gans.studies.dicom_node.status_page import StatusPage

_LOCAL = ("127.0.0.1", "localhost", "::1")

logger = logging.getLogger(__name__)


class DicomNode:
    """Receives MR series, translates each as ``mr_to_ct inference`` does, and stores CT and RTSTRUCT in an archive.

    Args:
        synthesis: from an MR to a synthetic CT.
        weights: files that the generators were loaded from.
        output_dir: folder of the node: queue, results and record.
        archive: where results go.
        dicom: how DICOM is read and written; its `send` is not used.
        host: address to listen at.
        port: of the node; 0 takes any that is free.
        title: its application entity title.
        peers: who may send.
        tls: files for TLS.
        limits: of what is taken.
        retries: how long is waited for what.
        associations: that may be open at a time.
        status_port: of the page on 127.0.0.1; 0: none.
        keep_results: leave volumes and pictures in ``results`` once they are stored.
        fingerprint: of the training images, to which each MR is compared.
        strict: refuse an MR that differs from the training images instead of warning.
        quality: checks of each result, see `one_case.CaseSynthesis`.

    Raises:
        SettingError: a setting contradicts another.
        UserError: pynetdicom is not installed.
    """

    def __init__(
        self,
        synthesis: SliceSynthesis,
        weights: Sequence[Path],
        output_dir: str | Path,
        archive: Archive,
        *,
        dicom: DicomOutput | None = None,
        host: str = "127.0.0.1",
        port: int = 11112,
        title: str = "MEDICAL_GANS",
        peers: Peers | None = None,
        tls: TlsFiles | None = None,
        limits: QueueLimits | None = None,
        retries: Retries | None = None,
        associations: int = 20,
        status_port: int = 11180,
        keep_results: bool = False,
        fingerprint: Fingerprint | None = None,
        strict: bool = False,
        quality: Callable[..., Any] | None = None,
    ) -> None:
        if importlib.util.find_spec("pynetdicom") is None:
            raise UserError("The node needs pynetdicom. Run pip install 'medical-gans[send]'.")
        for name, number in (("port", port), ("status_port", status_port)):
            if not 0 <= number < 1 << 16:
                raise SettingError(f"{name} is {number}; give a number from 1 to 65535.")
        self.folder, self.archive = Path(output_dir), archive
        self.dicom = dicom or DicomOutput(write=True, uid_seed=0)
        self.host, self.port, self.title, self.status_port = host, port, title, status_port
        self.peers, self.tls = peers or Peers(), tls or TlsFiles()
        self.limits, self.retries = limits or QueueLimits(), retries or Retries()
        self.associations, self.keep_results = associations, keep_results
        hashes = sorted(sha256(file) for file in weights)
        self.synthesis = CaseSynthesis(
            synthesis,
            self.folder / "results",
            hashes,
            fingerprint,
            strict,
            self.folder,
            self.dicom,
            quality,
            viewer=False,  # some 30 MB a series, on a disk that nobody looks at
        )
        self.stopped = threading.Event()

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop`.

        Raises:
            UserError: the folder is that of another node that runs, or a port is taken.
            OutputError: the folder cannot be written.
        """
        check_writable(self.folder)
        with _only_node(self.folder):
            check_writable(self.synthesis.output_dir).chmod(0o700)
            clear_leftovers(self.synthesis.output_dir)
            record, queue = Record(self.folder), SeriesQueue(self.folder, self.limits)
            stages = Stages(queue, record, self.synthesis, self.archive, self.retries, keep_results=self.keep_results)
            door = Receiver(
                queue,
                record,
                self.peers,
                self.tls.for_senders(),
                title=self.title,
                associations=self.associations,
            )
            page = None
            try:
                self.port = door.start(self.host, self.port)
                if self.status_port:
                    page = StatusPage(self.status_port, lambda: self._status(queue, record))
                stages.start()
                self._announce()
                with _told_to_stop(self.stopped):
                    self.stopped.wait()
            finally:
                door.stop()
                stages.stop()
                if page is not None:
                    page.stop()
                record.close()
        logger.info("The node has stopped; what it has not done lies in its folder and is done by the next one.")

    def stop(self) -> None:
        """Let `run` come to its end."""
        self.stopped.set()

    def _announce(self) -> None:
        line = "TLS" if self.tls.certificate is not None else "no TLS"
        logger.info(
            "%s listens at %s:%d, %s, and stores to %s.", self.title, self.host, self.port, line, self.archive.address
        )
        if self.status_port:
            logger.info("What comes and goes: http://127.0.0.1:%d/", self.status_port)
        if self.host not in _LOCAL and not self.peers.addresses:
            logger.warning("Every machine that reaches %s may send: allowed_addresses is not set.", self.host)

    def _status(self, queue: SeriesQueue, record: Record) -> dict[str, Any]:
        jobs = queue.jobs()
        free = shutil.disk_usage(self.folder).free / 2**30
        about = [
            ("listens at", f"{self.title} {self.host}:{self.port}"),
            ("stores to", f"{self.archive.called_ae} {self.archive.address}"),
            ("still coming", queue.waiting()),
            ("to be translated", sum(not job.made for job in jobs)),
            ("to be stored", sum(job.made for job in jobs)),
            ("stored", record.counts.get(STORED, 0)),
            ("refused", record.counts.get(REFUSED, 0)),
            ("came again", record.counts.get(AGAIN, 0)),
            ("disk free", f"{free:.1f} GiB"),
        ]
        return {"about": about, "latest": record.latest(), "notes": record.notes()}


class _only_node:
    """Holds the folder: two nodes in it would do everything twice. Ends with the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self._file: IO[str] = (self.folder / "node.lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UserError(f"Another node works in {self.folder}. Stop it, or give another output_dir.") from error

    def __exit__(self, *given: object) -> None:
        self._file.close()


class _told_to_stop:
    """SIGTERM and SIGINT set an event, where signals can be had."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, lambda *_: self.event.set())

    def __exit__(self, *given: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
