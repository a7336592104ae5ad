"""The way to a connection: who the device is, the order of the addresses, and one attempt.

``Identification`` asks for id and key until it has them. Then each ``ConnectionAttempt`` looks the
name up and goes through TCP, TLS and the upgrade under one time limit.

An attempt races the host's addresses (RFC 8305). Each address has a head start of ``HEAD_START_S``
over the next one; an address that fails makes room at once. The first TCP connection ends the race,
and the attempt stops the others. So a dead address costs a quarter of a second, not the time limit.

``KnownAddresses`` puts the addresses in order. The address that worked last comes first. The others
keep the resolver's order (RFC 6724), except that the address families take turns, so that a family
without a route costs one head start (RFC 8305, section 4). Last come addresses that accepted a TCP
connection which then led to no lasting WebSocket: a host may accept connections but not serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IDelayedCall, IReactorPluggableNameResolver, IReactorTime
from twisted.python.failure import Failure

from oda.connector.outcome import Outcome, describe_connect_failure
from oda.connector.protocol import PlatformProtocol
from oda.connector.resolution import AddressCollector
from oda.errors import ConnectorError, DatastreamError
from oda.interfaces import IDeviceInfoProvider
from oda.log import Logger
from oda.settings import Secret
from oda.troubles import TroubleKind, Troubles

_log = Logger()


# -- addresses -----------------------------------------------------------------------------------


#: How many disappointing addresses are remembered.
_MAX_REMEMBERED = 16


class KnownAddresses:
    """What earlier connections showed about the addresses of one host."""

    def __init__(self) -> None:
        self._worked: str | None = None
        self._disappointed: list[str] = []  # the oldest first

    def order(self, found: Sequence[str]) -> list[str]:
        """The addresses in ``found``, in the order in which to try them."""
        ordered = interleave(found)
        last = [address for address in self._disappointed if address in ordered]
        ordered = [address for address in ordered if address not in last] + last
        if self._worked in ordered:
            ordered.remove(self._worked)
            ordered.insert(0, self._worked)
        return ordered

    def opened(self, address: str) -> None:
        """A WebSocket to ``address`` is open."""
        self._worked = address
        self._forget(address)

    def disappointed(self, address: str) -> None:
        """The address accepted TCP, but no WebSocket opened, or none that lasted."""
        if self._worked == address:
            self._worked = None
        self._forget(address)
        self._disappointed = [*self._disappointed, address][-_MAX_REMEMBERED:]

    def _forget(self, address: str) -> None:
        if address in self._disappointed:
            self._disappointed.remove(address)


def interleave(addresses: Sequence[str]) -> list[str]:
    """The addresses with IPv6 and IPv4 in turns, beginning with the family of the first; within a
    family the order stays."""
    if not addresses:
        return []
    first_is_six = ":" in addresses[0]
    one = [address for address in addresses if (":" in address) is first_is_six]
    other = [address for address in addresses if (":" in address) is not first_is_six]
    return [address for address in chain(*zip_longest(one, other)) if address is not None]


# -- the attempt ---------------------------------------------------------------------------------


#: Head start of each address over the next one (RFC 8305, section 5), in seconds.
HEAD_START_S = 0.25
#: Maximum number of addresses whose failures an attempt names one by one when it ends.
_MAX_NAMED = 4


class ConnectionAttempt:
    """From ``start()`` to exactly one of ``opened()`` (called by the owner) and ``failed``.

    ``order(addresses)`` says in which order to try them. ``open_socket(address, timeout_s)`` starts
    the TCP connection and returns Twisted's connector. ``failed(outcome)`` is called when no
    address worked or the limit passed.

    ``address`` is the one that the TCP connection was made to, None before that.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout_s: float,
        order: Callable[[list[str]], list[str]],
        open_socket: Callable[[str, float], Any],
        failed: Callable[[Outcome], None],
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._order = order
        self._open_socket = open_socket
        self._failed = failed
        self._untried: list[str] = []
        self._racing: dict[Any, str] = {}  # connectors and their addresses
        self._failures: list[tuple[str, str]] = []  # addresses, and why not
        self._next: IDelayedCall | None = None  # the delayed call that tries the next address
        self._limit: IDelayedCall | None = None
        self._over = False
        self.protocol: PlatformProtocol | None = None
        self.address: str | None = None
        self.stage = "looking up the name"

    def start(self) -> None:
        """Begin; the time limit starts now."""
        self._limit = self._reactor.callLater(self._timeout_s, self._expire)
        self._guard(self._resolve)

    def _resolve(self) -> None:
        if IReactorPluggableNameResolver.providedBy(self._reactor):
            self._reactor.nameResolver.resolveHostName(
                AddressCollector(self._resolved), self._host, self._port
            )
        else:
            self._resolved([self._host])

    def connect_failed(self, connector: Any, reason: Failure) -> None:
        """The TCP connection to one of the addresses failed."""
        address = self._racing.pop(connector, None)
        if self._over or address is None:
            return  # the attempt stopped it
        self._failures.append((address, describe_connect_failure(reason)))
        if self._untried:
            self._try_next()
        elif not self._racing:
            self._end(self._describe_failures())

    def connected(self, protocol: PlatformProtocol) -> None:
        """TCP is up with one address, and the others are stopped. TLS and the upgrade follow."""
        self.protocol = protocol
        self.stage = "waiting for the answer to the upgrade"
        self._cancel_next()
        racing, self._racing = self._racing, {}
        for connector, address in racing.items():
            try:
                connector.stopConnecting()
            except NotConnectingError:
                self.address = address

    def opened(self) -> None:
        """The WebSocket is open: the attempt has succeeded, and its time limit ends."""
        self._finish()

    def cancel(self) -> None:
        """Stop without calling ``failed``. The owner ends a protocol that was already built."""
        self._finish()
        self._stop_racing()

    def lost(self) -> None:
        """The socket closed before the upgrade. The owner knows why; the time limit ends."""
        self._finish()

    # -- the race ----------------------------------------------------------------------------

    def _resolved(self, addresses: list[str]) -> None:
        if self._over:
            return
        if not addresses:
            self._end(f"can't find the address of {self._host}")
            return
        self.stage = "opening the TCP connection"
        self._untried = self._order(addresses)
        self._try_next()

    def _try_next(self) -> None:
        self._cancel_next()
        self._guard(self._open_next)

    def _open_next(self) -> None:
        address = self._untried.pop(0)
        # The attempt's own limit covers this; Twisted's limit must not be shorter.
        self._racing[self._open_socket(address, self._timeout_s + 1.0)] = address
        if self._untried:
            self._next = self._reactor.callLater(HEAD_START_S, self._try_next)

    def _describe_failures(self) -> str:
        reasons = {reason for _, reason in self._failures}
        if len(reasons) == 1:
            return reasons.pop()
        named = [f"{address}: {reason}" for address, reason in self._failures[:_MAX_NAMED]]
        if len(self._failures) > _MAX_NAMED:
            named.append(f"and {len(self._failures) - _MAX_NAMED} more")
        return "; ".join(named)

    # -- the end -----------------------------------------------------------------------------

    def _guard(self, step: Callable[[], None]) -> None:
        """Whatever a reactor or resolver raises ends this attempt; the agent still retries."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - nothing else would start the next attempt
            _log.failure("a defect while connecting")
            if not self._over:
                self._end(f"a defect while {self.stage} ({type(error).__name__})")

    def _expire(self) -> None:
        self._limit = None
        reason = f"not open within {self._timeout_s:g} s (while {self.stage})"
        if self.protocol is not None:
            self.protocol.abort(reason)  # the protocol reports the end to the owner
            return
        self._end(reason)

    def _end(self, reason: str) -> None:
        self._finish()
        self._stop_racing()
        self._failed(Outcome(reason=reason))

    def _stop_racing(self) -> None:
        racing, self._racing = self._racing, {}
        for connector in racing:
            try:
                connector.stopConnecting()
            except NotConnectingError:
                connector.disconnect()

    def _finish(self) -> None:
        self._over = True
        self._cancel_next()
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None

    def _cancel_next(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None


# -- who the device is -----------------------------------------------------------------------------


#: Pause before the agent asks again for a device id that it can't read, in seconds.
IDENTIFY_AGAIN_S = 30.0


class Identification:
    """From ``start()`` to one successful call of ``identified(device_id, api_key)``, or
    ``cancel()``.

    If the id can't be read, or ``identified`` raises ``ConnectorError`` because it can't use what
    was found, ``Identification`` logs why and starts again after ``IDENTIFY_AGAIN_S``.
    """

    def __init__(
        self,
        device_info: IDeviceInfoProvider,
        reactor: IReactorTime,
        identified: Callable[[str, Secret], None],
        troubles: Troubles | None = None,
    ) -> None:
        self._device_info = device_info
        self._reactor = reactor
        self._identified = identified
        self._troubles = troubles or Troubles(reactor.seconds)
        self._again: IDelayedCall | None = None
        self._round = 0

    def start(self) -> None:
        """Ask now. An answer to an earlier question is ignored."""
        self.cancel()
        asked_in = self._round  # the provider may cancel at once
        question = maybeDeferred(self._device_info.device_id)
        question.addCallback(self._answered, asked_in)
        question.addErrback(self._failed, asked_in)

    def hurry(self) -> bool:
        """End the pause before the next question, if there is one. Returns whether there was."""
        if self._again is None:
            return False
        self._again.reset(0)
        return True

    def cancel(self) -> None:
        """Stop asking, and ignore an answer that arrives later."""
        self._round += 1
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _answered(self, device_id: str, asked_in: int) -> None:
        if asked_in != self._round:
            return
        api_key = Secret(self._device_info.api_key())
        if asked_in == self._round:
            self._identified(device_id, api_key)
            self._troubles.end(TroubleKind.IDENTITY)

    def _failed(self, failure: Failure, asked_in: int) -> None:
        if asked_in != self._round:
            return
        self._troubles.report(TroubleKind.IDENTITY, failure.getErrorMessage())
        if failure.check(DatastreamError, ConnectorError):
            _log.error(
                "can't connect: {reason}; trying again in {delay:g} s",
                reason=failure.getErrorMessage(),
                delay=IDENTIFY_AGAIN_S,
            )
        else:
            _log.failure("can't connect: a defect in the device info", failure)
        self._again = self._reactor.callLater(IDENTIFY_AGAIN_S, self._start_again)

    def _start_again(self) -> None:
        self._again = None
        self.start()
