"""When certificates end: the platform's, as it was shown, and the client's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def platform_certificate_ends_ms(transport: Any) -> int | None:
    """The end of the certificate the peer of ``transport`` has shown, in milliseconds since the
    Unix epoch; None without TLS."""
    ask = getattr(transport, "getPeerCertificate", None)
    certificate = ask() if ask is not None else None
    return None if certificate is None else _ends_ms(certificate.to_cryptography())


def file_certificate_ends_ms(path: Path | None) -> int | None:
    """The end of the first certificate in a PEM file; None where there is none that can be read
    (the connection has its own word on that)."""
    if path is None:
        return None
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return _ends_ms(load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError):
        return None


def _ends_ms(certificate: Any) -> int:
    return int(certificate.not_valid_after_utc.timestamp() * 1000)
