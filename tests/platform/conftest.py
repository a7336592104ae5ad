"""A platform in this process, and devices that connect to it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from oda.platform.service import Platform

from .device import Device


@pytest_twisted.async_yield_fixture()
async def start() -> AsyncIterator[Callable[..., Platform]]:
    """Starts platforms with the arguments given; ends them afterwards."""
    from twisted.internet import reactor

    started: list[Platform] = []

    def start_one(**arguments: Any) -> Platform:
        one = Platform(reactor, **arguments)
        one.startService()
        started.append(one)
        return one

    yield start_one
    for one in started:
        if one.running:
            await one.stopService()


@pytest_twisted.async_yield_fixture()
async def connect() -> AsyncIterator[Callable[..., Device]]:
    """Connects devices; drops their connections afterwards."""
    from twisted.internet import reactor

    made: list[Device] = []

    def connect_one(platform: Platform, device: str = "dev-1", **arguments: Any) -> Device:
        one = Device(reactor, f"{platform.url}/{device}", **arguments)
        made.append(one)
        return one

    yield connect_one
    for one in made:
        transport = getattr(getattr(one, "protocol", None), "transport", None)
        if transport is not None and one.lost_by is None:
            transport.abortConnection()


def fetch(
    url: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON document of an HTTP answer; blocks."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


async def call(platform: Platform, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """``fetch`` from the platform's API, in a thread."""
    return await deferToThread(fetch, f"{platform.http_url}{path}", method, body, **more)
