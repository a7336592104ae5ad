"""What the monitor's port answers: ``/metrics``, ``/health/live`` and ``/health/ready``.

Nothing can be changed through it, and it asks for no password: it belongs on the loopback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from oda.monitor.counters import Counters
from oda.monitor.exposition import CONTENT_TYPE, Exposition
from oda.monitor.health import judge
from oda.monitor.snapshot import Snapshot

_JSON = b"application/json"


class _Page(Resource):
    """A page made by ``make()``, which returns status, content type and body."""

    isLeaf = True

    def __init__(self, make: Callable[[], tuple[int, bytes, bytes]]) -> None:
        super().__init__()
        self._make = make

    def render_GET(self, request: Request) -> bytes:
        status, content_type, body = self._make()
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type)
        request.setHeader(b"cache-control", b"no-store")
        return body


class MonitorSite(Site):
    """A site that keeps no access log: a scrape every few seconds is no event."""

    noisy = False

    def log(self, request: Any) -> None:
        """Nothing."""


def build_site(counters: Counters, look: Callable[[], Snapshot], reactor: Any) -> MonitorSite:
    """The site for an agent that ``look`` shows."""
    exposition = Exposition(counters, look)

    def ready() -> tuple[int, bytes, bytes]:
        connection = look().connection
        readiness = judge(connection)
        body = msgspec.json.encode(readiness.body(connection))
        return 200 if readiness.ready else 503, _JSON, body + b"\n"

    health = Resource()
    health.putChild(b"live", _Page(lambda: (200, _JSON, b'{"live":true}\n')))
    health.putChild(b"ready", _Page(ready))
    root = Resource()
    root.putChild(b"metrics", _Page(lambda: (200, CONTENT_TYPE, exposition.render())))
    root.putChild(b"health", health)
    return MonitorSite(root, reactor=reactor)
