"""The TLS side of the device port, from PEM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import ssl

from oda.errors import ConfigurationError, Fault

_END = b"-----END CERTIFICATE-----"


def load_server_tls(cert: Path, key: Path, client_ca: Path | None = None) -> Any:
    """A context factory that shows the certificate (chain) in ``cert``.

    With ``client_ca`` only devices with a certificate of that authority are let in. Raises
    ``ConfigurationError`` naming the file that can't be used.
    """
    own, *chain = _certificates(cert)
    try:
        private_key = crypto.load_privatekey(crypto.FILETYPE_PEM, _read(key))
    except crypto.Error:
        raise ConfigurationError([Fault(str(key), 0, "", "is no private key (PEM)")]) from None
    trusted = None
    if client_ca is not None:
        trusted = ssl.trustRootFromCertificates(
            [ssl.Certificate(certificate) for certificate in _certificates(client_ca)]
        )
    options = ssl.CertificateOptions(
        privateKey=private_key, certificate=own, extraCertChain=chain, trustRoot=trusted
    )
    try:
        options.getContext()
    except SSL.Error:
        raise ConfigurationError([Fault(str(key), 0, "", f"does not belong to {cert}")]) from None
    return options


def _certificates(path: Path) -> list[crypto.X509]:
    blocks = [block + _END for block in _read(path).split(_END) if b"BEGIN CERTIFICATE" in block]
    try:
        found = [crypto.load_certificate(crypto.FILETYPE_PEM, block) for block in blocks]
    except crypto.Error:
        found = []
    if not found:
        raise ConfigurationError([Fault(str(path), 0, "", "holds no certificate (PEM)")])
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
        raise ConfigurationError([Fault(str(path), 0, "", problem)]) from None
