"""What the monitor's port answers: ``/metrics``, ``/health/live`` and ``/health/ready``.

Nothing can be changed through it, and it asks for no password: it belongs on the loopback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from oda.monitor.counters import Counters
from oda.monitor.exposition import CONTENT_TYPE, Exposition
from oda.monitor.health import judge
from oda.monitor.snapshot import Snapshot

_JSON = b"application/json"
_NOT_FOUND = (404, b"text/plain", b"there are /metrics, /health/live and /health/ready\n")


#: Status, content type and body.
Answer = tuple[int, bytes, bytes]


class _Pages(Resource):
    """Answers GET (and HEAD) of the paths in ``pages``, and of no other."""

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


class MonitorSite(Site):
    """A site that keeps no access log: a scrape every few seconds is no event."""

    noisy = False

    def log(self, request: Any) -> None:
        """Nothing."""


def build_site(counters: Counters, look: Callable[[], Snapshot], reactor: Any) -> MonitorSite:
    """The site for an agent that ``look`` shows."""
    exposition = Exposition(counters, look)

    def ready() -> Answer:
        connection = look().connection
        readiness = judge(connection)
        body = msgspec.json.encode(readiness.body(connection))
        return 200 if readiness.ready else 503, _JSON, body + b"\n"

    pages: dict[bytes, Callable[[], Answer]] = {
        b"/metrics": lambda: (200, CONTENT_TYPE, exposition.render()),
        b"/health/live": lambda: (200, _JSON, b'{"live":true}\n'),
        b"/health/ready": ready,
    }
    return MonitorSite(_Pages(pages), reactor=reactor)
