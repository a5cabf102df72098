"""DICOM files to an archive by C-STORE, with the reason for each object that did not arrive."""

from __future__ import annotations

import importlib.util
import logging
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom

from medical_gans.errors import SettingError, UserError

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>\d+)")
_LONGEST_TITLE = 16
_MOST_CONTEXTS = 128
_SECONDS = 30  # without an answer before an association is given up
_STORED, _STORED_WITH_WARNING = 0x0000, range(0xB000, 0xC000)
_REASONS = {0xA7: "the archive is out of resources", 0xA9: "the archive finds the object does not match its class"}


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[ipv6]:port``.

    Raises:
        SettingError: it is neither.
    """
    found = _ADDRESS.fullmatch(str(address).strip())
    if not found or not 0 < int(found["port"]) < 1 << 16:
        raise SettingError(f"send is {address!r}; give host:port, such as pacs.hospital.org:104.")
    return found["ipv6"] or found["host"], int(found["port"])


def check_can_send(address: str, calling_ae: str, called_ae: str) -> tuple[str, int]:
    """Host and port, once all that can be checked without the archive is right.

    Raises:
        SettingError: the address or a title is not valid.
        UserError: pynetdicom is not installed.
    """
    for setting, title in (("calling_ae", calling_ae), ("called_ae", called_ae)):
        if not title.strip() or len(title) > _LONGEST_TITLE or not title.isascii() or "\\" in title:
            raise SettingError(f"{setting} is {title!r}; an application entity title has 1 to 16 ASCII characters.")
    if importlib.util.find_spec("pynetdicom") is None:
        raise UserError("Sending needs pynetdicom. Run pip install 'medical-gans[send]'.")
    return parse_address(address)


def send_files(
    files: Sequence[Path],
    address: str,
    *,
    calling_ae: str = "MEDICAL_GANS",
    called_ae: str = "ANY-SCP",
    tls: ssl.SSLContext | None = None,
) -> dict[Path, str]:
    """Store DICOM files in an archive, in the order given.

    Args:
        files: DICOM objects of any kind, sent in the transfer syntax they have.
        address: ``host:port``.
        calling_ae: our application entity title.
        called_ae: that of the archive.
        tls: None sends in the clear.

    Returns:
        The reason for each object that was not stored; empty when all were.

    Raises:
        SettingError: as `check_can_send`.
        UserError: as `check_can_send`, or the archive cannot be reached or rejects us.
    """
    host, port = check_can_send(address, calling_ae, called_ae)
    failures: dict[Path, str] = {}
    with _silent_pynetdicom():
        association = _associate(files, host, port, calling_ae, called_ae, tls)
        try:
            for path in files:
                if reason := _store(association, path):
                    failures[path] = reason
        finally:
            if association.is_established:
                association.release()
    return failures


def _associate(
    files: Sequence[Path], host: str, port: int, calling_ae: str, called_ae: str, tls: ssl.SSLContext | None
) -> Any:
    from pynetdicom import AE

    entity = AE(ae_title=calling_ae)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _SECONDS
    metas = (pydicom.filereader.read_file_meta_info(path) for path in files)
    kinds = dict.fromkeys((meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas)
    for sop_class, syntax in list(kinds)[:_MOST_CONTEXTS]:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(host, port, ae_title=called_ae, tls_args=None if tls is None else (tls, host))
    if association.is_established:
        return association
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = f": {answer.reason_str.lower()}" if answer is not None else ""
        raise UserError(
            f"The archive at {host}:{port} rejects the association{reason}. Check called_ae ({called_ae}), and that "
            f"the archive knows calling_ae ({calling_ae})."
        )
    raise UserError(
        f"No DICOM archive answers at {host}:{port}. Check address, network and that the archive runs; the files are "
        "written, and the same command sends them again."
    )


def _store(association: Any, path: Path) -> str | None:
    """Store one file; the reason why not, or None."""
    if not association.is_established:
        return "the archive ended the association"
    try:
        status = association.send_c_store(path)
    except ValueError:
        return "the archive does not take this kind of object or its transfer syntax"
    except RuntimeError:
        return "the archive ended the association"
    code = status.get("Status")
    if code is None:
        return "no answer from the archive"
    if code == _STORED or code in _STORED_WITH_WARNING:
        return None
    return f"{_REASONS.get(code >> 8, 'the archive refuses it')} (status 0x{code:04X})"


@contextmanager
def _silent_pynetdicom() -> Iterator[None]:
    """Its errors come back as reasons; what it logs may quote data sets."""
    logger = logging.getLogger("pynetdicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
