"""A clinic on one machine: MR series, senders (dcmtk), an archive (Orthanc) and the node as a process to be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parent.parent
ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
NAME = "Zappelphilipp^Quirin"  # of every patient, to look for in logs
SIZE = 48  # pixels along rows and columns


def dcmtk_program(name: str) -> str | None:
    """Where a program of dcmtk is: pynetdicom installs others by these names, which end with 0 where storing failed."""
    for folder in os.get_exec_path():
        place = shutil.which(name, path=folder)
        if place and b"$dcmtk" in subprocess.run([place, "--version"], capture_output=True, check=False).stdout:
            return place
    return None


STORESCU = dcmtk_program("storescu")


def what_is_missing() -> str:
    """The programs that are not installed, in words; empty where all are."""
    programs = {"storescu (dcmtk)": STORESCU, "Orthanc": ORTHANC}
    return ", ".join(name for name, place in programs.items() if place is None)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What a condition gives as soon as it is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


def series_uid(number: int) -> str:
    """SeriesInstanceUID of a series of `write_series`."""
    return f"1.2.826.0.1.3680043.8.498.{77000 + number}"


def write_series(folder: Path, number: int, slices: int = 20, **changes: Any) -> Path:
    """An axial MR series of a noisy ellipsoid in air, 3 x 3 x 3 mm, another for each number; returns its folder.

    Args:
        folder: gets ``<number>/``.
        number: of series, study and patient.
        slices: how many files.
        changes: attributes with other values.
    """
    place = folder / f"{number:03}"
    place.mkdir(parents=True)
    random = np.random.default_rng(number)
    y, x = (np.indices((SIZE, SIZE)) / SIZE - 0.5) / 0.4
    for k in range(slices):
        inside = x**2 + y**2 + ((k / slices - 0.5) / 0.6) ** 2 < 1
        image = pydicom.Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{series_uid(number)}.1.{k}"
        image.Modality, image.PatientName, image.PatientID = "MR", NAME, f"Qx7731904-{number}"
        image.StudyInstanceUID, image.SeriesInstanceUID = f"{series_uid(number)}.2", series_uid(number)
        image.FrameOfReferenceUID, image.PatientPosition = f"{series_uid(number)}.3", "HFS"
        image.ImagePositionPatient, image.ImageOrientationPatient = [-72, -72, 3 * k], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [3, 3], 3
        image.SeriesNumber, image.InstanceNumber, image.SeriesDescription = number, k + 1, "T1 Zappelphilipp"
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows = image.Columns = SIZE
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        noise = random.integers(300, 900, (SIZE, SIZE))
        image.PixelData = np.where(inside, noise, 0).astype(np.uint16).tobytes()
        for keyword, value in changes.items():
            setattr(image, keyword, value)
        image.save_as(place / f"{k:04}.dcm", enforce_file_format=True)
    return place


def write_weights(path: Path) -> Path:
    """Weights of a network so small that a series takes a second, with their card."""
    from medical_gans.networks import ResnetGenerator
    from medical_gans.weights import WeightsCard, save_weights

    save_weights(path, ResnetGenerator(width=2, blocks=0))
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
    WeightsCard([None] * 3, network_def=network_def).save(path)
    return path


def send(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start dcmtk's storescu on the files of a folder."""
    assert STORESCU is not None
    command = [STORESCU, "-aet", "SCANNER", *options, HOST, str(port), *map(str, sorted(folder.iterdir()))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def send_a_part(folder: Path, port: int, images: int) -> None:
    """Send the first images of a folder, then cut the line without a release."""
    from pynetdicom import AE

    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = entity.associate(HOST, port)
    for path in sorted(folder.iterdir())[:images]:
        try:
            association.send_c_store(path)
        except RuntimeError:  # the node is away, or was killed
            return
    association.abort()


class Orthanc:
    """An Orthanc of its own; what it holds outlasts `stop`.

    Args:
        folder: new; for its storage and log.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.port, self.http = folder, free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomPort": self.port,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self) -> None:
        """Run it until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([str(ORTHANC), self.folder / "orthanc.json"], stdout=log, stderr=log)
        wait_for(self._answers, 60, "Orthanc")

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def get(self, path: str) -> Any:
        """JSON of its REST interface."""
        return json.loads(self.file(path))

    def file(self, path: str) -> bytes:
        """A file of its REST interface."""
        with urllib.request.urlopen(f"http://{HOST}:{self.http}/{path}", timeout=30) as answer:
            return bytes(answer.read())

    def made_from(self) -> dict[str, list[tuple[str, int]]]:
        """(modality, number of objects) of each series it holds, by the SeriesInstanceUID of the MR it was made from.

        A study of `write_series` holds one MR, by whose number the study is known.
        """
        found: dict[str, list[tuple[str, int]]] = {}
        for study in self.get("studies?expand"):
            mr = study["MainDicomTags"]["StudyInstanceUID"].removesuffix(".2")
            for series in study["Series"]:
                about = self.get(f"series/{series}")
                found.setdefault(mr, []).append((about["MainDicomTags"]["Modality"], len(about["Instances"])))
        return {mr: sorted(series) for mr, series in found.items()}

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"Orthanc does not start: {(self.folder / 'log').read_text(errors='replace')[-300:]}")
        try:
            return bool(self.get("system"))
        except (urllib.error.URLError, OSError):
            return False


