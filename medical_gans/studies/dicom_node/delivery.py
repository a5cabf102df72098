"""The archive that results are stored to."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medical_gans.errors import OutputError
from medical_gans.io.dicom.sending import check_can_send, send_files


@dataclass(frozen=True)
class Archive:
    """Where results go by C-STORE.

    Attributes:
        address: ``host:port``.
        calling_ae: our application entity title.
        called_ae: that of the archive.
        tls: None sends in the clear.

    Raises:
        SettingError: the address or a title is not valid.
        UserError: pynetdicom is not installed.
    """

    address: str
    calling_ae: str = "MEDICAL_GANS"
    called_ae: str = "ANY-SCP"
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        check_can_send(self.address, self.calling_ae, self.called_ae)

    def store(self, files: Sequence[Path]) -> None:
        """Store files; what was stored before is stored again under the same UIDs, which an archive keeps once.

        Raises:
            OutputError: the archive answers, and did not take some; how many and why.
            UserError: it cannot be reached or rejects us.
        """
        failures = send_files(files, self.address, calling_ae=self.calling_ae, called_ae=self.called_ae, tls=self.tls)
        if failures:
            reasons = sorted(set(failures.values()))
            raise OutputError(f"{len(failures)} of {len(files)} objects were not stored: {'; '.join(reasons)}.")
