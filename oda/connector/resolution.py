"""Name look-ups that delay neither the end of the process nor each other.

``getaddrinfo`` can't be cancelled, and takes up to a minute while no name server answers. Twisted
calls it in the reactor's thread pool, which other code shares and which the end of the process
waits for. So here each look-up has a daemon thread of its own, and the process ends without it.

A new question for a name whose earlier look-ups are stuck starts another look-up, up to
``MAX_THREADS`` for each name: the network may have changed in between. The first look-up that finds
addresses answers everybody who waits for that name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet._resolver import GAIResolver
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

#: How many look-ups of one name may run at once.
MAX_THREADS = 4

_Question = tuple[str, int, socket.AddressFamily, socket.SocketKind]
#: What ``getaddrinfo`` returns.
_Found = Sequence[tuple[Any, ...]]


@implementer(IResolutionReceiver)
class AddressCollector:
    """Calls ``done`` once, with every address in the order found; [] when there are none."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """Nothing to do: a late answer is ignored."""

    def addressResolved(self, address: Any) -> None:
        if address.host not in self._found:
            self._found.append(address.host)

    def resolutionComplete(self) -> None:
        self._done(self._found)


@implementer(IHostResolution)
class Resolution:
    """One question. After ``cancel`` its receiver hears nothing more."""

    def __init__(self, name: str, receiver: Any) -> None:
        self.name = name
        self._receiver = receiver

    def cancel(self) -> None:
        """The look-up itself continues; its result is dropped."""
        self._receiver = None

    def complete(self, addresses: Sequence[IAddress]) -> None:
        """Tell the receiver what was found. Only the first call counts."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            for address in addresses:
                receiver.addressResolved(address)
            receiver.resolutionComplete()


class _Lookups:
    """The running look-ups of one name, and the questions that wait for them."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: list[Resolution] = []


def start_daemon(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread that does not delay the end of the process."""
    Thread(target=work, name="oda name look-up", daemon=True).start()


@implementer(IHostnameResolver)
class DaemonResolver:
    """``start`` runs a function in a thread; ``getaddrinfo`` is called there. The answers come
    through ``reactor.callFromThread``."""

    def __init__(
        self,
        reactor: Any,
        start: Callable[[Callable[[], None]], None] = start_daemon,
        getaddrinfo: Callable[..., _Found] = socket.getaddrinfo,
    ) -> None:
        self._reactor = reactor
        self._start = start
        self._getaddrinfo = getaddrinfo
        self._lookups: dict[_Question, _Lookups] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        """See ``IHostnameResolver.resolveHostName``. An IP address is answered at once."""
        resolution = Resolution(hostName, resolutionReceiver)
        resolutionReceiver.resolutionBegan(resolution)
        kind = socket.SOCK_STREAM if transportSemantics == "TCP" else socket.SOCK_DGRAM
        family = _family(addressTypes)
        literal = _literal(hostName, portNumber, family, transportSemantics)
        if literal is not None:
            resolution.complete(literal)
        else:
            self._look_up(resolution, (hostName, portNumber, family, kind))
        return resolution

    def _look_up(self, resolution: Resolution, question: _Question) -> None:
        lookups = self._lookups.setdefault(question, _Lookups())
        lookups.waiting.append(resolution)
        if lookups.running < MAX_THREADS:
            lookups.running += 1
            try:
                self._start(lambda: self._run(resolution, question))
            except RuntimeError:  # no thread can be started
                self._finished(resolution, question, ())

    def _run(self, resolution: Resolution, question: _Question) -> None:
        """In a thread."""
        try:
            found = self._getaddrinfo(*question)
        except Exception:  # noqa: BLE001 - a name that can't be looked up has no address
            found = ()
        try:
            self._reactor.callFromThread(self._finished, resolution, question, found)
        except Exception:  # noqa: BLE001 - the process is ending: the answer is not needed
            return

    def _finished(self, resolution: Resolution, question: _Question, found: _Found) -> None:
        lookups = self._lookups[question]
        lookups.running -= 1
        answered = lookups.waiting if found or not lookups.running else [resolution]
        lookups.waiting = [one for one in lookups.waiting if one not in answered]
        if not lookups.running and not lookups.waiting:
            del self._lookups[question]
        addresses = _addresses(found)
        for one in answered:
            one.complete(addresses)


def install_resolver(reactor: Any) -> None:
    """From now on, look names up in daemon threads instead of ``reactor``'s thread pool. A resolver
    that somebody else has installed stays."""
    if IReactorPluggableNameResolver.providedBy(reactor) and isinstance(
        reactor.nameResolver, GAIResolver
    ):
        reactor.installNameResolver(DaemonResolver(reactor))


def _family(types: Sequence[type[IAddress]] | None) -> socket.AddressFamily:
    if types is None or {IPv4Address, IPv6Address} <= set(types):
        return socket.AF_UNSPEC
    return socket.AF_INET if IPv4Address in types else socket.AF_INET6


def _literal(
    host: str, port: int, family: socket.AddressFamily, transport: Any
) -> list[IAddress] | None:
    """The answer for an IP address; None for a name."""
    if isIPAddress(host):
        return [] if family is socket.AF_INET6 else [IPv4Address(transport, host, port)]
    if isIPv6Address(host):
        return [] if family is socket.AF_INET else [IPv6Address(transport, host, port)]
    return None


def _addresses(found: _Found) -> list[IAddress]:
    addresses: list[IAddress] = []
    for family, kind, _, _, place in found:
        transport: Any = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        if family == socket.AF_INET:
            addresses.append(IPv4Address(transport, place[0], place[1]))
        elif family == socket.AF_INET6:
            addresses.append(IPv6Address(transport, *place))
    return addresses
