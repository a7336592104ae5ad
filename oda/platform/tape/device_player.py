"""Plays a recorded session to a platform: acts as the device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.task import deferLater

from oda.platform.tape.link import DeviceLink, LinkLost, LinkRefused
from oda.platform.tape.session_file import Entry, Side, What

#: The ping that ends a connection: its pong proves that the platform has read everything.
_LAST_PING = b"oda-replay"


class PlayReport(msgspec.Struct):
    """What happened to the messages. ``acknowledged`` counts those before a pong."""

    messages: int = 0
    sent: int = 0
    acknowledged: int = 0
    connections: int = 0
    received: int = 0
    problems: list[str] = msgspec.field(default_factory=list)


class Pace:
    """The timing: the recorded times divided by ``speed``; 0 means at once."""

    def __init__(self, reactor: Any, speed: float) -> None:
        self._reactor = reactor
        self._speed = speed
        self._began: tuple[float, int] | None = None

    async def until(self, at_ms: int) -> None:
        """Return when ``at_ms`` is due; the first call returns at once."""
        if not self._speed:
            return
        now_s = self._reactor.seconds()
        if self._began is None:
            self._began = (now_s, at_ms)
        began_s, first_ms = self._began
        wait_s = began_s + (at_ms - first_ms) / 1000 / self._speed - now_s
        if wait_s > 0:
            await deferLater(self._reactor, wait_s, lambda: None)


class DevicePlayer:
    """Sends what the device sent: its messages and pings, over the same number of connections.

    ``connect`` opens a connection and raises ``LinkRefused``. Each connection ends with an extra
    ping, waits at most ``pong_timeout_s`` for its pong, and then closes like the recorded one.
    ``report`` shows the progress.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Awaitable[DeviceLink]],
        speed: float,
        pong_timeout_s: float = 10.0,
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._pace = Pace(reactor, speed)
        self._pong_timeout_s = pong_timeout_s
        self._links: dict[int, DeviceLink] = {}
        self._unproven: dict[int, int] = {}
        self.report = PlayReport()

    async def play(self, entries: Sequence[Entry]) -> PlayReport:
        """Play the connections of one device; problems are in the report."""
        for entry in entries:
            if entry.what is What.MESSAGE and entry.side is Side.DEVICE:
                self.report.messages += 1
        for entry in entries:
            await self._pace.until(entry.at_ms)
            if entry.what is What.OPEN:
                await self._open(entry.connection)
            elif entry.what is What.CLOSE:
                await self._end(entry.connection, _code_of(entry))
            elif entry.side is Side.DEVICE:
                await self._send(entry)
        for number in tuple(self._links):
            await self._end(number, 1000)
        return self.report

    async def _open(self, number: int) -> None:
        try:
            self._links[number] = await self._connect()
        except LinkRefused as error:
            self.report.problems.append(f"connection {number}: {error}")
            return
        self.report.connections += 1
        self._unproven[number] = 0

    async def _send(self, entry: Entry) -> None:
        link = self._links.get(entry.connection)
        if link is None:
            return
        try:
            if entry.what is What.MESSAGE:
                await link.send(entry.payload, entry.is_text)
                self.report.sent += 1
                self._unproven[entry.connection] += 1
            elif entry.what is What.PING:
                link.ping(entry.payload)
        except LinkLost as error:
            await self._drop(entry.connection, link, str(error))

    async def _end(self, number: int, code: int | None) -> None:
        link = self._links.get(number)
        if link is None:
            return
        try:
            await link.acknowledge(self._reactor, _LAST_PING, self._pong_timeout_s)
            self.report.acknowledged += self._unproven[number]
        except (LinkLost, TimeoutError) as error:
            await self._drop(number, link, str(error))
            return
        await self._drop(number, link, None, code)

    async def _drop(
        self, number: int, link: DeviceLink, problem: str | None, code: int | None = None
    ) -> None:
        if problem is not None:
            self.report.problems.append(f"connection {number}: {problem}")
        del self._links[number]
        self.report.received += link.messages_received
        await link.close(code)


def _code_of(closing: Entry) -> int | None:
    """How the device ends a connection: as recorded, or cleanly if the platform ended it."""
    return closing.code if closing.side is Side.DEVICE else 1000
