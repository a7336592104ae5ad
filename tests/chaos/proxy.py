"""A TCP proxy that breaks connections in the ways in which networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from typing import Any

_CHUNK_BYTES = 64 * 1024


class Cut(Enum):
    """What happens to the connections there are. Later ones are whole.

    ``fin`` and ``rst`` end them on both sides. The others end nothing: whoever doesn't notice by
    itself waits for ever. ``blackhole`` passes nothing on, ``uplink`` and ``downlink`` nothing in
    that direction (it vanishes), ``stuck`` stops reading what the agent writes. ``stall`` keeps
    everything for a while, and then delivers it.
    """

    FIN = "fin"
    RST = "rst"
    BLACKHOLE = "blackhole"
    UPLINK = "uplink"
    DOWNLINK = "downlink"
    STUCK = "stuck"
    STALL = "stall"


class _Relay:
    """One connection of the agent, and the one made for it to the platform."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.drops_uplink = False
        self.drops_downlink = False
        self.flows = asyncio.Event()
        self.flows.set()

    async def pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_dropped: Callable[[], bool],
    ) -> None:
        """Pass on what is read, until either side ends. An end behind a hole is not seen."""
        try:
            while True:
                await self.flows.wait()
                data = await reader.read(_CHUNK_BYTES)
                await self.flows.wait()
                if is_dropped():
                    if not data:
                        return
                    continue
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        if not is_dropped():
            self.end()

    def end(self) -> None:
        """FIN to both sides."""
        for writer in self.writers:
            writer.close()

    def reset(self) -> None:
        """RST to both sides."""
        for writer in self.writers:
            linger = struct.pack("ii", 1, 0)
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            writer.transport.abort()


class Proxy:
    """Listens on a port of its own for connections to ``target_port``; use it as a context."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._relays: set[_Relay] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, kind: Cut, duration_s: float = 1.0) -> int:
        """Do this to all connections; returns how many. ``duration_s`` is that of a stall."""
        cut: int = self._do(self._cut(kind, duration_s))
        return cut

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()  # the platform is down: refused, as without a proxy
            return
        relay = _Relay()
        relay.writers = [writer, far_writer]
        self._relays.add(relay)
        pumps = (
            relay.pump(reader, far_writer, lambda: relay.drops_uplink),
            relay.pump(far_reader, writer, lambda: relay.drops_downlink),
        )
        try:
            await asyncio.gather(*pumps)
        except asyncio.CancelledError:
            pass  # the proxy is closing; asyncio's streams would complain of it
        finally:
            relay.end()
            self._relays.discard(relay)

    async def _cut(self, kind: Cut, duration_s: float) -> int:
        relays = list(self._relays)
        for relay in relays:
            if kind is Cut.FIN:
                relay.end()
            elif kind is Cut.RST:
                relay.reset()
            elif kind is Cut.STUCK:
                relay.flows.clear()
            elif kind is Cut.STALL:
                relay.flows.clear()
                self._loop.call_later(duration_s, relay.flows.set)
            else:
                relay.drops_uplink = kind in (Cut.BLACKHOLE, Cut.UPLINK)
                relay.drops_downlink = kind in (Cut.BLACKHOLE, Cut.DOWNLINK)
        return len(relays)

    async def _close(self) -> None:
        self._server.close()
        for relay in list(self._relays):
            relay.flows.set()
            relay.reset()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0)
