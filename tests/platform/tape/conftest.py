"""A recording proxy in front of a platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from oda.platform.service import Platform
from oda.platform.tape.client import read_target
from oda.platform.tape.proxy import RecordingProxy
from oda.platform.tape.recorder import SessionRecorder
from oda.platform.tape.session_file import Session, read_session


class Tap:
    """A proxy, and what it has written so far."""

    def __init__(self, reactor: Any, url: str, file: Any = None, trust_root: Any = None) -> None:
        self.file = BytesIO() if file is None else file
        self.reactor = reactor
        self.failed: Deferred[None] = Deferred()
        recorder = SessionRecorder(self.file, reactor.seconds, 1000)
        self.proxy = RecordingProxy(
            reactor, read_target(url), recorder, self.failed.errback, trust_root
        )
        self.port = self.proxy.listen(0, "127.0.0.1")
        self.url = f"ws://127.0.0.1:{self.port}/south/v80/sessions"
        self.is_stopped = False

    def session(self) -> Session:
        return read_session(self.file.getvalue(), "memory")

    async def stop_reading(self) -> None:
        """End the proxy; ``entries`` are what it has written."""
        content: list[bytes] = []
        close = self.file.close
        self.file.close = lambda: content.append(self.file.getvalue())
        await self.stop()
        self.file.close = close
        self.entries = list(read_session(content[0], "memory").entries)

    async def stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            await self.proxy.stop()


@pytest_twisted.async_yield_fixture()
async def tap() -> AsyncIterator[Callable[..., Tap]]:
    """Puts proxies in front of platforms; ends them afterwards."""
    from twisted.internet import reactor

    made: list[Tap] = []

    def put(platform: Platform, **arguments: Any) -> Tap:
        one = Tap(reactor, arguments.pop("url", platform.url), **arguments)
        made.append(one)
        return one

    yield put
    for one in made:
        await one.stop()
