"""TLS for the connection: always verified unless the operator says otherwise, in so many words.

OpenSSL checks the certificate chain; ``_Verifier`` checks that the certificate is for the host. The
verifier refuses whatever it can't check: the callback of Twisted's own client options lets a
certificate pass when ``service_identity`` raises an error that the callback does not expect (a
certificate without subjectAltName, or with a malformed one).

TLS 1.2 is the minimum. pyOpenSSL is imported only when TLS is used: it costs memory and start-up
time.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import ConnectorError
from oda.settings import ConnectorSettings, Secret

_log = Logger()

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
#: What a key file may hold besides the key: the parameters of its curve, a certificate.
_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class CertificateRefused(ConnectorError):  # noqa: N818 - named like those of oda.errors
    """The platform's certificate is not accepted. The text is one line that says why."""


def build_tls_options(settings: ConnectorSettings) -> Any:
    """The ``IOpenSSLClientConnectionCreator`` for ``settings``.

    Raises ``ConnectorError`` naming the key and the file when a certificate or key can't be used.
    """
    from OpenSSL import SSL, crypto
    from twisted.internet import ssl

    options: dict[str, Any] = {"raiseMinimumTo": ssl.TLSVersion.TLSv1_2}
    if settings.cert_file is not None and settings.key_file is not None:
        options.update(_client_certificate(settings, settings.cert_file, settings.key_file))
    name = _server_name(settings.host)
    if settings.skip_verify:
        _log.warn(
            "skipVerify=true: the platform's certificate is NOT checked; anybody on the way can"
            " read the API key and the data"
        )
        context = ssl.CertificateOptions(verify=False, **options).getContext()
        return _ConnectionCreator(context, name, verify=None)
    trusted = ssl.platformTrust() if settings.ca_file is None else _trust_root(settings.ca_file)
    context: Any = ssl.CertificateOptions(trustRoot=trusted, **options).getContext()
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    if settings.ca_file is not None:
        # Whoever names a certificate trusts it, also where it is not a self-signed root: that of
        # an intermediate authority, or the server's own.
        context.get_cert_store().set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    return _ConnectionCreator(context, name, _identity_check(name))


def describe_tls(error: BaseException) -> str | None:
    """What a failure of TLS means, in one short sentence; None for any other error. The texts of
    pyOpenSSL are data structures."""
    if isinstance(error, CertificateRefused):
        return str(error)
    if not type(error).__module__.startswith("OpenSSL"):
        return None
    causes = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = [cause[-1] for cause in causes if cause and cause[-1]]
    return ", ".join(said) if said else "the other side ended it"


# -- verification ----------------------------------------------------------------------------


@implementer(IOpenSSLClientConnectionCreator)
class _ConnectionCreator:
    """Makes the TLS side of a connection. ``verify(certificate)`` raises where the certificate is
    not for the host; None: nothing is verified, for tests against self-made certificates."""

    def __init__(self, context: Any, name: str, verify: Callable[[Any], None] | None) -> None:
        self._context = context
        self._name = name
        self._verify = verify

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        from OpenSSL import SSL

        connection = SSL.Connection(self._context, None)
        if not _is_address(self._name):  # RFC 6066, section 3: names only
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._verify is not None:
            connection.set_verify(
                SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
                _Verifier(tlsProtocol, self._verify),
            )
        return connection


class _Verifier:
    """OpenSSL's verification callback for one connection: True lets a certificate pass.

    Every way out but the last line refuses.
    """

    def __init__(self, tls_protocol: Any, verify: Callable[[Any], None]) -> None:
        self._tls_protocol = weakref.ref(tls_protocol)
        self._verify = verify

    def __call__(
        self, connection: Any, certificate: Any, error: int, depth: int, is_valid: int
    ) -> bool:
        """``is_valid`` is OpenSSL's own judgement of this certificate of the chain; depth 0 is the
        platform's."""
        try:
            if not is_valid:
                return False
            if depth == 0:
                self._verify(certificate)
        except BaseException as refusal:  # noqa: BLE001 - a failed check must not let pass
            self._refuse(refusal)
            return False
        return True

    def _refuse(self, error: BaseException) -> None:
        """End the connection with the reason. OpenSSL would only say that the check failed."""
        tls_protocol = self._tls_protocol()
        if tls_protocol is not None:
            # Not the error itself: its traceback would keep the connection alive.
            tls_protocol.failVerification(Failure(CertificateRefused(_explain(error))))


def _explain(error: BaseException) -> str:
    """Why a certificate was refused, in one line."""
    from service_identity import CertificateError, VerificationError

    if isinstance(error, VerificationError):
        return "the certificate is not for this host"
    if isinstance(error, CertificateError):
        return f"the names in the certificate can't be used: {str(error).rstrip('.')}"
    return f"the certificate can't be checked ({type(error).__name__})"


def _identity_check(name: str) -> Callable[[Any], None]:
    """A function that raises when a certificate (of pyOpenSSL) is not for ``name``, or when that
    can't be told."""
    from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
    from service_identity.pyopenssl import extract_patterns

    identity = IPAddress_ID(name) if _is_address(name) else DNS_ID(name)

    def verify(certificate: Any) -> None:
        verify_service_identity(extract_patterns(certificate), [identity], [])

    return verify


def _server_name(host: str) -> str:
    """The name that is announced and verified: in ASCII, and without the final dot that a name for
    the resolver may have (RFC 6066, section 3)."""
    if _is_address(host):
        return host
    name = host.removesuffix(".")
    if name.isascii():
        return name
    import idna

    try:
        return idna.encode(name).decode("ascii")
    except idna.IDNAError as error:
        raise ConnectorError(f"host: {host} is no name that a certificate can have") from error


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


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
            " is for another key"
        )
    options: dict[str, Any] = {"privateKey": key, "certificate": certificate}
    if chain:
        options["extraCertChain"] = chain
    return options


def _private_key(path: Path, passphrase: Secret | None) -> Any:
    """The key in ``path``, for pyOpenSSL. OpenSSL's own reader would ask at the terminal for a
    passphrase, so ``cryptography`` reads it."""
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
            f"keyFile: the key in {path} is encrypted: let keyPassphraseFile name a file with its"
            " passphrase"
        )
    password = passphrase.reveal().encode() if is_encrypted and passphrase is not None else None
    try:
        return crypto.PKey.from_cryptography_key(load_pem_private_key(block, password))  # type: ignore[arg-type, unused-ignore]
    except UnsupportedAlgorithm as error:
        raise ConnectorError(
            f"keyFile: the key in {path} is of a kind, or encrypted in a way, that is not supported"
        ) from error
    except Exception as error:
        if is_encrypted:
            # From None: whoever raised it may have the passphrase in a variable.
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
