"""The client's side of TLS: whether a certificate is trusted, and belongs to the host.

OpenSSL checks the certificate chain; ``_Verifier`` checks that the certificate is for the host. The
verifier refuses whatever it can't check. Twisted's own client options would accept a certificate
when ``service_identity`` raises an unexpected error (a certificate without subjectAltName, or with
a malformed one).

pyOpenSSL is imported only when TLS is used, because it costs memory and start-up time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import ConnectorError


class CertificateRefused(ConnectorError):  # noqa: N818 - named like those of oda.errors
    """The agent does not accept the platform's certificate. The text says why, in one line."""


def verified_client(host: str, trust_root: Any, options: Mapping[str, Any]) -> Any:
    """An ``IOpenSSLClientConnectionCreator`` for connections to ``host``.

    ``trust_root`` are the certificates to trust (from ``trustRootFromCertificates``); None means
    the system's. ``options`` are for Twisted's ``CertificateOptions``. Raises ``ConnectorError``
    when no certificate could be for such a host.
    """
    from OpenSSL import SSL, crypto
    from twisted.internet import ssl

    name = _server_name(host)
    trusted = ssl.platformTrust() if trust_root is None else trust_root
    context: Any = ssl.CertificateOptions(trustRoot=trusted, **options).getContext()
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    if trust_root is not None:
        # A certificate that the user names is trusted even if it is not a self-signed root: an
        # intermediate authority's, or the server's own.
        context.get_cert_store().set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    return _ConnectionCreator(context, name, _identity_check(name))


def unverified_client(host: str, options: Mapping[str, Any]) -> Any:
    """Like ``verified_client``, but accepts any certificate: for tests with self-made ones."""
    from twisted.internet import ssl

    context = ssl.CertificateOptions(verify=False, **options).getContext()
    return _ConnectionCreator(context, _server_name(host), verify=None)


def describe_tls(error: BaseException) -> str | None:
    """What a TLS failure means, in one short sentence; None for any other error. pyOpenSSL's own
    texts are data structures."""
    if isinstance(error, CertificateRefused):
        return str(error)
    if not type(error).__module__.startswith("OpenSSL"):
        return None
    causes = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = [cause[-1] for cause in causes if cause and cause[-1]]
    return ", ".join(said) if said else "the other side ended it"


@implementer(IOpenSSLClientConnectionCreator)
class _ConnectionCreator:
    """Makes the TLS side of a connection. ``verify(certificate)`` raises if the certificate is not
    for the host; None means no verification."""

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

    Every path but the last line refuses.
    """

    def __init__(self, tls_protocol: Any, verify: Callable[[Any], None]) -> None:
        self._tls_protocol = weakref.ref(tls_protocol)
        self._verify = verify

    def __call__(
        self, connection: Any, certificate: Any, error: int, depth: int, is_valid: int
    ) -> bool:
        """``is_valid`` is OpenSSL's own verdict on this certificate of the chain; depth 0 is the
        platform's certificate."""
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
        """End the connection with the reason. OpenSSL itself only says that the check failed."""
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
    """A function that raises if a certificate (of pyOpenSSL) is not for ``name``, or if it can't
    find out."""
    from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
    from service_identity.pyopenssl import extract_patterns

    try:
        identity = IPAddress_ID(name) if _is_address(name) else DNS_ID(name)
    except ValueError as error:
        raise ConnectorError(f"host: {name} is not a name that a certificate can have") from error

    def verify(certificate: Any) -> None:
        verify_service_identity(extract_patterns(certificate), [identity], [])

    return verify


def _server_name(host: str) -> str:
    """The name to announce and verify: in ASCII, and without the final dot that a name for the
    resolver may have (RFC 6066, section 3)."""
    if _is_address(host):
        return host
    name = host.removesuffix(".")
    if name.isascii():
        return name
    import idna

    try:
        return idna.encode(name).decode("ascii")
    except idna.IDNAError as error:
        raise ConnectorError(f"host: {host} is not a name that a certificate can have") from error


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
