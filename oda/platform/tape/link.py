"""A device's connection, for coroutines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from oda.errors import OdaError
from oda.platform.logger import PlatformLogger
from oda.platform.tape.client import FrameClient, Target, connect_client

log = PlatformLogger()


class LinkRefused(OdaError):  # noqa: N818 - named like those of oda.errors
    """The platform did not let the device in; the text says how."""


class LinkLost(OdaError):  # noqa: N818 - named like those of oda.errors
    """The platform has ended the connection; the text says how."""


@implementer(IPushProducer)
class DeviceLink:
    """One connection to a platform (a ``FrameListener``); answers pings properly."""

    def __init__(self) -> None:
        self._client: FrameClient | None = None
        self._opened: Deferred[None] = Deferred()
        self._lost: list[Deferred[None]] = []
        self._pongs: dict[bytes, Deferred[None]] = {}
        self._writable: Deferred[None] | None = None
        self.end: str | None = None
        self.messages_received = 0

    async def open(
        self,
        reactor: Any,
        target: Target,
        resource: str,
        headers: Mapping[str, str],
        trust_root: Any = None,
    ) -> None:
        """Connect; raises ``LinkRefused``."""
        try:
            client = await connect_client(reactor, target, resource, headers, (), self, trust_root)
        except Exception as error:  # noqa: BLE001 - a name, a port, a certificate: all the same
            raise LinkRefused(f"can't connect: {error}") from None
        self._client = client
        await self._opened
        client.transport.registerProducer(self, True)

    async def send(self, payload: bytes, is_text: bool) -> None:
        """Send a message once there is room for it; raises ``LinkLost``."""
        while self._writable is not None and self.end is None:
            await self._writable
        self._open_client().sendMessage(payload, isBinary=not is_text)

    def ping(self, payload: bytes) -> None:
        """Send a ping; raises ``LinkLost``."""
        self._open_client().sendPing(payload)

    async def acknowledge(self, reactor: Any, payload: bytes, timeout_s: float) -> None:
        """Send a ping and wait for its pong, which proves that the platform has read everything.

        Raises ``LinkLost``, and ``TimeoutError`` when no pong comes in time.
        """
        self.ping(payload)
        answered = self._pongs[payload] = Deferred()
        await answered.addTimeout(timeout_s, reactor, _time_out)

    async def close(self, code: int | None) -> None:
        """End the connection with that code; None means without a close frame."""
        client = self._client
        if client is None or self.end is not None:
            return
        lost: Deferred[None] = Deferred()
        self._lost.append(lost)
        client.transport.unregisterProducer()
        if code is None:
            client.transport.abortConnection()
        else:
            client.sendCloseFrame(code=None if code == 1005 else code, isReply=False)
        await lost

    def _open_client(self) -> FrameClient:
        client = self._client
        if client is None or self.end is not None or client.state != client.STATE_OPEN:
            raise LinkLost(self.end or "the platform is closing the connection")
        return client

    # FrameListener

    def guard(self, call: Callable[[], None]) -> None:
        """See ``FrameListener``."""
        try:
            call()
        except Exception:  # noqa: BLE001 - see FrameListener
            log.failure("the connection failed")
            if self._client is not None:
                self._client.transport.abortConnection()

    def opened(self, subprotocol: str | None) -> None:
        """See ``FrameListener``."""
        self._opened.callback(None)

    def refused(self, status: int | None, headers: Mapping[str, str], reason: str) -> None:
        """See ``FrameListener``."""
        self.end = f"refused with {status}" if status is not None else reason
        self._opened.errback(LinkRefused(self.end))

    def message_received(self, payload: bytes, is_text: bool) -> None:
        """See ``FrameListener``."""
        self.messages_received += 1

    def ping_received(self, payload: bytes) -> None:
        """See ``FrameListener``."""
        if self._client is not None:
            self._client.sendPong(payload)

    def pong_received(self, payload: bytes) -> None:
        """See ``FrameListener``."""
        answered = self._pongs.pop(payload, None)
        if answered is not None:
            answered.callback(None)

    def close_received(self, code: int | None, reason: bytes) -> None:
        """See ``FrameListener``."""
        why = f" ({reason.decode('utf-8', 'replace')})" if reason else ""
        self.end = f"closed with code {code}{why}"
        self._release()

    def lost(self) -> None:
        """See ``FrameListener``."""
        if self.end is None:
            self.end = "the connection was lost"
        self._release()
        waiting, self._lost = self._lost, []
        for one in waiting:
            one.callback(None)

    def _release(self) -> None:
        """Release everyone who waits for what can no longer happen."""
        self.resumeProducing()
        pongs, self._pongs = self._pongs, {}
        for answered in pongs.values():
            answered.errback(LinkLost(self.end or ""))

    # IPushProducer: the transport says whether there is room

    def pauseProducing(self) -> None:
        if self._writable is None:
            self._writable = Deferred()

    def resumeProducing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()


def _time_out(_result: Any, timeout_s: float) -> None:
    raise TimeoutError(f"no pong within {timeout_s:g} s")
