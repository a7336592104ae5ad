"""A blocking client of the platform's REST API; uses only the standard library."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from oda.errors import OdaError
from oda.platform.faults import Fault, Incident, write_fault
from oda.platform.operation import DEFAULT_TIMEOUT_S, Operation
from oda.platform.recording import RecordedConnection, RecordedMessage
from oda.platform.store import LatestValue, StoredDatapoint

_T = TypeVar("_T")

#: A proxy named in the environment is for the internet, not for a local platform.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class PlatformRefused(OdaError):  # noqa: N818 - named like those of oda.errors
    """The API answered with an error; ``status`` is the HTTP status."""

    def __init__(self, status: int, problem: str) -> None:
        self.status = status
        super().__init__(f"{status}: {problem}")


class NotWithinTime(OdaError):  # noqa: N818 - named like those of oda.errors
    """The awaited event did not happen in time."""


class ServerSentEvent(NamedTuple):
    """One live change: its number, its kind and its data."""

    number: int
    kind: str
    data: Any


class PlatformClient:
    """Talks to the API at ``url`` (``http://127.0.0.1:9956``). Times out after ``timeout_s``.

    Every method raises ``PlatformRefused`` for an error answer, ``OSError`` when nothing answers.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON document of the API's answer; leaves out query values of None."""
        given = {name: value for name, value in query.items() if value is not None}
        url = f"{self.url}{path}" + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(url, data, method=method)
        timeout_s = self._timeout_s + float(given.get("wait", 0))
        try:
            with _open(request, timeout=timeout_s) as reply:
                return _read_json(reply.status, reply.read())
        except urllib.error.HTTPError as error:
            with closing(error):
                document = _read_json(error.code, error.read())
            problem = document.get("error", "") if isinstance(document, dict) else ""
            raise PlatformRefused(error.code, problem) from None

    def devices(self) -> list[dict[str, Any]]:
        """Every device seen, with its connection."""
        found: list[dict[str, Any]] = self.call("GET", "/devices")
        return found

    def device(self, device: str) -> dict[str, Any] | None:
        """One device, with counters; None when it was never seen."""
        try:
            found: dict[str, Any] = self.call("GET", f"/devices/{_segment(device)}")
        except PlatformRefused as error:
            if error.status == 404:
                return None
            raise
        return found

    def latest(self, device: str) -> list[LatestValue]:
        """The newest value of each datastream."""
        found = self.call("GET", f"/devices/{_segment(device)}/datastreams")
        return msgspec.convert(found, list[LatestValue])

    def datapoints(
        self,
        device: str,
        datastream: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int = 100_000,
    ) -> list[StoredDatapoint]:
        """The recorded datapoints, oldest first; [] for a device never seen."""
        path = f"/devices/{_segment(device)}"
        if datastream is not None:
            path += f"/datastreams/{_segment(datastream)}"
        period = {"from": from_ms, "to": to_ms, "limit": limit}
        try:
            found = self.call("GET", path + "/datapoints", **period)
        except PlatformRefused as error:
            if error.status == 404:
                return []
            raise
        return msgspec.convert(found, list[StoredDatapoint])

    def messages(
        self,
        device: str | None = None,
        direction: str | None = "in",
        after: int = 0,
        connection: int | None = None,
    ) -> list[RecordedMessage]:
        """All recorded messages: read (``in``), written (``out``) or both (None), in order."""
        return list(
            self._pages(
                "/messages",
                RecordedMessage,
                after,
                device=device,
                direction=direction,
                connection=connection,
            )
        )

    def connections(self, device: str | None = None) -> list[RecordedConnection]:
        """All recorded connections, oldest first."""
        return list(self._pages("/connections", RecordedConnection, 0, device=device))

    def _pages(self, path: str, kind: type[_T], after: int, **query: Any) -> Iterator[_T]:
        while True:
            page = self.call("GET", path, after=after, limit=5000, **query)
            if not page:
                return
            for item in page:
                if item.pop("encoding", None) == "utf-8":
                    item["payload"] = item["payload"].encode()
                yield msgspec.convert(item, kind)
                after = item["number"]

    def send_operation(
        self,
        device: str,
        name: str,
        parameters: Any = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **order: Any,
    ) -> dict[str, Any]:
        """Send an operation and wait; returns the content of the device's final response.

        ``order`` holds the other members of the API's order (``dialect``, ``format``, ``deviceId``,
        ...). Raises ``NotWithinTime``.
        """
        body = {"name": name, "parameters": parameters, "timeout": timeout_s, **order}
        path = f"/devices/{_segment(device)}/operations"
        operation = self.call("POST", path, body, wait=timeout_s + 1)
        if "answer" not in operation:
            raise NotWithinTime(f"{name} {operation['id']}: no answer within {timeout_s:g} s")
        answer: dict[str, Any] = operation["answer"]
        return answer

    def post_operation(self, device: str, name: str, parameters: Any = None, **order: Any) -> str:
        """Send (or queue) an operation without waiting; returns its id."""
        body = {"name": name, "parameters": parameters, **order}
        operation = self.call("POST", f"/devices/{_segment(device)}/operations", body)
        request_id: str = operation["id"]
        return request_id

    def operation(self, operation_id: str, wait_s: float | None = None) -> Operation:
        """The state of an operation, now or once it is answered (at most ``wait_s`` later)."""
        found = self.call("GET", f"/operations/{_segment(operation_id)}", wait=wait_s)
        return msgspec.convert(found, Operation)

    def operations(self, device: str | None = None) -> list[Operation]:
        """The recorded operations, newest first."""
        where = "" if device is None else f"/devices/{_segment(device)}"
        found = self.call("GET", f"{where}/operations", limit=10_000)
        return msgspec.convert(found, list[Operation])

    def set_fault(self, fault: Fault, device: str | None = None) -> None:
        """Misbehave like this towards a device (None: all) until the fault changes."""
        self.call("PUT", _of(device, "/faults"), write_fault(fault))

    def clear_fault(self, device: str | None = None) -> None:
        """Behave normally towards a device (None: all)."""
        self.call("DELETE", _of(device, "/faults"))

    def strike(self, incident: Incident, device: str | None = None) -> int:
        """Reset or close the connections of a device (None: all), once; returns how many."""
        hit: int = self.call("POST", _of(device, "/incidents"), incident)["connections"]
        return hit

    @contextmanager
    def events(self, after: int | None = None) -> Iterator[Iterator[ServerSentEvent]]:
        """The live changes after that number (None: from now on), for a ``with`` block."""
        query = "" if after is None else f"?after={after}"
        reply = _open(f"{self.url}/events{query}", timeout=self._timeout_s)
        with closing(reply):
            yield _read_events(reply)

    def wait_until(self, condition: Callable[[], _T], timeout_s: float = 10.0) -> _T:
        """The first true value of ``condition``, checked now and after every live change.

        Raises ``NotWithinTime``.
        """
        deadline_s = time.monotonic() + timeout_s
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=timeout_s)
        with closing(connection):
            connection.request("GET", "/events")
            socket = connection.sock  # a reply without a length takes it from the connection

            def limit() -> None:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                socket.settimeout(left_s)

            changes = _read_events(connection.getresponse(), limit)
            while True:
                value = condition()
                if value:
                    return value
                try:
                    limit()
                    if next(changes, None) is None:
                        raise ConnectionResetError("the platform has ended the stream of events")
                except TimeoutError:
                    problem = f"the condition was not met within {timeout_s:g} s"
                    raise NotWithinTime(problem) from None

    def wait_for_device(self, device: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The device, once it is connected; raises ``NotWithinTime``."""

        def connected() -> dict[str, Any] | None:
            found = self.device(device)
            return found if found is not None and found["connected"] else None

        found = self.wait_until(connected, timeout_s)
        if found is None:  # wait_until returns only true values
            raise NotWithinTime(device)
        return found

    def wait_for_datapoints(
        self, device: str, datastream: str | None = None, count: int = 1, timeout_s: float = 10.0
    ) -> list[StoredDatapoint]:
        """The datapoints, once there are this many; raises ``NotWithinTime``."""

        def enough() -> list[StoredDatapoint]:
            found = self.datapoints(device, datastream)
            return found if len(found) >= count else []

        return self.wait_until(enough, timeout_s)


def _read_json(status: int, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        problem = "the answer is not JSON: is the platform's API there?"
        raise PlatformRefused(status, problem) from None


def _segment(text: str) -> str:
    return quote(text, safe="")


def _of(device: str | None, path: str) -> str:
    return path if device is None else f"/devices/{_segment(device)}{path}"


def _read_events(
    reply: Iterable[bytes], limit: Callable[[], None] = lambda: None
) -> Iterator[ServerSentEvent]:
    """The events of a stream. ``limit`` is called before each line is awaited: the platform's
    heartbeats are lines, too, and each would begin the socket's timeout anew."""
    number, kind, data = 0, "", ""
    for raw in reply:
        limit()
        line = raw.decode().rstrip("\n")
        name, _, value = line.partition(": ")
        if name == "id":
            number = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not line and data:
            yield ServerSentEvent(number, kind, json.loads(data))
            data = ""
