"""A device for tests: a real Autobahn client whose events can be awaited."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

#: No wait of a test takes longer; reached only when something is broken.
PATIENCE_S = 10.0


class _Protocol(WebSocketClientProtocol):
    def onOpen(self) -> None:
        self.factory.device.happened("open", None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.device.happened("message", (payload, not isBinary))

    def onPong(self, payload: bytes) -> None:
        self.factory.device.happened("pong", payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.factory.device.happened("close", (self.remoteCloseCode, reason))

    def connectionLost(self, reason: Failure) -> None:
        self.factory.device.lost_by = reason.type
        super().connectionLost(reason)


class Device:
    """Connects when made. ``next(kind)`` gives the next open, message, pong or close."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        headers: dict[str, str] | None = None,
        tls: Any = None,
        deflate: bool = False,
    ) -> None:
        self.reactor = reactor
        self.lost_by: Any = None
        self._queues: dict[str, DeferredQueue[Any]] = {}
        factory = WebSocketClientFactory(url, headers=headers or {}, reactor=reactor)
        factory.protocol = self._make
        factory.device = self
        factory.noisy = False
        factory.setProtocolOptions(openHandshakeTimeout=0, failByDrop=False)
        if deflate:
            factory.setProtocolOptions(
                perMessageCompressionOffers=[PerMessageDeflateOffer()],
                perMessageCompressionAccept=lambda response: (
                    PerMessageDeflateResponseAccept(response)
                    if isinstance(response, PerMessageDeflateResponse)
                    else None
                ),
            )
        if tls is None:
            reactor.connectTCP("127.0.0.1", factory.port, factory)
        else:
            reactor.connectSSL("127.0.0.1", factory.port, factory, tls)
        self.factory = factory

    def _make(self) -> _Protocol:
        self.protocol = _Protocol()
        return self.protocol

    def happened(self, kind: str, what: Any) -> None:
        self._queue(kind).put(what)

    def _queue(self, kind: str) -> DeferredQueue[Any]:
        return self._queues.setdefault(kind, DeferredQueue())

    def next(self, kind: str, patience_s: float = PATIENCE_S) -> Deferred[Any]:
        return self._queue(kind).get().addTimeout(patience_s, self.reactor)

    def pending(self, kind: str) -> list[Any]:
        """What of this kind has happened and was not asked for."""
        return list(self._queue(kind).pending)

    def send(self, document: Any) -> None:
        self.protocol.sendMessage(json.dumps(document).encode(), isBinary=True)

    def send_bytes(self, payload: bytes, is_text: bool = False) -> None:
        self.protocol.sendMessage(payload, isBinary=not is_text)

    def ping(self, payload: bytes = b"") -> None:
        self.protocol.sendPing(payload)

    async def request(self) -> dict[str, Any]:
        """The next operation request."""
        payload, _ = await self.next("message")
        request: dict[str, Any] = json.loads(payload)["operation"]["request"]
        return request

    def answer(self, request: dict[str, Any], **more: Any) -> None:
        self.send(answer_to(request, **more))

    def datapoint(self, value: Any, datastream: str = "t", at: int | None = 1, **more: Any) -> None:
        self.send(telemetry(value, datastream, at, **more))

    @property
    def was_reset(self) -> bool:
        return self.lost_by is not None and issubclass(self.lost_by, ConnectionLost)


def telemetry(value: Any, datastream: str = "t", at: int | None = 1, **more: Any) -> dict[str, Any]:
    datapoint = {"value": value} if at is None else {"at": at, "value": value}
    stream = {"id": datastream, "datapoints": [datapoint]}
    return {"version": "9.0", "datastreams": [stream], **more}


def answer_to(request: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = {
        "id": request["id"],
        "deviceId": request.get("deviceId"),
        "name": request["name"],
        "resultCode": "SUCCESSFUL",
        **more,
    }
    members = {key: value for key, value in response.items() if value is not None}
    return {"version": "9.0", "operation": {"response": members}}
