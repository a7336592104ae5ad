"""What the monitor's port answers: ``/metrics``, ``/health``, ``/health/live``, ``/health/ready``.

The port only reads and has no password: it belongs on the loopback interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import msgspec
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from oda.monitor.counters import Counters
from oda.monitor.exposition import CONTENT_TYPE, Exposition
from oda.monitor.health import State, judge
from oda.monitor.snapshot import Snapshot

#: How many scrapers may be connected at a time.
MAX_CONNECTIONS = 32
#: How long a connection may be idle, and how long it lasts while others wait, in seconds.
IDLE_S, LIFE_S = 10, 30

_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_JSON = b"application/json"
_NOT_FOUND = (404, b"text/plain", b"there are /metrics, /health, /health/live, /health/ready\n")


#: Status, content type and body.
Answer = tuple[int, bytes, bytes]


class _Pages(Resource):
    """Answers GET (and HEAD) of the paths in ``pages``, and of no others."""

    isLeaf = True

    def __init__(self, pages: Mapping[bytes, Callable[[], Answer]]) -> None:
        super().__init__()
        self._pages = pages

    def render_GET(self, request: Request) -> bytes:
        make = self._pages.get(request.path)
        status, content_type, body = make() if make is not None else _NOT_FOUND
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type)
        request.setHeader(b"cache-control", b"no-store")
        return body


class _BodylessRequest(Request):
    """A request whose body, if it has one, is refused before any of it is kept."""

    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length != 0:
            self._is_refused = True
            transport: Any = self.channel.transport
            transport.write(_TOO_LARGE)
            transport.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """Dropped: it arrived together with the headers."""

    def process(self) -> None:
        if not self._is_refused:
            super().process()


class _Connection(ProtocolWrapper):
    """One connection; ``opened_s`` is when it opened."""

    opened_s = 0.0

    def connectionMade(self) -> None:
        self.opened_s = self.factory.seconds()
        super().connectionMade()


class BoundedSite(WrappingFactory):
    """At most 32 connections to ``site``, each idle for 10 s at most. One more is closed at once,
    and so are connections that have lasted for 30 s, to make room."""

    noisy = False
    protocol = _Connection

    def __init__(self, site: Site, seconds: Callable[[], float]) -> None:
        super().__init__(site)
        self.seconds = seconds

    def buildProtocol(self, addr: Any) -> Any:
        """The next connection, None if there are too many."""
        if len(self.protocols) >= MAX_CONNECTIONS:
            for one in tuple(self.protocols):
                if self.seconds() - one.opened_s >= LIFE_S:
                    one.transport.abortConnection()
            return None
        return super().buildProtocol(addr)


class MonitorSite(Site):
    """A site that keeps no access log: a scrape every few seconds is not an event."""

    noisy = False
    requestFactory = _BodylessRequest

    def log(self, request: Any) -> None:
        """Write nothing."""


def build_site(counters: Counters, look: Callable[[], Snapshot], reactor: Any) -> BoundedSite:
    """The site for the agent whose state ``look`` returns."""
    exposition = Exposition(counters, look)

    def answer(is_well: Callable[[State], bool]) -> Answer:
        now = look()
        readiness = judge(now.connection)
        body = msgspec.json.encode(readiness.body(now.connection, now.troubles))
        return 200 if is_well(readiness.state(now.troubles)) else 503, _JSON, body + b"\n"

    pages: dict[bytes, Callable[[], Answer]] = {
        b"/metrics": lambda: (200, CONTENT_TYPE, exposition.render()),
        b"/health/live": lambda: (200, _JSON, b'{"live":true}\n'),
        b"/health/ready": lambda: answer(lambda state: state is not State.NOT_READY),
        b"/health": lambda: answer(lambda state: state is State.READY),
    }
    site = MonitorSite(_Pages(pages), reactor=reactor, timeout=IDLE_S)
    return BoundedSite(site, reactor.seconds)
