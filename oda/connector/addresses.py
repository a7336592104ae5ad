"""In which order the addresses of a name are tried.

The one that worked last is the first. Otherwise the resolver's order holds (it follows RFC 6724),
but with the address families in turns, so that one family that leads nowhere costs one head start
(RFC 8305, section 4). Last come those that took a TCP connection of which nothing lasting came:
behind them may be a host that accepts, and serves nobody.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

#: How many addresses are remembered as disappointing.
_MAX_REMEMBERED = 16


class KnownAddresses:
    """What earlier connections showed about the addresses of one host."""

    def __init__(self) -> None:
        self._worked: str | None = None
        self._disappointed: list[str] = []  # the oldest first

    def order(self, found: Sequence[str]) -> list[str]:
        """The addresses that the resolver has ``found``, the first to try at the front."""
        ordered = interleave(found)
        last = [address for address in self._disappointed if address in ordered]
        ordered = [address for address in ordered if address not in last] + last
        if self._worked in ordered:
            ordered.remove(self._worked)
            ordered.insert(0, self._worked)
        return ordered

    def opened(self, address: str) -> None:
        """The WebSocket is open there."""
        self._worked = address
        self._forget(address)

    def disappointed(self, address: str) -> None:
        """It took the TCP connection, but no WebSocket came of it, or none that lasted."""
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
