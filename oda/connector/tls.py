"""TLS for the connection: always verified unless the operator says otherwise, in so many words.

``optionsForClientTLS`` checks the certificate chain and the host name; a bare context factory
would check neither. TLS 1.2 is the minimum. pyOpenSSL is imported only when TLS is used: it costs
memory and start-up time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from oda.errors import ConnectorError
from oda.settings import ConnectorSettings

_log = Logger()

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


def build_tls_options(settings: ConnectorSettings) -> Any:
    """The ``IOpenSSLClientConnectionCreator`` for ``settings``.

    Raises ``ConnectorError`` naming the key and the file when a certificate or key can't be used.
    """
    from twisted.internet import ssl

    options: dict[str, Any] = {"raiseMinimumTo": ssl.TLSVersion.TLSv1_2}
    if settings.cert_file is not None and settings.key_file is not None:
        options.update(_client_certificate(settings.cert_file, settings.key_file))
    if settings.skip_verify:
        _log.warn(
            "skipVerify=true: the platform's certificate is NOT checked; anybody on the way can"
            " read the API key and the data"
        )
        context = ssl.CertificateOptions(verify=False, **options).getContext()
        return _Unverified(settings.host, context)
    trust_root = None if settings.ca_file is None else _trust_root(settings.ca_file)
    return ssl.optionsForClientTLS(
        settings.host, trustRoot=trust_root, extraCertificateOptions=options
    )


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS without verification, for tests against self-made certificates."""

    def __init__(self, host: str, context: Any) -> None:
        self._host = host
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        from OpenSSL import SSL
        from twisted.internet.abstract import isIPAddress, isIPv6Address

        connection = SSL.Connection(self._context, None)
        if not (isIPAddress(self._host) or isIPv6Address(self._host)):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


def _trust_root(path: Path) -> Any:
    from twisted.internet import ssl

    blocks = _pem_certificates(_read("caFile", path))
    if not blocks:
        raise ConnectorError(f"caFile: {path} holds no certificate (PEM)")
    try:
        return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(block) for block in blocks])
    except Exception as error:
        raise ConnectorError(f"caFile: {path} holds a certificate that can't be read") from error


def _client_certificate(cert_file: Path, key_file: Path) -> dict[str, Any]:
    """The arguments of ``CertificateOptions`` for mutual TLS: certificate, chain and key."""
    from twisted.internet import ssl

    blocks = _pem_certificates(_read("certFile", cert_file))
    if not blocks:
        raise ConnectorError(f"certFile: {cert_file} holds no certificate (PEM)")
    key = _read("keyFile", key_file)
    try:
        pair = ssl.PrivateCertificate.loadPEM(blocks[0] + key)
        chain = [ssl.Certificate.loadPEM(block).original for block in blocks[1:]]
    except Exception as error:
        raise ConnectorError(
            f"certFile {cert_file} and keyFile {key_file} can't be used together"
        ) from error
    options = {"privateKey": pair.privateKey.original, "certificate": pair.original}
    if chain:
        options["extraCertChain"] = chain
    return options


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConnectorError(f"{key}: can't read {path}: {error.strerror}") from error


def _pem_certificates(text: bytes) -> list[bytes]:
    return [
        part[part.index(_BEGIN) :] + _END + b"\n" for part in text.split(_END) if _BEGIN in part
    ]
