"""New DICOM UIDs, random or repeatable."""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid4


class NewUIDs:
    """Makes UIDs under 2.25, the root of UUIDs (PS3.5, B.2), which needs no registration.

    Args:
        seed: None makes random UIDs; with a number, the same arguments give the same UIDs again.
        content: what the objects are made of. Objects that differ in it never share a UID.
    """

    def __init__(self, seed: int | None, *content: object) -> None:
        self._start = None if seed is None else _digest(seed, *content)

    def __call__(self, *purpose: object) -> str:
        """The UID for one purpose, such as ``("ct", 17)``."""
        if self._start is None:
            return f"2.25.{uuid4().int}"
        return f"2.25.{UUID(bytes=_digest(self._start, *purpose)[:16], version=5).int}"


def _digest(*parts: object) -> bytes:
    """SHA-256 of the hashes of all parts; bytes count as they are, the rest as text."""
    hashes = (hashlib.sha256(part if isinstance(part, bytes) else str(part).encode()).digest() for part in parts)
    return hashlib.sha256(b"".join(hashes)).digest()
