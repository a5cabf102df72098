"""Who may speak to the node, and how the line is closed to others."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medical_gans.errors import SettingError


def _listed(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    given = value.split(",") if isinstance(value, str) else value
    return tuple(str(one).strip() for one in given)


@dataclass(frozen=True)
class Peers:
    """Who may send.

    Attributes:
        titles: calling application entity titles; None or none takes any.
        addresses: IP addresses and networks such as ``10.1.2.0/24``; None or none takes any.

    Raises:
        SettingError: what was given is no address.
    """

    titles: str | Sequence[str] | None = None
    addresses: str | Sequence[str] | None = None
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "titles", _listed(self.titles))
        networks = []
        for given in _listed(self.addresses):
            try:
                networks.append(ipaddress.ip_network(given, strict=False))
            except ValueError as error:
                raise SettingError(
                    f"allowed_addresses has {given!r}; give IP addresses or networks, such as 10.1.2.3 or 10.1.2.0/24."
                ) from error
        object.__setattr__(self, "_networks", tuple(networks))

    def may_connect(self, address: str) -> bool:
        """Whether somebody at an IP address may."""
        if not self._networks:
            return True
        given = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(given, "ipv4_mapped", None)
        return any((mapped or given) in network for network in self._networks)


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM for TLS; without a certificate the line is plain.

    Attributes:
        certificate: of the node, for what comes and, where the archive asks, for what goes.
        key: its private key.
        authority: certificates that peers must be signed by; None asks senders for none, and takes the
            system's for the archive.

    Raises:
        SettingError: one of certificate and key without the other, or a file cannot be used.
    """

    certificate: str | Path | None = None
    key: str | Path | None = None
    authority: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingError("TLS needs both tls_certificate_file and tls_key_file; give both, or none of them.")
        if self.authority is not None and self.certificate is None:
            raise SettingError("tls_authority_file needs tls_certificate_file and tls_key_file beside it.")
        self.for_senders()

    def for_senders(self) -> ssl.SSLContext | None:
        """For what comes; None where the line is plain."""
        if self.certificate is None:
            return None
        context = self._with_files(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        if self.authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def for_archive(self) -> ssl.SSLContext:
        """For what goes."""
        return self._with_files(ssl.create_default_context(ssl.Purpose.SERVER_AUTH))

    def _with_files(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            if self.authority is not None:
                context.load_verify_locations(self.authority)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise SettingError(
                f"The files for TLS cannot be used ({reason}). Give certificate and its key without a password in PEM."
            ) from error
        return context


def _no_password() -> str:
    raise ValueError("the key has a password")
