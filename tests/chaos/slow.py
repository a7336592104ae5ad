"""Slow links: a backlog drains through a network that carries a few hundred bytes a second."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oda.commands.running_agent import connect_to_agent
from oda.control.wire import ControlError, Publish
from oda.model import Event
from tests.chaos.caller import Caller
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, ROOT
from tests.e2e.processes import AgentProcess, write, write_configuration

#: Bits a second and the round trip in seconds; the network stands still for 20 s where ``STALLS``.
LINKS = [(2400, 1.0), (9600, 0.1), (16_000, 5.0), (32_000, 1.0), (64_000, 0.1)]
_STALL_EVERY_S = 60.0
_STALL_S = 20.0
#: What a message holds, so that its size on the wire is nearly that of its payload.
_TEXT = "x" * 200
_QUEUE_BYTES = 2048
_LEAST_GOODPUT = 0.8
#: For so many round trips the window grows.
_GROWING = 3
_LONGEST_ANSWER_S = 10.0


class SlowLink:
    """A proxy that takes ``bits_per_s`` from the agent. Its receive buffer is as small as the
    kernel allows: what waits in front of the link waits at the agent."""

    def __init__(self, target_port: int, bits_per_s: float, round_trip_s: float) -> None:
        self._target_port = target_port
        self._rate = bits_per_s / 8
        self._delay_s = round_trip_s / 2
        self._stalled_until_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self.carried_bytes = 0

    def __enter__(self) -> SlowLink:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._keep, self._accept())
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()
        self._loop.close()

    def stall(self, seconds: float) -> None:
        """Carry nothing from the agent for so long."""
        self._stalled_until_s = time.monotonic() + seconds

    def _keep(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            near.setblocking(False)
            self.connections += 1
            self._keep(self._relay(near))

    async def _relay(self, near: socket.socket) -> None:
        far = socket.socket()
        far.setblocking(False)
        with near, far, suppress(OSError):
            await self._loop.sock_connect(far, ("127.0.0.1", self._target_port))
            await asyncio.gather(self._up(near, far), self._down(far, near))

    async def _up(self, near: socket.socket, far: socket.socket) -> None:
        size = max(100, int(self._rate / 20))
        while data := await self._loop.sock_recv(near, size):
            await asyncio.sleep(len(data) / self._rate)
            await asyncio.sleep(max(0.0, self._stalled_until_s - time.monotonic()))
            self.carried_bytes += len(data)
            self._later(far, data)
        self._later(far, b"")

    async def _down(self, far: socket.socket, near: socket.socket) -> None:
        while data := await self._loop.sock_recv(far, 65_536):
            self._later(near, data)
        self._later(near, b"")

    def _later(self, target: socket.socket, data: bytes) -> None:
        self._loop.call_later(self._delay_s, self._arrived, target, data)

    def _arrived(self, target: socket.socket, data: bytes) -> None:
        with suppress(OSError):
            if data:
                target.send(data)
            else:
                target.shutdown(socket.SHUT_WR)


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """For each link a backlog of ``count`` seconds, with and without stalls."""
    report = Report("slow", seed, count)
    for stalls in (False, True):
        for bits_per_s, round_trip_s in LINKS:
            place = directory / f"{bits_per_s}-{stalls}"
            place.mkdir(parents=True)
            _drain(report, place, count, bits_per_s, round_trip_s, stalls)
    return report


def _drain(
    report: Report,
    directory: Path,
    count: int,
    bits_per_s: int,
    round_trip_s: float,
    has_stalls: bool,
) -> None:
    """Fill the outbox without a connection, then let it drain and ask an operation meanwhile."""
    name = f"{bits_per_s} bit/s, {round_trip_s:g} s{', stalls' if has_stalls else ''}"
    arrived: dict[int, int] = {}
    sizes: list[int] = []

    def on_telemetry(document: dict[str, Any]) -> None:
        for stream in document["datastreams"]:
            for point in stream["datapoints"]:
                number = int(point["value"].split()[0])
                arrived[number] = arrived.get(number, 0) + 1

    with Caller(on_telemetry) as caller:
        target = urlsplit(caller.device_url).port or 0
        with SlowLink(target, bits_per_s, round_trip_s) as link:
            platform: Any = caller
            more = {"port": 9, "reconnectMaxDelay": 1, "reconnectSpread": 0}
            configuration = write_configuration(directory / "conf", platform, DEVICE, more)
            executions = directory / "executions"
            plugin = f"plugins=chaos-counter\nchaos-counter.file={executions}\n"
            write(configuration, "plugins", plugin)
            python_path = f"{ROOT}:{Path(__file__).parent / 'plugins'}"
            with AgentProcess(configuration, PYTHONPATH=python_path) as agent:
                published = _publish(configuration, int(bits_per_s / 8 * count / 300))
                agent.stop()
            more["port"] = link.port
            configuration = write_configuration(directory / "conf", platform, DEVICE, more)
            write(configuration, "plugins", plugin)
            with AgentProcess(configuration, PYTHONPATH=python_path) as agent:
                caller.wait_for_agent(30.0)
                begun_s, stalled_s = time.monotonic(), 0.0
                next_stall_s, next_ask_s, asked = begun_s + 5.0, begun_s + 10.0, 0
                slowest_s = 0.0
                while len(arrived) < published and time.monotonic() < begun_s + 3 * count + 60:
                    now_s = time.monotonic()
                    if has_stalls and now_s >= next_stall_s:
                        link.stall(_STALL_S)
                        stalled_s += _STALL_S
                        next_stall_s = now_s + _STALL_EVERY_S
                    elif not has_stalls and now_s >= next_ask_s:
                        answer_s = caller.ask_and_wait(f"{name} {asked}", "COUNT", {"wait": 0.0})
                        slowest_s = max(slowest_s, answer_s)
                        asked += 1
                        next_ask_s = now_s + 15.0
                    time.sleep(0.05)
                took_s = time.monotonic() - begun_s - stalled_s
                sizes.append(link.carried_bytes)
                agent.stop()
    # The window needs some round trips to grow; in the long run they do not count.
    carried = sizes[0] / ((took_s - _GROWING * round_trip_s) * bits_per_s / 8)
    copies = sum(arrived.values()) - len(arrived)
    report.figures[name] = (
        f"{len(arrived)} of {published} in {took_s:.0f} s, {carried:.0%} of the link,"
        f" {link.connections} connections, {copies} copies, slowest answer {slowest_s:.1f} s;"
    )
    report.require(len(arrived) == published, f"{name}: {published - len(arrived)} are missing")
    report.require(carried >= _LEAST_GOODPUT, f"{name}: only {carried:.0%} of the link are used")
    report.require(link.connections == 1, f"{name}: {link.connections} connections")
    report.require(copies == 0, f"{name}: {copies} copies")
    report.require(slowest_s <= _LONGEST_ANSWER_S, f"{name}: an answer took {slowest_s:.1f} s")


def _publish(configuration: Path, count: int) -> int:
    """Publish ``count`` datapoints, each a message of its own; all of them are accepted."""
    deadline_s = time.monotonic() + 30.0
    while True:
        try:
            client = connect_to_agent(configuration)
            break
        except ControlError:
            assert time.monotonic() < deadline_s, "the agent does not start"
            time.sleep(0.05)
    with client:
        taken = 0
        for number in range(count):
            client.send(
                Publish(Event("slow", f"{number} {_TEXT}", at_ms=1_700_000_000_000 + number))
            )
            # A pause between any two, or they would be gathered in one message.
            time.sleep(0.003)
        client.finish()
        for answer in client.answers():
            taken = answer.get("ok", taken)
    assert taken == count, f"{taken} of {count} were accepted"
    return count
