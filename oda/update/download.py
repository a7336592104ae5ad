"""Fetches a file of an update from a web server.

An https server is verified as the platform is; http is taken only where the connection itself is
plaintext. Redirects are not followed: they would lead to hosts that the configuration does not
name. A download that breaks off goes on where it ended (RFC 9110, section 14), if the server says
by ETag or Last-Modified that it is still the same file; until the time of the update is over.

Whatever the server says is bounded: the length, the time, the time without a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import SplitResult, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from oda.boundary import reason_of
from oda.errors import ConnectorError, OperationFailed, OperationNotSupported
from oda.log import Logger
from oda.settings import ConnectorSettings, UpdateSettings
from oda.update.tunnel import MakeEndpoints, WebEndpoints
from oda.verification import describe_tls

_log = Logger()

#: So long may a server say nothing, in seconds.
STALL_S = 60.0
#: The pause before another attempt, in seconds: doubled each time up to the second.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
#: So much is kept of a signature's file.
MAX_TEXT_BYTES = 4096

_API_KEY = b"X-ApiKey"
_PORTS = {"http": 80, "https": 443}
#: What may be over after a while.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:([0-9]{1,18})|\*)")


class _Interrupted(Exception):  # noqa: N818 - it is no error yet
    """This attempt is over; another one may do better."""


class Target(NamedTuple):
    """What is fetched: at most ``max_bytes``, exactly ``size`` where that is known, into ``file``,
    until ``deadline_s`` on the reactor's clock. ``is_judged``: a digest or a signature tells
    whether something is missing."""

    url: str
    file: Path
    max_bytes: int
    size: int | None
    deadline_s: float
    is_judged: bool = False


def check_host(url: str, update: UpdateSettings, connector: ConnectorSettings) -> None:
    """Raises ``OperationNotSupported``, with the name of the key, where the configuration allows
    no download from there."""
    parts = urlsplit(url)
    if parts.scheme == "http" and connector.secure:
        raise OperationNotSupported(
            "downloads by http are not allowed where the connection has secure=true: use https"
        )
    allowed = update.hosts or (connector.host.lower(),)
    if not _names(allowed, parts):
        raise OperationNotSupported(
            f"no download from {(parts.hostname or '')[:200]!r}: updateHosts does not name it"
        )


def _names(hosts: tuple[str, ...], parts: SplitResult) -> bool:
    host = (parts.hostname or "").lower()
    port = parts.port or _PORTS.get(parts.scheme, 0)
    shown = f"[{host}]" if ":" in host else host
    return host in hosts or f"{shown}:{port}" in hosts


class Downloader:
    """Fetches files by the settings that are in force. ``api_key`` gives the key for the hosts of
    ``updateKeyHosts``."""

    def __init__(
        self,
        reactor: Any,
        connector: ConnectorSettings,
        update: UpdateSettings,
        api_key: Callable[[], str],
        make_endpoints: MakeEndpoints = WebEndpoints,
    ) -> None:
        self._reactor = reactor
        self._connector = connector
        self._update = update
        self._api_key = api_key
        pool = HTTPConnectionPool(reactor, persistent=False)
        endpoints = make_endpoints(reactor, connector)
        self._agent = Agent.usingEndpointFactory(reactor, endpoints, pool=pool)

    async def fetch(self, target: Target) -> int:
        """How many bytes there are. Raises ``OperationFailed`` with the reason."""
        target.file.parent.mkdir(mode=0o700, exist_ok=True)
        with target.file.open("xb") as stream:
            part = _Part(stream)
            pause_s, reason = FIRST_PAUSE_S, ""
            while True:
                before = part.received
                try:
                    await self._attempt(target, part)
                    break
                except _Interrupted as interrupted:
                    if part.received > before:
                        pause_s = FIRST_PAUSE_S
                    # What the time has cut short says less than what came before.
                    if not reason or self._reactor.seconds() < target.deadline_s:
                        reason = str(interrupted)
                    if self._reactor.seconds() + pause_s >= target.deadline_s:
                        raise OperationFailed(
                            f"not complete within updateTimeout: {reason}"
                        ) from None
                    _log.info(
                        "a download stopped after {received} bytes ({reason}); retrying in"
                        " {pause_s:g} s",
                        received=part.received,
                        reason=reason,
                        pause_s=pause_s,
                    )
                await deferLater(self._reactor, pause_s, lambda: None)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if target.size is not None and part.received != target.size:
            raise OperationFailed(f"it has {part.received} bytes; size says {target.size}")
        return part.received

    async def fetch_text(self, target: Target) -> str:
        """A small text."""
        await self.fetch(target)
        return target.file.read_bytes().decode("utf-8", "replace")

    async def _attempt(self, target: Target, part: _Part) -> None:
        if part.received and part.version is None:
            part.restart()
        headers = self._headers(target, part)
        response = await self._ask(target, headers)
        whole: int | None = None
        if response.code == 206 and part.received:
            whole = self._check_range(response, part)
        elif response.code == 200:
            part.restart()
            part.version = _version_of(response)
        else:
            self._refuse(response, part)
        length = response.length
        if isinstance(length, int):
            total = part.received + length
            if target.size is not None and total != target.size:
                _end(response)
                raise OperationFailed(f"it has {total} bytes; size says {target.size}")
            if total > target.max_bytes:
                _end(response)
                raise OperationFailed(f"it has {total} bytes; {target.max_bytes} are allowed")
        left_s = max(0.0, target.deadline_s - self._reactor.seconds())
        is_whole = await _Body(self._reactor, part, target.max_bytes, left_s).of(response)
        if not is_whole and target.size is None and not target.is_judged:
            raise OperationFailed(
                "the server does not say how long the file is, so its end may be missing: the"
                " element needs size, or a validator"
            )
        if whole is not None and part.received != whole:
            if part.received > whole:
                part.restart()
            raise _Interrupted(f"the server sent another part than the rest of {whole} bytes")

    async def _ask(self, target: Target, headers: Headers) -> Any:
        limit_s = min(STALL_S, max(0.1, target.deadline_s - self._reactor.seconds()))
        asking = self._agent.request(b"GET", target.url.encode("ascii"), headers)
        limit = self._reactor.callLater(limit_s, asking.cancel)
        try:
            return await _only_cancelled(asking)
        except ConnectorError as error:
            raise OperationFailed(str(error)) from error
        except Exception as error:
            if not limit.active():
                raise _Interrupted("the server does not answer") from None
            if isinstance(error, CancelledError):
                raise
            raise self._judged(error) from error
        finally:
            if limit.active():
                limit.cancel()

    @staticmethod
    def _judged(error: Exception) -> Exception:
        """What a failure to connect means: a certificate stays as it is, a network does not."""
        causes = [error, *(one.value for one in getattr(error, "reasons", None) or ())]
        for cause in causes:
            text = describe_tls(cause)
            if text is not None:
                return OperationFailed(f"TLS: {text}")
            if isinstance(cause, ConnectorError):
                return OperationFailed(str(cause))
        return _Interrupted(reason_of(causes[-1]))

    def _headers(self, target: Target, part: _Part) -> Headers:
        headers = Headers({b"User-Agent": [b"oda"], b"Accept-Encoding": [b"identity"]})
        if _names(self._update.key_hosts, urlsplit(target.url)):
            headers.setRawHeaders(_API_KEY, [self._api_key().encode()])
        if part.received and part.version is not None:
            headers.setRawHeaders(b"Range", [b"bytes=%d-" % part.received])
            headers.setRawHeaders(b"If-Range", [part.version])
        return headers

    @staticmethod
    def _check_range(response: Any, part: _Part) -> int | None:
        """How long the whole file is, where the server tells. A part of another version is refused
        although the request asked for none (``If-Range``): not every server looks at that."""
        told = response.headers.getRawHeaders(b"Content-Range", [b""])[0].decode("latin-1")
        found = _CONTENT_RANGE.fullmatch(told.strip())
        if found is None or int(found[1]) != part.received:
            _end(response)
            part.restart()
            raise _Interrupted("the server sent another part than asked for")
        if part.version not in _versions_of(response):
            _end(response)
            part.restart()
            raise _Interrupted("the server sent a part of another version of the file")
        return None if found[2] is None else int(found[2])

    @staticmethod
    def _refuse(response: Any, part: _Part) -> None:
        _end(response)
        code = response.code
        if code == 416:
            part.restart()
            raise _Interrupted("the server does not have the rest of the file")
        if code in _PASSING:
            raise _Interrupted(f"the server answered {code}")
        if 300 <= code < 400:
            raise OperationFailed(f"the server answered {code}: redirects are not followed")
        raise OperationFailed(f"the server answered {code}")


class _Part:
    """What there is of a file. ``version`` is how the server tells it from another one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.received = 0
        self.version: bytes | None = None

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self.received += len(data)

    def restart(self) -> None:
        self._stream.seek(0)
        self._stream.truncate()
        self.received = 0


