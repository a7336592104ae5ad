"""A small JSON-over-HTTP server on twisted.web's protocol: routes, guards and errors in one place.

A request is refused when its Host or Origin is not this server. A page of another origin must not
reach the platform through the user's browser, not even under a name that resolves to the platform.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import unquote
from weakref import WeakSet

import msgspec
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure
from twisted.web import http

from oda.errors import CodecError
from oda.platform.logger import PlatformLogger
from oda.platform.wire import WrongParameter

log = PlatformLogger()

MAX_BODY_BYTES = 4 * 1024 * 1024

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Reply(msgspec.Struct, frozen=True):
    """The answer: a JSON ``document``, or an unchanged ``body`` with its content type."""

    document: Any = None
    status: int = 200
    body: bytes | None = None
    content_type: str = "application/json"


class HttpError(Exception):
    """Answered as ``{"error": ...}`` with this status; ``parameter`` names the wrong one, if
    any."""

    def __init__(self, status: int, problem: str, parameter: str | None = None) -> None:
        self.status = status
        self.problem = problem
        self.parameter = parameter
        super().__init__(problem)


class Call:
    """One request as handlers see it: decoded ``path`` and ``query`` values, and parsed body."""

    def __init__(
        self, path: Mapping[str, str], query: Mapping[str, str], request: JsonRequest, raw: bytes
    ) -> None:
        self.path = path
        self.query = query
        self.request = request
        self._raw = raw

    def header(self, name: str) -> str | None:
        """A header's value, None when it is missing."""
        value = self.request.getHeader(name)
        return None if value is None else str(value)

    def body(self) -> dict[str, Any]:
        """The body, a JSON map; raises ``HttpError`` (400)."""
        try:
            document = msgspec.json.decode(self._raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"the body is not JSON: {error}", "body") from None
        if not isinstance(document, dict):
            raise HttpError(400, "the body must be a JSON map", "body")
        return document

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """A whole number from the query; raises ``HttpError`` (400) that names it."""
        text = self.query.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
            raise HttpError(400, "must be a whole number", name)
        if not minimum <= int(text) <= maximum:
            raise HttpError(400, f"must be from {minimum} to {maximum}", name)
        return int(text)

    def seconds(self, name: str) -> float | None:
        """A time in seconds from the query, None if it is missing."""
        text = self.query.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII):
            raise HttpError(400, "must be a number of seconds", name)
        return float(text)


#: Returns a ``Reply``, a Deferred of one, or None if it answers the request itself.
Handler = Callable[[Call], Any]


class Route(msgspec.Struct, frozen=True):
    """One method of one path, e.g. ``/devices/{device}``, with the query parameters it knows."""

    method: str
    pattern: str
    handler: Handler
    summary: str
    query: Mapping[str, str] = {}
    body: str = ""

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The path's values if it matches this route (segments still encoded), else None."""
        own = self.pattern.strip("/").split("/")
        if len(own) != len(segments):
            return None
        values: dict[str, str] = {}
        for expected, segment in zip(own, segments, strict=True):
            if expected.startswith("{"):
                values[expected[1:-1]] = unquote(segment)
            elif expected != segment:
                return None
        return values


class Guard:
    """Accepts requests that name this server, without an origin or from its own pages.

    ``hosts`` are further Host names (without port), ``origins`` further origins.
    """

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def check(self, host: str | None, origin: str | None, site: str | None = None) -> None:
        """Raises ``HttpError`` (403) for a request that a foreign page may have made; ``site`` is
        the header Sec-Fetch-Site, which browsers send even without an Origin."""
        name = re.sub(r":\d*$", "", (host or "").lower())
        if name not in self._hosts:
            raise HttpError(403, "this host name is not served here", "Host")
        if origin is None:
            if (site or "").strip().lower() == "cross-site":
                raise HttpError(403, "requests of other sites are not allowed", "Sec-Fetch-Site")
            return
        here = {f"http://{(host or '').lower()}", f"https://{(host or '').lower()}"}
        if origin.lower() not in here | self._origins:
            raise HttpError(403, "requests of this origin are not allowed", "Origin")


