"""Who may send what: answers to the sender, and a sentence in the record for each that was turned away."""

import logging
import shutil
import socket
import ssl
import subprocess
import time

import pydicom
import pytest

from medical_gans.errors import SettingError, UserError
from medical_gans.studies.dicom_node import Peers, QueueLimits, TlsFiles
from medical_gans.studies.dicom_node.receiving import Receiver
from medical_gans.studies.dicom_node.record import Record
from medical_gans.studies.dicom_node.series_queue import SeriesQueue

HOST = "127.0.0.1"


@pytest.fixture
def listen(clinic, tmp_path):
    """Open a door; get its port, queue and record."""
    doors, before = [], pydicom.config.settings.reading_validation_mode

    def start(peers=None, limits=None, **options):
        record = Record(tmp_path)
        queue = SeriesQueue(tmp_path, limits or QueueLimits(free_gib=0.0))
        doors.append((Receiver(queue, record, peers or Peers(), **options), record))
        return doors[-1][0].start(HOST, 0), queue, record

    yield start
    for door, record in doors:
        door.stop()
        record.close()
    pydicom.config.settings.reading_validation_mode = before


@pytest.fixture
def files(clinic, tmp_path):
    return sorted(clinic.write_series(tmp_path / "mr", 1, slices=3).iterdir())


def associate(port, title="SCANNER", tls=None, kinds=(pydicom.uid.MRImageStorage, pydicom.uid.CTImageStorage)):
    from pynetdicom import AE

    entity = AE(ae_title=title)
    entity.add_requested_context("1.2.840.10008.1.1")
    for kind in kinds:
        entity.add_requested_context(kind)
    return entity.associate(HOST, port, tls_args=None if tls is None else (tls, HOST))


def told(record):
    return " ".join(entry.sentence for entry in [*record.notes(), *record.latest()])


def test_an_echo_is_answered(listen):
    port, _, _ = listen()
    association = associate(port)
    assert association.send_c_echo().Status == 0
    association.release()


def test_an_image_that_was_answered_with_success_is_on_disk_as_it_was_sent(listen, files):
    port, queue, _ = listen()
    association = associate(port)
    assert association.send_c_store(files[0]).Status == 0
    (kept,) = (queue.folder / "received").rglob("*.dcm")
    sent, kept = pydicom.dcmread(files[0]), pydicom.dcmread(kept)
    assert kept.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    assert kept.PixelData == sent.PixelData and kept.PatientName == sent.PatientName
    association.release()


def test_a_release_makes_a_series_whole_and_an_abort_does_not(listen, files, clinic):
    port, queue, _ = listen()
    association = associate(port)
    association.send_c_store(files[0])
    assert not list(queue.ended(0, 0))
    association.abort()
    clinic.wait_for(lambda: list(queue.ended(0, 0)), 10, "the end")
    assert not list(queue.ended(0, 1e6))
    association = associate(port)
    for path in files:
        association.send_c_store(path)
    association.release()
    assert [one.images for one in queue.ended(0, 1e6)] == [3], "the answer to a release comes after it is kept"


def test_other_kinds_are_refused_by_a_status_and_one_sentence_a_series(listen, clinic, tmp_path):
    port, _, record = listen()
    ct = clinic.write_series(tmp_path / "ct", 2, 3, Modality="CT", SOPClassUID=pydicom.uid.CTImageStorage)
    association = associate(port)
    for path in sorted(ct.iterdir()):
        image = pydicom.dcmread(path)
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        assert association.send_c_store(image).Status == 0x0122
    association.release()
    (entry,) = record.latest()
    assert entry.what == "refused" and "modality CT; MR series and structure sets are taken" in entry.sentence
    assert len(record.path.read_text().splitlines()) == 1


def test_an_object_without_series_is_refused_in_words(listen, files):
    port, _, record = listen()
    image = pydicom.dcmread(files[0])
    del image.SeriesInstanceUID
    association = associate(port)
    assert association.send_c_store(image).Status == 0xC000
    association.release()
    assert "without the UID of a series" in told(record)


def test_no_room_is_told_to_the_sender_and_in_the_record(listen, files):
    port, _, record = listen(limits=QueueLimits(free_gib=1e9))
    association = associate(port)
    assert [association.send_c_store(path).Status for path in files] == [0xA700] * 3
    association.release()
    assert told(record).count("are to stay free (free_disk)") == 1


def test_an_object_beyond_the_limit_ends_the_association_before_it_is_whole(listen, files):
    port, queue, record = listen(limits=QueueLimits(object_mib=1.0, free_gib=0.0))
    image = pydicom.dcmread(files[0])
    image.PixelData = bytes(8 << 20)
    association = associate(port)
    status = association.send_c_store(image)
    assert "Status" not in status and not list((queue.folder / "received").iterdir())
    assert "more than 1 MiB" in told(record)


