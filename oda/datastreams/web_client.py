"""A client for web servers that verifies certificates like the connection to the platform."""

from __future__ import annotations

from typing import Any

from twisted.web.client import Agent
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from oda.verification import verified_client


def verified_agent(reactor: Any, trust_root: Any = None) -> Agent:
    """An agent that trusts the certificates of ``trust_root``; None means the system's."""
    return Agent(reactor, _Verified(trust_root))


@implementer(IPolicyForHTTPS)
class _Verified:
    def __init__(self, trust_root: Any) -> None:
        self._trust_root = trust_root

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """See ``IPolicyForHTTPS``."""
        return verified_client(hostname.decode("ascii"), self._trust_root, {})
