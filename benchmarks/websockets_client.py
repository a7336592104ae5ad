"""Another baseline: the ``websockets`` library on asyncio, which stores nothing.

``python benchmarks/websockets_client.py WHAT --port P ...`` speaks as ``benchmarks/subject.py``
does, for what can be compared: ``messages`` (one datapoint per message, a ping after each 256 that
has to be answered before the next 256), ``serve`` (operations) and ``idle``. Nothing survives its
process, and an answer that the platform never read is lost: the figures say what a client of
another library costs that only sends and receives.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import websockets

_AT_ONCE = 256

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


class Meter:
    """Wall and CPU time from now on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_s()

    def report(self, **more: Any) -> None:
        """Print the line that the runner reads."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line = {"wall_s": time.perf_counter() - self._wall, "cpu_s": _cpu_s() - self._cpu}
        print(json.dumps({**line, "peak_mib": peak, **more}), flush=True)


async def messages(connection: Any, count: int) -> None:
    """Send ``count`` documents of one datapoint."""
    meter = Meter()
    for number in range(count):
        point = {"at": 1_700_000_000_000 + number, "value": number}
        await connection.send(
            _encode(
                {
                    "version": "9.0",
                    "device": f"child-{number & 255}",
                    "datastreams": [{"id": "t", "datapoints": [point]}],
                }
            )
        )
        if number % _AT_ONCE == _AT_ONCE - 1:
            await (await connection.ping())
    await (await connection.ping())
    meter.report(datapoints=count)


async def serve(connection: Any) -> None:
    """Answer operations until standard input says that they are over."""
    meter = Meter()
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    async def answer() -> None:
        async for payload in connection:
            request = _decode(payload)["operation"]["request"]
            name = request["name"]
            entry = {"variableName": "q", "resultCode": "SUCCESS", "resultDescription": "SUCCESS"}
            if name == "GET_DEVICE_PARAMETERS":
                entry["variableValue"] = 17  # type: ignore[assignment]
            step = {"name": name, "result": "SUCCESSFUL", "description": "", "response": [entry]}
            response = {
                "id": request["id"],
                "deviceId": "other",
                "path": [],
                "name": name,
                "resultCode": "SUCCESSFUL",
                "steps": [step],
            }
            document = {"version": "9.0", "operation": {"response": response}}
            await connection.send(_encode(document))

    answering = asyncio.create_task(answer())
    await over
    answering.cancel()
    meter.report()


async def idle(seconds: float) -> None:
    """Be connected and do nothing."""
    await asyncio.sleep(1.0)
    meter = Meter()
    await asyncio.sleep(seconds)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    meter.report(resident_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


async def run(options: argparse.Namespace) -> None:
    """Connect and do what was asked for."""
    address = f"ws://127.0.0.1:{options.port}/south/v80/sessions/other"
    async with websockets.connect(address, compression=None) as connection:
        if options.what == "messages":
            await messages(connection, options.count)
        elif options.what == "serve":
            await serve(connection)
        else:
            await idle(options.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["messages", "serve", "idle"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
