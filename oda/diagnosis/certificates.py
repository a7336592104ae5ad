"""What a check says of a certificate. Pure, except for reading a ``cryptography`` certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

#: A certificate that expires sooner is a warning.
WARN_DAYS = 30
_DAY_MS = 86_400_000


class Certificate(NamedTuple):
    """The relevant members of a certificate; times are milliseconds since the Unix epoch."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins_ms: int
    ends_ms: int


def read_certificate(certificate: Any) -> Certificate:
    """The members of a ``cryptography.x509.Certificate``."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = (
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        )
    except (x509.ExtensionNotFound, ValueError):
        found = ()
    return Certificate(
        subject=_name(certificate.subject),
        issuer=_name(certificate.issuer),
        names=found,
        begins_ms=int(certificate.not_valid_before_utc.timestamp() * 1000),
        ends_ms=int(certificate.not_valid_after_utc.timestamp() * 1000),
    )


def _name(name: Any) -> str:
    from cryptography.x509.oid import NameOID

    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(common[0].value) if common else str(name.rfc4514_string())
    return _printable(text)


def _printable(text: str) -> str:
    """A foreign text, made safe to show."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])


def is_for(certificate: Certificate, host: str) -> bool:
    """Whether the certificate names the host (RFC 6125: a ``*`` stands for one leftmost label)."""
    try:
        return str(ip_address(host)) in certificate.names
    except ValueError:
        pass
    host = host.lower().removesuffix(".")
    _, _, parent = host.partition(".")
    return any(
        name.lower() == host or (parent and name.lower() == f"*.{parent}")
        for name in certificate.names
    )


def day(at_ms: int) -> str:
    """The date (UTC) of a time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def days_left(ends_ms: int, now_ms: int) -> int:
    """Whole days until then; negative if it has passed."""
    return (ends_ms - now_ms) // _DAY_MS


def explain_refusal(
    certificate: Certificate, host: str, now_ms: int, has_ca_file: bool
) -> tuple[str, str]:
    """Why a certificate was probably refused, and what to do about it."""
    if now_ms < certificate.begins_ms:
        return (
            f"the platform's certificate is valid from {day(certificate.begins_ms)}, "
            f"and this machine's clock says {day(now_ms)}",
            "set this machine's clock",
        )
    if now_ms > certificate.ends_ms:
        return (
            f"the platform's certificate expired on {day(certificate.ends_ms)} "
            f"(this machine's clock says {day(now_ms)})",
            "the platform has to renew it; if this machine's clock is wrong, set it",
        )
    if not is_for(certificate, host):
        names = ", ".join(map(_printable, certificate.names[:10])) or "no host at all"
        return (
            f"the platform's certificate is for {names}, not for {host}",
            "set 'host' to one of these names, or have the certificate issued for this host",
        )
    where = "caFile doesn't hold" if has_ca_file else "this system doesn't know"
    return (
        f"the platform's certificate was issued by '{certificate.issuer}', an authority that "
        f"{where}",
        "set caFile to a PEM file with that authority's certificate",
    )
