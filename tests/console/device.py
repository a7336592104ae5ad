"""A device for tests that never saw this project's code: the ``websockets`` package in a thread.

It comes back whenever its connection ends, sends what it is told to, and answers operations.
"""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

_AGAIN_AFTER_S = 0.1


class Device:
    """Connects to ``url`` when entered; ``send`` waits until it is connected."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_over = threading.Event()
        self._connection: ClientConnection | None = None
        self._is_connected = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.answers: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Device:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._connection is not None:
            self._connection.close()
        self._thread.join(10)

    def wait_until_connected(self) -> None:
        if not self._is_connected.wait(10):
            raise TimeoutError("the device is not connected")

    def send(self, document: Any) -> None:
        """Send a document as JSON, or bytes as they are."""
        self.wait_until_connected()
        assert self._connection is not None
        is_raw = isinstance(document, bytes)
        self._connection.send(document if is_raw else json.dumps(document).encode())

    def report(self, datastream: str, at_ms: int, value: Any, feed: str | None = None) -> None:
        """Send one datapoint."""
        stream: dict[str, Any] = {
            "id": datastream,
            "datapoints": [{"at": at_ms, "value": value}],
        }
        if feed is not None:
            stream["feed"] = feed
        self.send({"version": "9.0", "datastreams": [stream]})

    def ping(self) -> None:
        """Send a ping; does not wait for the pong."""
        self.wait_until_connected()
        assert self._connection is not None
        self._connection.ping()

    def _live(self) -> None:
        while not self._is_over.is_set():
            try:
                with connect(self._url, ping_interval=None, close_timeout=1) as connection:
                    self._connection = connection
                    self._is_connected.set()
                    for message in connection:
                        self._answer(json.loads(message)["operation"]["request"])
            except (OSError, WebSocketException):
                pass  # refused or cut off: it comes back
            finally:
                self._is_connected.clear()
            self._is_over.wait(_AGAIN_AFTER_S)

    def _answer(self, request: dict[str, Any]) -> None:
        response = {
            "id": request["id"],
            "deviceId": request.get("deviceId"),
            "path": [],
            "name": request["name"],
        }
        prepared = self.answers.get(request["name"])
        if prepared is None:
            response["resultCode"] = "NOT_SUPPORTED"
            response["resultDescription"] = "Operation not supported by the device"
            response["steps"] = []
        else:
            response.update(prepared)
        self.send({"version": "9.0", "operation": {"response": response}})