class _Body(Protocol):
    """Takes the body of an answer."""

    def __init__(self, reactor: Any, part: _Part, max_bytes: int, left_s: float) -> None:
        self._reactor = reactor
        self._part = part
        self._max_bytes = max_bytes
        self._left_s = left_s
        self._done: Deferred[bool] = Deferred(lambda _: self._stop())
        self._stall: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None

    def of(self, response: Any) -> Deferred[bool]:
        """Fires at the end, with whether the server said that this is the end. Fails with
        ``OperationFailed``, or ``_Interrupted``."""
        self._stall = self._reactor.callLater(STALL_S, self._late, "the server sends no more")
        self._limit = self._reactor.callLater(self._left_s, self._late, "the time is over")
        response.deliverBody(self)
        return self._done

    def dataReceived(self, data: bytes) -> None:
        if self._done.called:
            return
        if self._stall is not None:
            self._stall.reset(STALL_S)
        if self._part.received + len(data) > self._max_bytes:
            self._fail(OperationFailed(f"it has more than the allowed {self._max_bytes} bytes"))
            return
        try:
            self._part.write(data)
        except OSError as error:
            self._fail(OperationFailed(f"it can't be written: {error.strerror or error}"))

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        if self._done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._stop_timers()
            self._done.callback(reason.check(PotentialDataLoss) is None)
        else:
            self._fail(_Interrupted("the connection broke off"))

    def _late(self, reason: str) -> None:
        self._fail(_Interrupted(reason))

    def _fail(self, error: Exception) -> None:
        done = self._done
        self._stop()
        if not done.called:
            done.errback(error)

    def _stop(self) -> None:
        self._stop_timers()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def _stop_timers(self) -> None:
        for timer in (self._stall, self._limit):
            if timer is not None and timer.active():
                timer.cancel()


def _only_cancelled(asking: Deferred[Any]) -> Deferred[Any]:
    """The same, but what cancels it makes a ``CancelledError``, and not one of a network."""

    def cancel(waiting: Deferred[Any]) -> None:
        waiting.errback(CancelledError())
        asking.cancel()

    def tell(outcome: Any) -> None:
        if not waiting.called:
            waiting.callback(outcome)

    waiting: Deferred[Any] = Deferred(cancel)
    asking.addBoth(tell)
    return waiting


class _Ignored(Protocol):
    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


def _end(response: Any) -> None:
    """Nobody reads the body: end its connection."""
    response.deliverBody(_Ignored())


def _version_of(response: Any) -> bytes | None:
    """A strong ETag, else the time of the last change; None where the server tells neither."""
    return next(iter(_versions_of(response)), None)


def _versions_of(response: Any) -> list[bytes]:
    """What tells this file from another one, the best first."""
    tags = response.headers.getRawHeaders(b"ETag", [])
    changes = response.headers.getRawHeaders(b"Last-Modified", [])
    return [*(bytes(tag) for tag in tags[:1] if tag.startswith(b'"')), *map(bytes, changes[:1])]