def test_only_allowed_titles_associate(listen):
    port, _, record = listen(Peers(titles="SCANNER, OTHER"))
    stranger = associate(port, title="STRANGER")
    assert stranger.is_rejected
    assert "STRANGER at 127.0.0.1 was rejected: it is not one of allowed_titles" in told(record)
    known = associate(port)
    assert known.is_established
    known.release()


def test_only_allowed_addresses_are_answered(listen):
    port, _, record = listen(Peers(addresses=["10.1.2.0/24", "192.168.7.7"]))
    association = associate(port)
    assert not association.is_established
    assert "127.0.0.1 was closed: it is not one of allowed_addresses" in told(record)


@pytest.mark.parametrize(
    ("address", "may"), [("10.1.2.200", True), ("10.1.3.1", False), ("::ffff:10.1.2.5", True), ("fe80::1%eth0", False)]
)
def test_networks_are_understood(address, may):
    assert Peers(addresses="10.1.2.0/24, 192.168.7.7").may_connect(address) is may


def test_what_is_no_network_is_refused():
    with pytest.raises(SettingError, match="allowed_addresses has 'scanner1'"):
        Peers(addresses=["scanner1"])


def test_one_association_too_many_is_asked_to_come_back(listen):
    port, _, record = listen(associations=1)
    first = associate(port)
    second = associate(port)
    assert first.is_established and second.is_rejected
    assert second.acceptor.primitive.result == 2, "transient"
    assert "too many associations" in told(record)
    first.release()


def test_a_port_that_is_taken_is_told(listen, tmp_path):
    port, queue, record = listen()
    with pytest.raises(UserError, match=f"Nobody can listen at 127.0.0.1:{port}"):
        Receiver(queue, record, Peers()).start(HOST, port)


def test_nothing_of_the_patient_is_logged(listen, files, caplog, recwarn):
    port, _, record = listen()
    with caplog.at_level(logging.DEBUG):
        association = associate(port)
        for path in files:
            association.send_c_store(path)
        broken = pydicom.dcmread(files[0])
        broken.Modality = "Zappelphilipp"
        broken["StudyInstanceUID"]._value = "Zappelphilipp"
        caplog.clear()  # of what pydicom says of these lines
        recwarn.clear()
        association.send_c_store(broken)
        association.abort()
    for text in (caplog.text, record.path.read_text(), *(str(one.message) for one in recwarn)):
        assert "appel" not in text and "Qx77" not in text and "1.2.826" not in text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate that signs itself, twice: of the node and of a stranger."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("node", "stranger"):
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        subprocess.run([*words, "-addext", "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True)
    return folder


def of_sender(folder, name):
    context = ssl.create_default_context(cafile=folder / "node.pem")
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def test_over_tls_only_certificates_of_the_authority_are_let_in(listen, files, certificates, clinic):
    own = certificates / "node.pem"
    tls = TlsFiles(own, certificates / "node.key", own).for_senders()
    port, queue, record = listen(tls=tls)
    association = associate(port, tls=of_sender(certificates, "node"))
    assert [association.send_c_store(path).Status for path in files] == [0, 0, 0]
    association.release()
    assert [one.images for one in queue.ended(0, 1e6)] == [3]
    stranger = associate(port, tls=of_sender(certificates, "stranger"))
    assert not stranger.is_established
    clinic.wait_for(lambda: "no TLS with it" in told(record), 60, "the refusal")


def test_who_says_nothing_keeps_nobody_else_from_the_door(listen, files, certificates, clinic):
    tls = TlsFiles(certificates / "node.pem", certificates / "node.key").for_senders()
    port, _, record = listen(tls=tls)
    with socket.create_connection((HOST, port)):
        begin = time.monotonic()
        association = associate(port, tls=of_sender(certificates, "node"))
        assert association.is_established and time.monotonic() - begin < 20
        association.release()
    plain = associate(port)
    assert not plain.is_established
    clinic.wait_for(lambda: "no TLS with it" in told(record), 60, "the refusal")


def test_files_for_tls_that_cannot_be_used_are_told(certificates, tmp_path):
    with pytest.raises(SettingError, match="needs both tls_certificate_file and tls_key_file"):
        TlsFiles(certificates / "node.pem")
    with pytest.raises(SettingError, match="cannot be used"):
        TlsFiles(certificates / "node.pem", certificates / "stranger.key")
    with pytest.raises(SettingError, match="cannot be used"):
        TlsFiles(certificates / "missing.pem", certificates / "node.key")
    with pytest.raises(SettingError, match="needs tls_certificate_file"):
        TlsFiles(authority=certificates / "node.pem")