_FORKS = """
import json, os, sys
import monai.bundle, pynetdicom, pynetdicom.sop_class
import medical_gans.checks.quality, medical_gans.inference.synthesis, medical_gans.studies.dicom_node
import medical_gans.io.dicom.carrying, medical_gans.io.dicom.ct, medical_gans.training.trainer
from medical_gans.cli.command import main
from medical_gans.report import cases
if "--no_pictures" in sys.argv:
    for kind in ("overview", "contact_sheet", "histogram", "thumbnail"):
        def draw(volumes, path):
            path.write_bytes(b"picture")
        draw.__name__ = kind
        setattr(cases, kind, draw)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    process = os.fork()
    if process == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(main(asked["words"]))
    print(process, flush=True)
"""


class Forks:
    """Starts the command again and again without importing everything each time: one process, and forks of it.

    Args:
        pictures: draw those of the report; without, a series takes a second.
    """

    def __init__(self, pictures: bool = False) -> None:
        path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "MPLBACKEND": "Agg"}
        command = [sys.executable, "-c", _FORKS, *([] if pictures else ["--no_pictures"])]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def start(self, words: list[str], log: Path) -> int:
        """Run ``medical-gans`` with some words; its number."""
        return self._ask({"words": words, "log": str(log)})

    def wait(self, process: int) -> int:
        """Its exit code, once it has ended."""
        return self._ask({"wait": process})

    def stop(self) -> None:
        """No more forks."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _ask(self, asked: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class Node:
    """``medical-gans mr_to_ct serve`` as a process that can be killed and started again.

    Args:
        forks: that it is one of.
        folder: of the node, and its log beside it.
        weights: of the generator.
        archive: ``host:port``.
        settings: of the command.
    """

    def __init__(self, forks: Forks, folder: Path, weights: Path, archive: str, **settings: Any) -> None:
        self.forks, self.folder, self.log = forks, folder, folder.with_name(f"{folder.name}.log")
        self.port, self.status = free_port(), free_port()
        given = {
            "archive": archive,
            "weights": weights,
            "port": self.port,
            "status_port": self.status,
            "output_dir": folder,
            "device": "cpu",
            "silence": 1,
            "first_pause": 1,
            "longest_pause": 5,
            "free_disk": 0.0,
            **settings,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        self.words = ["mr_to_ct", "serve", *words]
        self.process = 0

    def start(self, wait: bool = True) -> None:
        """Run it; wait until it listens."""
        self.process = self.forks.start(self.words, self.log)
        if wait:
            wait_for(self.listens, 240, "the node")

    def kill(self) -> None:
        """As kill -9."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        os.kill(self.process, number)
        code = self.forks.wait(self.process)
        self.process = 0
        return code

    def state(self) -> dict[str, Any]:
        """What the status page says, by name; ``latest`` and ``notes`` as lists."""
        with urllib.request.urlopen(f"http://{HOST}:{self.status}/status.json", timeout=30) as answer:
            content = json.loads(answer.read())
        return {**dict(content["about"]), "latest": content["latest"], "notes": content["notes"]}

    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        state = self.state()
        return not any(state[name] for name in ("still coming", "to be translated", "to be stored"))

    def memory_mib(self) -> float:
        """Resident now."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def listens(self) -> bool:
        """Whether it answers already."""
        try:
            return bool(self.state())
        except (urllib.error.URLError, OSError):
            return False
