"""What the link reports about the connection: times, the last end, and when the certificates of the
platform and of the client expire.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oda.connector.peer import PeerClass
from oda.connector.session import Session
from oda.model import ConnectionStatus, LinkState
from oda.settings import ConnectorSettings

# -- certificates --------------------------------------------------------------------------------


def platform_certificate_ends_ms(transport: Any) -> int | None:
    """When the certificate that the peer of ``transport`` has shown expires, in milliseconds since
    the Unix epoch; None without TLS."""
    ask = getattr(transport, "getPeerCertificate", None)
    certificate = ask() if ask is not None else None
    return None if certificate is None else _ends_ms(certificate.to_cryptography())


def file_certificate_ends_ms(path: Path | None) -> int | None:
    """When the first certificate in a PEM file expires; None if the file holds no readable
    certificate (the connection reports that itself)."""
    if path is None:
        return None
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return _ends_ms(load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError):
        return None


def _ends_ms(certificate: Any) -> int:
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


# -- the record ----------------------------------------------------------------------------------


class ConnectionRecord:
    """Times of the present connection or pause, the reason of the last end, expiry times."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._opened_at_s = 0.0
        self._retry: IDelayedCall | None = None
        self._retry_since_s = 0.0
        self._last_end: str | None = None
        self._platform_certificate_ends_ms: int | None = None
        self._client_certificate_ends_ms: int | None = None

    def identified(self, settings: ConnectorSettings) -> None:
        """Connections from now on are made with ``settings``."""
        self._client_certificate_ends_ms = file_certificate_ends_ms(settings.cert_file)

    def opened(self, transport: Any) -> None:
        """The WebSocket is open."""
        self._opened_at_s = self._clock.seconds()
        self._platform_certificate_ends_ms = platform_certificate_ends_ms(transport)

    def ended(self, reason: str, retry: IDelayedCall) -> None:
        """An attempt or connection has ended; ``retry`` is the delayed call of the next one."""
        self._last_end = reason
        self._retry_since_s = self._clock.seconds()
        self._retry = retry

    def status(
        self,
        state: LinkState,
        url: str,
        peer_class: PeerClass,
        session: Session | None,
        settings: ConnectorSettings,
    ) -> ConnectionStatus:
        """See ``IConnectionObservable.status``; ``session`` is the open one."""
        now_s = self._clock.seconds()
        since_s, retry_in_s = 0.0, None
        if session is not None:
            since_s = now_s - self._opened_at_s
        elif state is LinkState.WAITING and self._retry is not None and self._retry.active():
            since_s = now_s - self._retry_since_s
            retry_in_s = self._retry.getTime() - now_s
        return ConnectionStatus(
            state=state,
            url=url,
            since_s=since_s,
            retry_in_s=retry_in_s,
            last_end=self._last_end,
            peer_class=peer_class.value,
            is_proven=session is None or session.is_proven,
            ping_waits_s=None if session is None else session.ping_waits_s,
            pong_timeout_s=settings.pong_timeout_s,
            keep_alive_s=(
                settings.keep_alive_interval_s if session is None else session.keep_alive_s
            ),
            unacknowledged=0 if session is None else session.unacknowledged,
            platform_certificate_ends_ms=(
                None if session is None else self._platform_certificate_ends_ms
            ),
            client_certificate_ends_ms=self._client_certificate_ends_ms,
        )
