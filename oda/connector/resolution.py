"""Collects the addresses that Twisted's resolver finds for a name, IPv6 and IPv4 alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer


@implementer(IResolutionReceiver)
class AddressCollector:
    """Calls ``done`` once, with every address in the order found; [] when there are none."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """Nothing to do: resolvers can't be cancelled; an answer that comes late is ignored."""

    def addressResolved(self, address: Any) -> None:
        if address.host not in self._found:
            self._found.append(address.host)

    def resolutionComplete(self) -> None:
        self._done(self._found)
