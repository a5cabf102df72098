"""Series reach an archive whole, or each object that did not is named with the reason."""

import json
import logging
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pydicom
import pytest

from medical_gans.errors import SettingError, UserError
from medical_gans.io import read_volume
from medical_gans.io.dicom.ct import write_ct_series
from medical_gans.io.dicom.sending import parse_address, send_files

HOST = "127.0.0.1"
ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@pytest.fixture
def study(write_series, tmp_path):
    """Files of an MR and of the CT made for it, and the HU."""
    folder, pixels = write_series(change=lambda k, image: setattr(image, "InstanceNumber", k + 1))
    mr = read_volume(folder)
    hounsfield = np.random.default_rng(0).integers(-1024, 3072, mr.array.shape).astype(np.int16)
    made = write_ct_series(hounsfield, mr.affine, mr.headers, tmp_path / "out")
    return sorted(folder.iterdir()), sorted((made.folder / "ct").iterdir()), pixels, hounsfield


@pytest.fixture
def archive():
    """A small archive on loopback; give it an answer per object, get its address and what it took."""
    pynetdicom = pytest.importorskip("pynetdicom")
    servers = []

    def start(
        answer=lambda number: 0x0000, classes=(pydicom.uid.CTImageStorage, pydicom.uid.MRImageStorage), **options
    ):
        taken = []

        def store(event):
            taken.append(event.file_meta.MediaStorageSOPInstanceUID)
            return answer(len(taken))

        entity = pynetdicom.AE(ae_title="ARCHIVE")
        for name, value in options.items():
            setattr(entity, name, value)
        for sop_class in classes:
            entity.add_supported_context(sop_class)
        handlers = [(pynetdicom.evt.EVT_C_STORE, store)]
        servers.append(entity.start_server((HOST, 0), block=False, evt_handlers=handlers))
        return f"{HOST}:{servers[-1].server_address[1]}", taken

    yield start
    for server in servers:
        server.shutdown()


def test_every_object_arrives_in_order(study, archive):
    address, taken = archive()
    assert send_files(study[1], address, called_ae="ARCHIVE") == {}
    assert taken == [pydicom.dcmread(path).SOPInstanceUID for path in study[1]]


def test_each_refused_object_is_reported_and_the_others_are_stored(study, archive):
    address, taken = archive(lambda number: {2: 0xA700, 4: 0xB000, 5: 0xC123}.get(number, 0))
    failures = send_files(study[1], address)
    assert {path.name: reason for path, reason in failures.items()} == {
        "CT0002.dcm": "the archive is out of resources (status 0xA700)",
        "CT0005.dcm": "the archive refuses it (status 0xC123)",
    }
    assert len(taken) == 5


def test_an_archive_that_takes_no_ct_is_reported_object_by_object(study, archive):
    address, _ = archive(classes=(pydicom.uid.MRImageStorage,))
    failures = send_files([*study[1], *study[0]], address)
    assert set(failures) == set(study[1])
    assert set(failures.values()) == {"the archive does not take this kind of object or its transfer syntax"}


def test_an_archive_that_does_not_know_us_is_named(study, archive):
    address, _ = archive(require_calling_aet=["OTHER"])
    with pytest.raises(UserError, match=r"rejects the association.*knows calling_ae \(MEDICAL_GANS\)"):
        send_files(study[1], address)
    address, _ = archive(require_called_aet=True)
    with pytest.raises(UserError, match=r"Check called_ae \(WRONG\)"):
        send_files(study[1], address, called_ae="WRONG")


def test_an_archive_that_is_not_there_is_named(study):
    pytest.importorskip("pynetdicom")
    port = free_port()
    with pytest.raises(UserError, match=f"No DICOM archive answers at 127.0.0.1:{port}"):
        send_files(study[1], f"{HOST}:{port}")


def test_nothing_of_the_patient_is_logged(study, archive, caplog):
    address, _ = archive(lambda number: 0xC000)
    with caplog.at_level(logging.DEBUG):
        send_files(study[1], address)
    assert "lanted" not in caplog.text


@pytest.mark.parametrize("address", ["host", "host:", ":104", "host:0", "host:70000", "a b:104", "host:x", "::1:104"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SettingError, match="give host:port"):
        parse_address(address)


def test_addresses_are_understood():
    assert parse_address("pacs.hospital.org:104") == ("pacs.hospital.org", 104)
    assert parse_address("[::1]:11112") == ("::1", 11112)


@pytest.mark.parametrize("title", ["", " ", "SEVENTEEN_LETTERS", "ümlaut", "BACK\\SLASH"])
def test_what_is_no_application_entity_title_is_refused(study, title):
    with pytest.raises(SettingError, match="1 to 16 ASCII characters"):
        send_files(study[1], "localhost:104", calling_ae=title)


class Orthanc:
    """An Orthanc of its own on loopback."""

    def __init__(self, folder):
        self.dicom, self.http = free_port(), free_port()
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self.http}/{path}", timeout=10) as answer:
            return answer.read()

    def wait(self) -> bool:
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return bool(self.get("system"))
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        return False


@pytest.fixture
def orthanc(tmp_path):
    if not ORTHANC:
        pytest.skip("Orthanc is not installed")
    server = Orthanc(tmp_path)
    try:
        if not server.wait():
            pytest.skip(f"Orthanc does not start here: {(tmp_path / 'log').read_text(errors='replace')[-300:]}")
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


def test_orthanc_files_mr_and_ct_as_one_study_and_gives_the_pixels_back(study, orthanc):
    mr_files, ct_files, pixels, hounsfield = study
    assert send_files([*mr_files, *ct_files], f"{HOST}:{orthanc.dicom}", called_ae="ORTHANC") == {}
    assert [len(json.loads(orthanc.get(kind))) for kind in ("patients", "studies", "series", "instances")] == [
        1,
        1,
        2,
        10,
    ]
    for series in json.loads(orthanc.get("series?expand")):
        is_ct = series["MainDicomTags"]["Modality"] == "CT"
        for number in series["Instances"]:
            image = pydicom.dcmread(pydicom.filebase.DicomBytesIO(orthanc.get(f"instances/{number}/file")))
            k = int(image.InstanceNumber) - 1
            if is_ct:
                assert np.array_equal(image.pixel_array.astype(int) - 1024, hounsfield[:, :, k].T)
                assert image.SyntheticData == "YES"
            else:
                assert np.array_equal(image.pixel_array, pixels[k])
