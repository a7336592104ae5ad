"""One connection of a device and its counterpart to the platform: records each frame, then passes
it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oda.platform.access import Denied, Request, read_request, shown_keys
from oda.platform.logger import PlatformLogger
from oda.platform.protocol import refusal
from oda.platform.tape.client import FrameClient, FrameListener
from oda.platform.tape.recorder import SessionRecorder
from oda.platform.tape.session_file import Side, What

log = PlatformLogger()

#: Headers that belong to one hop, or to Autobahn.
_OWN_HEADERS = ("host", "connection", "upgrade", "origin", "content-length")

#: Connects to the platform, given the request's URI, headers, subprotocols and the listener.
Connect = Callable[[str, Mapping[str, str], Sequence[str], FrameListener], Deferred[FrameClient]]


class Relay:
    """A ``FrameListener`` for the platform's side; the device's calls the methods ``device_...``.

    ``device`` is an Autobahn protocol during its upgrade. ``over`` is called when both sides are
    gone, ``failed`` when the record can't be written.
    """

    def __init__(
        self,
        device: Any,
        recorder: SessionRecorder,
        connect: Connect,
        over: Callable[[Relay], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._device = device
        self._recorder = recorder
        self._connect = connect
        self._over = over
        self._failed = failed
        self._device_is_there = True
        self._upstream: FrameClient | None = None
        self._is_pending = True
        self._is_closing = False
        self._number = 0
        self._name = ""
        self._accepted: Deferred[str | None] = Deferred()

    def begin(self) -> Deferred[str | None]:
        """Ask the platform; fires with the subprotocol when it has accepted the device, and never
        when it has refused it."""
        device = self._device
        try:
            request = _read_request(device)
        except Denied as denied:
            self._refuse(denied.status, denied.reason)
            self._is_pending = False
            self._finish()
            return self._accepted
        self._name = request.device
        header_key = device.http_headers.get("x-apikey")
        for key in shown_keys(str(device.http_request_uri), header_key):
            self._recorder.hide(key)
        headers = {
            name: value
            for name, value in device.http_headers.items()
            if name not in _OWN_HEADERS and not name.startswith("sec-websocket-")
        }
        connecting = self._connect(
            str(device.http_request_uri), headers, device.websocket_protocols, self
        )
        connecting.addCallbacks(self._connected, self._unreachable)
        return self._accepted

    def abort(self) -> None:
        """Drop both sides."""
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.abortConnection()
        if self._device_is_there and self._device.transport is not None:
            self._device.transport.abortConnection()

    def _connected(self, upstream: FrameClient) -> None:
        self._upstream = upstream
        if not self._device_is_there:
            self.abort()

    def _unreachable(self, failure: Failure) -> None:
        reason = failure.getErrorMessage()
        log.warn(
            "{device}: the platform can't be reached: {reason}", device=self._name, reason=reason
        )
        self.refused(None, {}, reason)

    # events of the platform

    def opened(self, subprotocol: str | None) -> None:
        """See ``FrameListener``."""
        self._number = self._recorder.opened(self._name)
        log.info("{device} connected (connection {number})", device=self._name, number=self._number)
        self._is_pending = False
        self._accepted.callback(subprotocol)
        upstream = self._upstream
        if upstream is not None and self._device_is_there:
            upstream.transport.registerProducer(self._device.transport, True)
            self._device.transport.registerProducer(upstream.transport, True)

    def refused(self, status: int | None, headers: Mapping[str, str], reason: str) -> None:
        """See ``FrameListener``."""
        self._upstream = None
        self._is_pending = False
        log.info("{device} was refused: {status}", device=self._name, status=status or reason)
        try:
            self._recorder.refused(self._name, status)
        finally:
            retry = [("Retry-After", headers["retry-after"])] if "retry-after" in headers else []
            self._refuse(status or 502, "refused by the platform", retry)
            self._finish()

    def message_received(self, payload: bytes, is_text: bool) -> None:
        """See ``FrameListener``."""
        self._recorder.message(self._number, Side.PLATFORM, payload, is_text)
        if self._device.state == self._device.STATE_OPEN:
            self._device.sendMessage(payload, isBinary=not is_text)

    def ping_received(self, payload: bytes) -> None:
        """See ``FrameListener``."""
        self._recorder.control(self._number, What.PING, Side.PLATFORM, payload)
        self._device.sendPing(payload)

    def pong_received(self, payload: bytes) -> None:
        """See ``FrameListener``."""
        self._recorder.control(self._number, What.PONG, Side.PLATFORM, payload)
        self._device.sendPong(payload)

    def close_received(self, code: int | None, reason: bytes) -> None:
        """See ``FrameListener``."""
        self._close(Side.PLATFORM, code, reason, self._device)

    def lost(self) -> None:
        """See ``FrameListener``."""
        self._end_flow()
        self._upstream = None
        self._vanished(Side.PLATFORM)

    # events of the device

    def device_sent(self, payload: bytes, is_text: bool) -> None:
        """A message of the device."""
        self._recorder.message(self._number, Side.DEVICE, payload, is_text)
        if self._upstream is not None and self._upstream.state == self._upstream.STATE_OPEN:
            self._upstream.sendMessage(payload, isBinary=not is_text)

    def device_pinged(self, payload: bytes) -> None:
        """A ping of the device: the platform has to answer it."""
        self._recorder.control(self._number, What.PING, Side.DEVICE, payload)
        if self._upstream is not None:
            self._upstream.sendPing(payload)

    def device_ponged(self, payload: bytes) -> None:
        """A pong of the device."""
        self._recorder.control(self._number, What.PONG, Side.DEVICE, payload)
        if self._upstream is not None:
            self._upstream.sendPong(payload)

    def device_closed(self, code: int | None, reason: bytes) -> None:
        """A close frame of the device."""
        self._close(Side.DEVICE, code, reason, self._upstream)

    def device_lost(self) -> None:
        """The device's TCP connection is gone."""
        self._end_flow()
        self._device_is_there = False
        if self._is_pending:
            self.abort()
        else:
            self._vanished(Side.DEVICE)

    # both

    def _close(self, side: Side, code: int | None, reason: bytes, other: Any) -> None:
        self._end_flow()
        if not self._is_closing:
            self._is_closing = True
            # a close frame may have no code
            self._recorder.closed(self._number, side, 1005 if code is None else code, reason)
        if other is not None and other.state == other.STATE_OPEN:
            other.sendCloseFrame(code=code, reasonUtf8=reason or None, isReply=False)

    def _vanished(self, side: Side) -> None:
        """One side is gone; without a closing handshake, end the other one too."""
        try:
            if self._number and not self._is_closing:
                self._is_closing = True
                self._recorder.closed(self._number, side, None, b"")
                self.abort()
        finally:
            self._finish()

    def _refuse(
        self, status: int, reason: str, headers: list[tuple[str, str]] | None = None
    ) -> None:
        if self._device_is_there and self._device.transport is not None:
            self._device.transport.write(refusal(status, reason, headers or ()))
            self._device.dropConnection(abort=False)

    def _end_flow(self) -> None:
        """Stop slowing either side down: TLS would wait for this before it closes."""
        for side in (self._device, self._upstream):
            if side is not None and side.transport is not None:
                side.transport.unregisterProducer()
                resume = getattr(side.transport, "resumeProducing", None)
                if resume is not None and side.transport.connected:
                    resume()

    def _finish(self) -> None:
        if self._upstream is None and not self._device_is_there:
            self._over(self)

    def guard(self, call: Callable[[], None]) -> None:
        """The error boundary of both sides."""
        try:
            call()
        except OSError as error:
            self._failed(error)
        except Exception:  # noqa: BLE001 - the boundary: Autobahn would leave the socket open
            log.failure("the connection of {device} failed", device=self._name)
            self.abort()


def _read_request(device: Any) -> Request:
    """The device and key of an upgrade request, whatever its path; raises ``Denied``."""
    uri = str(device.http_request_uri)
    base = uri.partition("?")[0].rstrip("/").rpartition("/")[0]
    return read_request(uri, device.http_headers.get("x-apikey"), base)
