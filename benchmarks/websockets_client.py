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
import sys
from pathlib import Path
from typing import Any

import msgspec
import websockets

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measured import Meter, answer_to, resident_mib

_AT_ONCE = 256

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def messages(connection: Any, count: int) -> None:
    """Send ``count`` documents of one datapoint."""
    meter = Meter()
    meter.start()
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
    meter.start()
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    async def answer() -> None:
        async for payload in connection:
            request = _decode(payload)["operation"]["request"]
            await connection.send(_encode(answer_to(request, "other")))

    answering = asyncio.create_task(answer())
    await over
    answering.cancel()
    meter.report()


async def idle(seconds: float) -> None:
    """Be connected and do nothing."""
    await asyncio.sleep(1.0)
    meter = Meter()
    meter.start()
    await asyncio.sleep(seconds)
    meter.report(resident_mib=resident_mib())


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
