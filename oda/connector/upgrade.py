"""How a TCP connection becomes a WebSocket: CONNECT where there is a proxy, then the upgrade.

Autobahn's protocol goes through these steps; ``handshake`` makes the requests and reads the heads
of the answers. The answers, and the reason of a refusal, stay here for ``outcome.describe_end``.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

from autobahn.twisted.websocket import WebSocketClientProtocol

from oda.connector.framing import Deflate, with_readable_window
from oda.connector.handshake import (
    Head,
    as_ascii,
    connect_request,
    read_head,
    upgrade_request,
    with_value,
)
from oda.peer_bounds import BoundedReception


class UpgradingProtocol(BoundedReception, WebSocketClientProtocol):  # type: ignore[misc]
    """A connection from TCP to the open WebSocket."""

    # Beside the dict that Autobahn's part fills: with all in it the dict would be twice as large.
    __slots__ = ("answer", "compresses", "own_reason", "proxy_answer", "refusal")

    transport: Any
    data: bytes  # what has arrived and is not processed yet; Autobahn's name
    _perMessageCompress: Any  # the negotiated compression; Autobahn's name

    def __init__(self) -> None:
        super().__init__()
        #: The answers of the platform and of the proxy.
        self.answer: Head | None = None
        self.proxy_answer: Head | None = None
        #: Why the agent or the other side refused the upgrade (or CONNECT).
        self.refusal: str | None = None
        #: Whether messages to the platform may be compressed, if compression was negotiated.
        self.compresses = True
        #: Why the agent ends this connection, if it does.
        self.own_reason: str | None = None

    def abort(self, reason: str) -> None:
        """Drop the connection at once; ``closed`` follows with ``reason``, unless the closing
        handshake had begun for another reason."""
        self.own_reason = self.own_reason or reason
        if self.transport is not None:
            self.transport.abortConnection()

    def handshake_is_endless(self) -> None:
        self.abort("the answer to the upgrade is endless")

    # -- what Autobahn calls -----------------------------------------------------------------

    def startProxyConnect(self) -> None:
        settings = self.factory.made_with
        self.sendData(
            connect_request(
                self.factory.host,
                self.factory.port,
                settings.proxy_user,
                settings.proxy_password,
            )
        )

    def processProxyConnect(self) -> None:
        head = self._take_interim_answers()
        if head is None:
            return
        self.proxy_answer = head
        if head.status is None:
            self.failProxyConnect(f"the proxy's answer is not HTTP: '{head.first_line}'")
        elif not 200 <= head.status < 300:
            self.failProxyConnect(head.phrase)
        elif len(self.data) > head.size:
            # Whatever follows the proxy's answer arrived before TLS and can't be trusted.
            self.abort("the proxy sent more than its answer to CONNECT")
        else:
            self.data = as_ascii(self.data)
            super().processProxyConnect()

    def startHandshake(self) -> None:
        factory = self.factory
        self.websocket_key = b64encode(os.urandom(16))  # Autobahn's name, to check the answer
        self.sendData(
            upgrade_request(
                factory.resource,
                factory.host,
                factory.port,
                secure=factory.isSecure,
                headers=factory.headers,
                key=self.websocket_key,
                origin=factory.origin,
                extensions=[
                    offer.get_extension_string() for offer in self.perMessageCompressionOffers
                ],
                user_agent=factory.useragent,
            )
        )

    def processHandshake(self) -> None:
        head = self._take_interim_answers()
        if head is None:
            return
        self.answer = head
        if head.status is None:
            self.failHandshake(f"what answered is not HTTP: '{head.first_line}'")
            return
        if head.status != 101:
            self.failHandshake(head.phrase)
            return
        raw, rest = self.data[: head.size], self.data[head.size :]
        if "sec-websocket-extensions" in head.headers:
            extensions, self.compresses = with_readable_window(
                head.headers["sec-websocket-extensions"]
            )
            raw = with_value(raw, "sec-websocket-extensions", extensions)
        self.data = as_ascii(raw) + rest
        super().processHandshake()

    def _take_interim_answers(self) -> Head | None:
        """The head of the answer; None while it is incomplete. Skips interim answers (RFC 9110,
        section 15.2)."""
        while (head := read_head(self.data)) is not None and head.is_interim:
            self.data = self.data[head.size :]
        return head

    def onConnect(self, response: Any) -> None:
        if self._perMessageCompress is not None:
            agreed = self._perMessageCompress
            self._perMessageCompress = Deflate(
                starts_anew_up=agreed.client_no_context_takeover,
                starts_anew_down=agreed.server_no_context_takeover,
                bits_up=agreed.client_max_window_bits,
            )

    def failProxyConnect(self, reason: str) -> None:
        self.refusal = reason
        super().failProxyConnect(reason)

    def failHandshake(self, reason: str) -> None:
        self.refusal = reason
        super().failHandshake(reason)
