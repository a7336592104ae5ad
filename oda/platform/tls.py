"""The TLS side of the device port, from PEM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet import ssl

from oda.errors import ConfigurationError, Fault


def load_server_tls(cert: Path, key: Path, client_ca: Path | None = None) -> Any:
    """A context factory that presents the certificate (chain) in ``cert``.

    With ``client_ca``, only devices with a certificate of that authority may connect. Raises
    ``ConfigurationError`` that names the unusable file.
    """
    own, *chain = _certificates(cert)
    try:
        # typed as in pyOpenSSL, which expects these objects and deprecates its own
        private_key: Any = load_pem_private_key(_read(key), None)
    except (ValueError, TypeError):  # a key with a passphrase is a TypeError
        raise ConfigurationError([Fault(str(key), 0, "", "is not a private key (PEM)")]) from None
    trusted = None if client_ca is None else load_authority(client_ca)
    options = ssl.CertificateOptions(
        privateKey=private_key, certificate=own, extraCertChain=chain, trustRoot=trusted
    )
    try:
        options.getContext()
    except SSL.Error:
        raise ConfigurationError([Fault(str(key), 0, "", f"does not belong to {cert}")]) from None
    return options


def load_authority(path: Path) -> Any:
    """A trust root of the certificates in a file; raises ``ConfigurationError`` naming the file."""
    return ssl.trustRootFromCertificates(
        [
            ssl.Certificate.loadPEM(certificate.public_bytes(Encoding.PEM))
            for certificate in _certificates(path)
        ]
    )


def _certificates(path: Path) -> list[Any]:
    try:
        return load_pem_x509_certificates(_read(path))
    except ValueError:
        raise ConfigurationError([Fault(str(path), 0, "", "holds no certificate (PEM)")]) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
        raise ConfigurationError([Fault(str(path), 0, "", problem)]) from None
