"""The door of a node: C-STORE and C-ECHO. What is answered with success is on disk."""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import threading
from io import BytesIO
from typing import Any

import pydicom
from pydicom import config as pydicom_config

from medical_gans.errors import UserError
from medical_gans.io.dicom.headers import UNREADABLE, text
from medical_gans.studies.dicom_node.peers import Peers
from medical_gans.studies.dicom_node.record import NOTE, RECEIVED, REFUSED, WAITS, Record, short_name
from medical_gans.studies.dicom_node.series_queue import NoRoomError, Sender, SeriesQueue

_TAKEN, _NO_ROOM, _NOT_SUPPORTED, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0x0122, 0xC000
_NEEDED = ["Modality", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
_IDLE = 60  # s without a word before an association is given up
_MODALITIES = frozenset(  # that may be named: others may hold anything
    (
        *("CT", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "ES", "OT", "SC", "SR", "PR", "KO", "SEG", "REG"),
        *("RTDOSE", "RTPLAN", "RTIMAGE", "RTRECORD", "DOC", "ECG", "OP", "XC", "M3D"),
    )
)
_SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),  # not compressed
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),  # JPEG
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    "1.2.840.10008.1.2.5",  # RLE
)


class Receiver:
    """Takes MR images and structure sets into the queue, from those who may send.

    Args:
        queue: where they go.
        record: of what came and what was refused.
        peers: who may send.
        tls: None listens in the clear.
        title: our application entity title.
        associations: that may be open at a time; one more is asked to come back later.
    """

    def __init__(
        self,
        queue: SeriesQueue,
        record: Record,
        peers: Peers,
        tls: ssl.SSLContext | None = None,
        *,
        title: str = "MEDICAL_GANS",
        associations: int = 20,
    ) -> None:
        self.queue, self.record, self.peers, self.tls = queue, record, peers, tls
        self.title, self.associations = title, associations
        self._senders: dict[int, Sender] = {}
        self._told: dict[int, set[str]] = {}
        self._unread: dict[int, int] = {}
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self, host: str, port: int) -> int:
        """Listen in the background.

        Returns:
            The port, where 0 asked for any.

        Raises:
            UserError: nobody can listen there.
        """
        from pynetdicom import AE, AllStoragePresentationContexts, evt
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

        for name in ("pynetdicom", "pydicom"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what they log may quote a patient's values
        pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE  # as may what it warns of
        entity = AE(ae_title=self.title)
        entity.maximum_associations = self.associations
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _IDLE
        entity.require_calling_aet = list(self.peers.titles or ())
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), list(_SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_DATA_RECV, self._limit),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACSE_RECV, self._before_release),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_CONN_CLOSE, self._ended),
        ]
        try:
            self._server = entity.make_server(
                (host, port),
                ssl_context=self.tls,
                evt_handlers=handlers,
                server_class=_server_class(),
                may_connect=self.peers.may_connect,
                tell=lambda sentence: self.record.add(NOTE, sentence),
            )
        except OSError as error:
            raise UserError(
                f"Nobody can listen at {host}:{port} ({error.strerror}). Choose another port, or an address of this "
                "machine."
            ) from error
        threading.Thread(target=self._server.serve_forever, name="door", daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Close the door; open associations are cut, and their series wait to be sent again."""
        if self._server is None:
            return
        open_now = self._server.active_associations
        self._server.shutdown_listening()
        for association in open_now:
            association.abort()

    def _established(self, event: Any) -> None:
        association = event.assoc
        title = "".join(letter for letter in str(association.requestor.ae_title) if letter.isprintable()).strip()
        sender = Sender(f"{title} at {association.requestor.address}", association)
        with self._lock:
            self._senders[id(association)], self._told[id(association)] = sender, set()
        self.queue.opened(sender)

    def _rejected(self, event: Any) -> None:
        requestor = event.assoc.requestor
        title = "".join(letter for letter in str(requestor.ae_title) if letter.isprintable()).strip()
        known = title in (self.peers.titles or (title,))
        reason = "there are too many associations already" if known else "it is not one of allowed_titles"
        self.record.add(NOTE, f"The association of {title} at {requestor.address} was rejected: {reason}.")

    def _limit(self, event: Any) -> None:
        """End an association that sends more than one object may hold, before the memory is full of it."""
        key = id(event.assoc)
        size = self._unread[key] = self._unread.get(key, 0) + len(event.data)
        if size > (self.queue.limits.object_mib + 1) * 2**20:
            self._unread[key] = 0
            sender = self._senders.get(key)
            self.record.add(
                NOTE,
                f"The association of {sender.name if sender else 'a sender'} was cut: it sent an object of more than "
                f"{self.queue.limits.object_mib:g} MiB, which is the limit (largest_object).",
            )
            event.assoc.abort()

    def _store(self, event: Any) -> int:
        key = id(event.assoc)
        self._unread[key] = 0
        if (sender := self._senders.get(key)) is None:  # gone already
            return _NO_ROOM
        try:
            content = event.encoded_dataset()
            header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=_NEEDED)
            modality, study, series, named = (text(header, keyword) for keyword in _NEEDED)
        except UNREADABLE:
            modality = study = series = named = ""
        if not (series and named):
            sentence = (
                f"{sender.name} sent an object that cannot be read, or without the UID of a series or of its own."
            )
            self._refuse(event, sender, "", sentence)
            return _NOT_UNDERSTOOD
        try:
            if modality == "MR":
                if began := self.queue.add_image(sender, series, named, content):
                    self.record.add(RECEIVED, "Its first image came.", began, sender=sender.name, images=0, job="")
            elif modality == "RTSTRUCT":
                self.queue.add_structure_set(study, named, content)
            else:
                kind = f"modality {modality}" if modality in _MODALITIES else "another modality"
                sentence = f"{sender.name} sent a series of {kind}; MR series and structure sets are taken."
                self._refuse(event, sender, short_name(series), sentence)
                return _NOT_SUPPORTED
        except NoRoomError as error:
            about = short_name(series) if modality == "MR" else ""
            self._refuse(event, sender, about, f"An image was not taken, its sender may try again: {error}", WAITS)
            return _NO_ROOM
        return _TAKEN

    def _refuse(self, event: Any, sender: Sender, series: str, sentence: str, what: str = REFUSED) -> None:
        """Write down a refusal, once per association, series and kind."""
        told = self._told.get(id(event.assoc), set())
        if (mark := f"{series} {what}") not in told:
            told.add(mark)
            details = {"sender": sender.name} if series else {}
            self.record.add(what if series else NOTE, sentence, series, **details)

    def _before_release(self, event: Any) -> None:
        """The answer to a release is sent after this: who gets it knows that its series are whole on disk."""
        from pynetdicom.pdu_primitives import A_RELEASE

        if isinstance(event.primitive, A_RELEASE) and (sender := self._senders.get(id(event.assoc))):
            self.queue.released(sender)

    def _ended(self, event: Any) -> None:
        with self._lock:
            key = id(event.assoc)
            sender = self._senders.pop(key, None)
            self._told.pop(key, None)
            self._unread.pop(key, None)
        if sender is not None:
            self.queue.closed(sender)


def _server_class() -> type:
    from pynetdicom.transport import ThreadedAssociationServer

    class Server(ThreadedAssociationServer):
        """Turns strangers away, and shakes hands over TLS without keeping others waiting."""

        daemon_threads = True
        request_queue_size = 64

        def __init__(self, *given: Any, may_connect: Any, tell: Any, **named: Any) -> None:
            self._may_connect, self._tell = may_connect, tell
            super().__init__(*given, **named)

        def verify_request(self, request: Any, client_address: Any) -> bool:
            if self._may_connect(client_address[0]):
                return True
            self._tell(f"A connection from {client_address[0]} was closed: it is not one of allowed_addresses.")
            return False

        def get_request(self) -> tuple[socket.socket, Any]:
            assert self.socket is not None
            return self.socket.accept()

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            if self.ssl_context is not None:
                request.settimeout(_IDLE)
                try:
                    request = self.ssl_context.wrap_socket(request, server_side=True)
                except OSError as error:
                    reason = getattr(error, "reason", None) or "no answer"
                    self._tell(f"A connection from {client_address[0]} was closed: no TLS with it ({reason}).")
                    self.shutdown_request(request)
                    return
            super().process_request_thread(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            self._tell(f"A connection from {client_address[0]} ended before it was an association.")

        def shutdown_listening(self) -> None:
            socketserver.BaseServer.shutdown(self)
            self.server_close()

    return Server
