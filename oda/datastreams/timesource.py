"""The time sources of SYNCHRONIZE_CLOCK: an NTP server, or the Date header of a web server."""

from __future__ import annotations

import os
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.datastreams.sntp import NONCE_BYTES, NotAnAnswer, build_request, parse_answer
from oda.errors import ReadingFailed
from oda.interfaces import ITimeSource

NTP_PORT = 123
#: How often a request is sent, because UDP loses packets.
ATTEMPTS = 3
#: How long each attempt waits for an answer, in seconds.
ATTEMPT_TIMEOUT_S = 3.0
HTTP_TIMEOUT_S = 15.0


def open_time_source(source: str, reactor: Any) -> ITimeSource:
    """The time source that a text names: ``ntp://host[:port]``, ``http://...`` or ``https://...``.

    Raises ``ValueError`` that says what is wrong with the text.
    """
    allowed = "allowed: ntp://host[:port], http://host or https://host"
    try:
        url = urlsplit(source)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"{source!r} is not a time source ({error}); {allowed}") from None
    if not host or url.scheme not in {"ntp", "sntp", "http", "https"}:
        raise ValueError(f"{source!r} is not a time source; {allowed}")
    if url.scheme in {"http", "https"}:
        return HttpTimeSource(source, reactor)
    return SntpTimeSource(host, reactor, port or NTP_PORT)


@implementer(ITimeSource)
class SntpTimeSource:
    """An NTP server, queried with SNTP. Accurate to half the round trip of the answer.

    ``nonce`` returns 8 unpredictable bytes for each request. A name is resolved to an IPv4 address.
    """

    def __init__(
        self,
        host: str,
        reactor: Any,
        port: int = NTP_PORT,
        nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_BYTES),
    ) -> None:
        self._host = host
        self._port = port
        self._reactor = reactor
        self._nonce = nonce

    def now_ms(self) -> Deferred[int]:
        """See ``ITimeSource.now_ms``: fails after three attempts of three seconds."""
        if isIPAddress(self._host) or isIPv6Address(self._host):
            address: Deferred[str] = succeed(self._host)
        else:
            address = self._reactor.resolve(self._host).addErrback(self._not_found)
        return address.addCallback(self._ask)

    def _not_found(self, failure: Failure) -> None:
        failure.trap(Exception)
        raise ReadingFailed(f"time source {self._host}: the name was not found")

    def _ask(self, address: str) -> Deferred[int]:
        exchange = _SntpExchange(self._host, address, self._port, self._reactor, self._nonce)
        try:
            self._reactor.listenUDP(0, exchange, "::" if ":" in address else "")
        except OSError as error:
            raise ReadingFailed(f"time source {self._host}: {error}") from error
        return exchange.answer


class _SntpExchange(DatagramProtocol):
    """One request to one server, on a socket of its own."""

    transport: Any

    def __init__(
        self, host: str, address: str, port: int, reactor: Any, nonce: Callable[[], bytes]
    ) -> None:
        self.answer: Deferred[int] = Deferred(lambda _: self._close())
        self._host = host
        self._server = (address, port)
        self._reactor = reactor
        self._nonce = nonce
        self._attempts = 0
        self._sent_nonce = b""
        self._sent_at_s = 0.0
        self._timer: Any = None
        self._is_open = False

    def startProtocol(self) -> None:
        self._is_open = True
        try:
            self.transport.connect(*self._server)
        except (OSError, ValueError) as error:
            self._fail(str(error))
        else:
            self._send()

    def _send(self) -> None:
        if self._attempts == ATTEMPTS:
            self._fail(f"no answer within {ATTEMPTS * ATTEMPT_TIMEOUT_S:g} s")
            return
        self._attempts += 1
        self._sent_nonce = self._nonce()
        self._sent_at_s = self._reactor.seconds()
        self._timer = self._reactor.callLater(ATTEMPT_TIMEOUT_S, self._send)
        try:
            self.transport.write(build_request(self._sent_nonce))
        except OSError as error:
            self._fail(str(error))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self._is_open:
            return
        try:
            server = parse_answer(datagram, self._sent_nonce)
        except NotAnAnswer:
            return
        except ValueError as error:
            self._fail(str(error))
            return
        elapsed_s = self._reactor.seconds() - self._sent_at_s
        travel_s = max(0.0, elapsed_s - server.processing_s)
        self._close()
        self.answer.callback(round(server.sent_at_ms + travel_s / 2 * 1000))

    def connectionRefused(self) -> None:
        if self._is_open:
            self._fail("nothing listens at that port")

    def stopProtocol(self) -> None:
        """epoll may report a refusal first, as an error of the socket: the reactor then drops the
        port without ``connectionRefused``, and the transport is gone."""
        self.connectionRefused()

    def _fail(self, reason: str) -> None:
        self._close()
        if not self.answer.called:
            self.answer.errback(ReadingFailed(f"time source {self._host}: {reason}"))

    def _close(self) -> None:
        self._is_open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self.transport is not None:
            self.transport.stopListening()


@implementer(ITimeSource)
class HttpTimeSource:
    """The ``Date`` header of a web server: accurate to a second, and reachable where NTP is
    blocked.

    ``agent`` is a ``twisted.web`` ``IAgent``. The default one verifies certificates as strictly as
    the connection to the platform, because the time decides which certificates are valid.
    """

    def __init__(self, url: str, reactor: Any, agent: Any = None) -> None:
        self._url = url
        self._reactor = reactor
        self._agent = agent

    def now_ms(self) -> Deferred[int]:
        """See ``ITimeSource.now_ms``: fails after 15 seconds."""
        if self._agent is None:
            from oda.datastreams.web_client import verified_agent  # imported late: rarely needed

            self._agent = verified_agent(self._reactor)
        asked_at_s = self._reactor.seconds()
        try:
            asking = self._agent.request(b"HEAD", self._url.encode("ascii"))
        except ValueError as error:
            raise ReadingFailed(f"time source {self._url}: {error}") from error
        asking.addTimeout(HTTP_TIMEOUT_S, self._reactor)
        asking.addCallbacks(self._read_date, self._unreachable, callbackArgs=(asked_at_s,))
        return asking  # type: ignore[no-any-return]

    def _read_date(self, response: Any, asked_at_s: float) -> int:
        dates = response.headers.getRawHeaders(b"date", [])
        try:
            date = parsedate_to_datetime(dates[0].decode("ascii"))
        except (IndexError, ValueError):
            raise ReadingFailed(f"time source {self._url}: the answer has no Date") from None
        half_trip_s = (self._reactor.seconds() - asked_at_s) / 2
        return int((date.timestamp() + half_trip_s) * 1000)

    def _unreachable(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            raise failure.value
        raise ReadingFailed(
            f"time source {self._url}: {failure.value or type(failure.value).__name__}"
        ) from failure.value