class JsonRequest(http.Request):
    """A request that the server's routes answer."""

    server: JsonServer
    _received = 0
    _running: Deferred[Any] | None = None

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep the body up to the limit, and drop the rest, so that the caller reads the
        refusal."""
        self._received += len(data)
        if self._received <= MAX_BODY_BYTES:
            super().handleContentChunk(data)

    @property
    def is_too_long(self) -> bool:
        """Whether some of the body was dropped."""
        return self._received > MAX_BODY_BYTES

    def process(self) -> None:
        self.notifyFinish().addErrback(self._gone)
        self._running = maybeDeferred(self.server.answer, self)
        self._running.addCallbacks(self._reply, self._fail)
        self._running.addErrback(self._fail)

    def _gone(self, _reason: Failure) -> None:
        if self._running is not None:
            self._running.cancel()

    def _reply(self, reply: Reply | None) -> None:
        if reply is None or self._disconnected:
            return
        body = reply.body if reply.body is not None else msgspec.json.encode(reply.document)
        self.setResponseCode(reply.status)
        self.setHeader("Content-Type", reply.content_type)
        self.setHeader("Content-Length", str(len(body)))
        self.setHeader("Cache-Control", "no-store")
        self.setHeader("X-Content-Type-Options", "nosniff")
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def _fail(self, failure: Failure) -> None:
        if self._disconnected or failure.check(CancelledError):
            return
        error = failure.value
        if isinstance(error, HttpError):
            status, problem, parameter = error.status, error.problem, error.parameter
        elif isinstance(error, WrongParameter):
            status, problem, parameter = 400, error.problem, error.parameter
        elif isinstance(error, CodecError):
            status, problem, parameter = 400, str(error), "parameters"
        else:
            # the boundary of the server: the caller needs an answer despite a defect
            log.failure("a request failed", failure)
            status, problem, parameter = 500, "internal error, see the platform's log", None
        self._reply(Reply(status=status, body=_error_body(problem, parameter)))


def _error_body(problem: str, parameter: str | None) -> bytes:
    text = f"{parameter}: {problem}" if parameter else problem
    document = {"error": text, **({"parameter": parameter} if parameter else {})}
    return msgspec.json.encode(document)


class JsonServer(http.HTTPFactory):
    """Serves routes over HTTP on one port."""

    noisy = False

    def __init__(self, reactor: Any, routes: Sequence[Route], guard: Guard) -> None:
        super().__init__(reactor=reactor)
        self.routes = tuple(routes)
        self._guard = guard
        self._channels: WeakSet[Any] = WeakSet()

    def startFactory(self) -> None:
        """No access log: the handlers log what matters."""

    def stopFactory(self) -> None:
        """See ``startFactory``."""

    def log(self, request: Any) -> None:
        """See ``startFactory``."""

    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = self._make_request
        return channel

    def _make_request(self, channel: Any, *_: Any) -> JsonRequest:
        request = JsonRequest(channel, parsePOSTFormSubmission=False)
        request.server = self
        self._channels.add(channel)
        return request

    def drop_connections(self) -> None:
        """End every connection that has made a request."""
        for channel in tuple(self._channels):
            if channel.transport is not None:
                channel.transport.abortConnection()

    def answer(self, request: JsonRequest) -> Any:
        """The reply to a request, or a Deferred of it; raises ``HttpError``."""
        self._guard.check(
            request.getHeader("host"),
            request.getHeader("origin"),
            request.getHeader("sec-fetch-site"),
        )
        if request.is_too_long:
            raise HttpError(413, f"must not be longer than {MAX_BODY_BYTES} bytes", "body")
        path, _, query_text = request.uri.decode("latin-1").partition("?")
        segments = path.strip("/").split("/")
        method = request.method.decode("latin-1")
        allowed: list[str] = []
        for route in self.routes:
            values = route.match(segments)
            if values is None:
                continue
            if route.method == ("GET" if method == "HEAD" else method):
                query = _read_query(query_text, route.query)
                content: Any = request.content
                return route.handler(Call(values, query, request, content.read()))
            allowed.append(route.method)
        if allowed:
            request.setHeader("Allow", ", ".join(allowed))
            raise HttpError(405, f"this path takes {', '.join(allowed)}")
        raise HttpError(404, "no such path")


def _read_query(text: str, known: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        name, _, value = pair.partition("=")
        name = unquote(name.replace("+", " "))
        if name not in known:
            names = ", ".join(known) or "none"
            raise HttpError(400, f"unknown query parameter; known here: {names}", name)
        values[name] = unquote(value.replace("+", " "))
    return values
