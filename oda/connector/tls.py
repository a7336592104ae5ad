"""TLS for the connection: always verified unless the operator explicitly says otherwise.

The minimum is TLS 1.2. Of its suites the agent offers only those with forward secrecy and
authenticated encryption; all suites of TLS 1.3 have both. pyOpenSSL is imported only when TLS is
used, because it costs memory and start-up time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from oda.errors import ConnectorError
from oda.log import Logger
from oda.settings import ConnectorSettings, Secret
from oda.verification import unverified_client, verified_client

_log = Logger()

#: No exchange without forward secrecy, no CBC.
_TLS_1_2_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL"

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
#: What a key file may hold besides the key: the parameters of its curve, a certificate.
_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


def build_tls_options(settings: ConnectorSettings) -> Any:
    """The ``IOpenSSLClientConnectionCreator`` for ``settings``.

    Raises ``ConnectorError``, which names the key and the file, if a certificate or key is
    unusable.
    """
    from twisted.internet import ssl

    options: dict[str, Any] = {
        "raiseMinimumTo": ssl.TLSVersion.TLSv1_2,
        "acceptableCiphers": ssl.AcceptableCiphers.fromOpenSSLCipherString(_TLS_1_2_SUITES),
    }
    if settings.cert_file is not None and settings.key_file is not None:
        options.update(_client_certificate(settings, settings.cert_file, settings.key_file))
    if settings.skip_verify:
        _log.warn(
            "skipVerify=true: the agent does NOT check the platform's certificate; anybody on the"
            " network path can read the API key and the data"
        )
        return unverified_client(settings.host, options)
    trust_root = None if settings.ca_file is None else _trust_root(settings.ca_file)
    return verified_client(settings.host, trust_root, options)


# -- files -----------------------------------------------------------------------------------


def _trust_root(path: Path) -> Any:
    from twisted.internet import ssl

    blocks = _pem_certificates(_read("caFile", path))
    if not blocks:
        raise ConnectorError(f"caFile: {path} holds no certificate (PEM)")
    try:
        return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(block) for block in blocks])
    except Exception as error:
        raise ConnectorError(f"caFile: {path} holds a certificate that can't be read") from error


def _client_certificate(
    settings: ConnectorSettings, cert_file: Path, key_file: Path
) -> dict[str, Any]:
    """The arguments of ``CertificateOptions`` for mutual TLS: certificate, chain and key."""
    from twisted.internet import ssl

    blocks = _pem_certificates(_read("certFile", cert_file))
    if not blocks:
        raise ConnectorError(f"certFile: {cert_file} holds no certificate (PEM)")
    try:
        certificate, *chain = [ssl.Certificate.loadPEM(block).original for block in blocks]
    except Exception as error:
        raise ConnectorError(
            f"certFile: {cert_file} holds a certificate that can't be read"
        ) from error
    key = _private_key(key_file, settings.key_passphrase)
    try:
        fits = certificate.to_cryptography().public_key() == key.to_cryptography_key().public_key()
    except Exception:  # noqa: BLE001 - a kind of key that can't be compared
        fits = False
    if not fits:
        raise ConnectorError(
            f"certFile {cert_file} and keyFile {key_file} can't be used together: the certificate"
            " belongs to another key"
        )
    options: dict[str, Any] = {"privateKey": key, "certificate": certificate}
    if chain:
        options["extraCertChain"] = chain
    return options


def _private_key(path: Path, passphrase: Secret | None) -> Any:
    """The key in ``path``, for pyOpenSSL. ``cryptography`` reads it, because OpenSSL's own reader
    would ask for a passphrase at the terminal."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from OpenSSL import crypto

    found = _PRIVATE_KEY.search(_read("keyFile", path))
    if found is None:
        raise ConnectorError(f"keyFile: {path} holds no private key (PEM)")
    block = found.group()
    is_encrypted = b"ENCRYPTED" in found.group(1) or b"Proc-Type: 4,ENCRYPTED" in block
    if is_encrypted and passphrase is None:
        raise ConnectorError(
            f"keyFile: the key in {path} is encrypted; set keyPassphraseFile to a file with its"
            " passphrase"
        )
    password = passphrase.reveal().encode() if is_encrypted and passphrase is not None else None
    try:
        return crypto.PKey.from_cryptography_key(load_pem_private_key(block, password))  # type: ignore[arg-type, unused-ignore]
    except UnsupportedAlgorithm as error:
        raise ConnectorError(
            f"keyFile: the key in {path} is of a kind, or encrypted in a way, that the agent does"
            " not support"
        ) from error
    except Exception as error:
        if is_encrypted:
            # From None: a frame of the traceback may hold the passphrase.
            raise ConnectorError(
                f"keyFile: the key in {path} can't be decrypted with the passphrase in"
                " keyPassphraseFile"
            ) from None
        raise ConnectorError(f"keyFile: {path} holds a key that can't be read") from error


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConnectorError(f"{key}: can't read {path}: {error.strerror}") from error


def _pem_certificates(text: bytes) -> list[bytes]:
    return [
        part[part.index(_BEGIN) :] + _END + b"\n" for part in text.split(_END) if _BEGIN in part
    ]
