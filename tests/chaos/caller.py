"""The least of a platform: it asks, and takes what comes, in the test's own process.

It reads faster than the stand-in platform, which records everything, and it may ask with an id that
was used before.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import Any, NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

#: Of the description of an answer.
_KEPT_CHARACTERS = 200


class Answer(NamedTuple):
    """What is kept of an answer, which may be long: two that are equal were equal."""

    digest: bytes
    code: str
    description: str


class Caller:
    """``answers`` are digests of the answers by request, ``answered_s`` the time of the first
    one. ``on_telemetry(document)`` is called for every other message."""

    def __init__(self, on_telemetry: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.answered_s: dict[str, float] = {}
        self._on_telemetry = on_telemetry
        self._connection: ServerConnection | None = None
        self._changed = threading.Condition()
        self._server: Server = serve(
            self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None
        )
        self.device_url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/sessions"

    def __enter__(self) -> Caller:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()

    def wait_for_agent(self, timeout_s: float = 60.0) -> float:
        """Return once an agent is connected, with the time of that."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._connection is not None, timeout_s)
        return self._connected_s

    def ask(self, request_id: str, name: str, parameters: dict[str, Any]) -> None:
        """Send a request to the agent that is connected, or to the next one."""
        self.wait_for_agent()
        request = {"id": request_id, "name": name, "parameters": parameters}
        connection = self._connection
        if connection is not None:
            with suppress(ConnectionClosed):  # it is lost, like one to an agent that dies now
                connection.send(json.dumps({"operation": {"request": request}}))

    def ask_and_wait(
        self, request_id: str, name: str, parameters: dict[str, Any], timeout_s: float = 60.0
    ) -> float:
        """Send a request, and return how long its answer took, in seconds."""
        begun_s = time.monotonic()
        self.ask(request_id, name, parameters)
        with self._changed:
            assert self._changed.wait_for(lambda: request_id in self.answered_s, timeout_s)
        return self.answered_s[request_id] - begun_s

    def _serve(self, connection: ServerConnection) -> None:
        with self._changed:
            self._connection = connection
            self._connected_s = time.monotonic()
            self._changed.notify_all()
        try:
            for message in connection:
                self._take(message.encode() if isinstance(message, str) else message)
        except ConnectionClosed:
            return
        finally:
            with self._changed:
                if self._connection is connection:
                    self._connection = None

    def _take(self, payload: bytes) -> None:
        document = json.loads(payload)
        if "operation" not in document:
            self._on_telemetry(document)
            return
        response = document["operation"]["response"]
        request_id = response["id"]
        answer = Answer(
            sha256(payload).digest(),
            response["resultCode"],
            response.get("resultDescription", "")[:_KEPT_CHARACTERS],
        )
        with self._changed:
            self.answers.setdefault(request_id, []).append(answer)
            self.answered_s.setdefault(request_id, time.monotonic())
            self._changed.notify_all()
