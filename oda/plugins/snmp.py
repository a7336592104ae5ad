"""Datastreams from SNMP agents (GET, versions 1, 2c and 3): see docs/field.md.

The library ``pysnmp`` is imported only where the plugin is used. It needs an asyncio loop: each
reading has its own, in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer

from oda.errors import ReadingFailed
from oda.field import Line, library_of, place_of, read_lines
from oda.interfaces import IDatastreamGetter, IPlugin
from oda.model import Reading
from oda.threads import in_own_thread

#: The names of the library for the protocols of version 3.
_AUTH = {
    "MD5": "USM_AUTH_HMAC96_MD5",
    "SHA": "USM_AUTH_HMAC96_SHA",
    "SHA256": "USM_AUTH_HMAC192_SHA256",
    "SHA512": "USM_AUTH_HMAC384_SHA512",
}
_PRIV = {
    "DES": "USM_PRIV_CBC56_DES",
    "AES": "USM_PRIV_CFB128_AES",
    "AES256": "USM_PRIV_CFB256_AES",
}


@implementer(ITwistedPlugin, IPlugin)
class SnmpPlugin:
    """What the line ``plugins=snmp`` loads."""

    name = "snmp"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        """See ``IPlugin.create``. Raises ``ValueError`` for a wrong option."""
        lines = read_lines(options, ("agent", "datastream"))
        agents = {name: _agent(name, line) for name, line in lines["agent"].items()}
        return [_value(name, line, agents, reactor) for name, line in lines["datastream"].items()]


snmp = SnmpPlugin()


class SnmpAgent(NamedTuple):
    """Where an SNMP agent is; ``authorization()`` makes what the library wants to know of us."""

    name: str
    host: str
    port: int
    timeout_s: float
    context: str
    authorization: Callable[[], Any]


def _agent(name: str, line: Line) -> SnmpAgent:
    with library_of("snmp"):
        import pysnmp.hlapi.v3arch.asyncio as library
    version = line.choice("version", ("1", "2", "2c", "3"), "2")
    authorization: Callable[[], Any]
    context = ""
    if version == "3":
        context = line.text("contextName", "")
        user = line.text("securityName")
        settings = {}
        key = line.secret("authPassphrase", None)
        if key is not None:
            settings["authKey"] = key
            settings["authProtocol"] = getattr(library, _AUTH[line.choice("authProtocol", _AUTH)])
        key = line.secret("privPassphrase", None)
        if key is not None:
            if not settings:
                raise ValueError(f"the option {line.option!r} needs the member 'authPassphrase'")
            settings["privKey"] = key
            settings["privProtocol"] = getattr(library, _PRIV[line.choice("privProtocol", _PRIV)])

        def authorization() -> Any:
            return library.UsmUserData(user, **settings)
    else:
        community = line.secret("community", "public")

        def authorization() -> Any:
            return library.CommunityData(community, mpModel=0 if version == "1" else 1)

    agent = SnmpAgent(
        name,
        line.text("ip"),
        line.number("port", 1, 65535, 161),
        line.number("timeout", 0.1, 60, 3.0, is_whole=False),
        context,
        authorization,
    )
    line.end()
    return agent


def _value(name: str, line: Line, agents: Mapping[str, SnmpAgent], reactor: Any) -> SnmpValue:
    agent = line.text("agent")
    if agent not in agents:
        raise ValueError(
            f"the option {line.option!r} names the agent {agent!r}, and there is no"
            f" option 'agent.{agent}'"
        )
    oid = line.text("oid")
    if not all(part.isdecimal() for part in oid.strip(".").split(".")):
        raise ValueError(f"the option {line.option!r}: the oid must be numbers with dots between")
    value = SnmpValue(
        *place_of(name), agents[agent], oid.strip("."), line.text("feed", None), reactor
    )
    line.end()
    return value


@implementer(IDatastreamGetter)
class SnmpValue:
    """The value of one OID."""

    def __init__(
        self,
        datastream_id: str,
        device_id: str,
        agent: SnmpAgent,
        oid: str,
        feed: str | None,
        reactor: Any,
    ) -> None:
        self.datastream_id = datastream_id
        self._device_id = device_id
        self._agent = agent
        self._oid = oid
        self._feed = feed
        self._reactor = reactor

    def devices(self) -> tuple[str, ...]:
        """The device of the line."""
        return (self._device_id,)

    def get(self, device_id: str) -> Deferred[Reading]:
        """See ``IDatastreamGetter.get``."""
        return in_own_thread(self._reactor, lambda: asyncio.run(self._ask())).addCallback(
            lambda value: Reading(value, feed=self._feed)
        )

    async def _ask(self) -> Any:
        import pysnmp.hlapi.v3arch.asyncio as library
        from pysnmp.error import PySnmpError

        agent = self._agent
        engine = library.SnmpEngine()
        try:
            target = await library.UdpTransportTarget.create(
                (agent.host, agent.port), timeout=agent.timeout_s, retries=1
            )
            failure, status, _, bindings = await library.get_cmd(
                engine,
                agent.authorization(),
                target,
                library.ContextData(contextName=agent.context.encode()),
                library.ObjectType(library.ObjectIdentity(self._oid)),
                lookupMib=False,
            )
        except (PySnmpError, OSError) as error:
            raise ReadingFailed(f"the SNMP agent {agent.name}: {error}") from error
        finally:
            engine.close_dispatcher()
        if failure:
            raise ReadingFailed(f"the SNMP agent {agent.name}: {failure}")
        if status:
            raise ReadingFailed(f"the SNMP agent {agent.name} refuses it: {status.prettyPrint()}")
        return _plain(bindings[0][1], self._oid)


def _plain(value: Any, oid: str) -> Any:
    """What the SNMP agent said as a number or text; bytes that are no text in hexadecimal."""
    from pyasn1.type import univ
    from pysnmp.proto import rfc1902, rfc1905

    if isinstance(value, rfc1905.NoSuchObject | rfc1905.NoSuchInstance | rfc1905.EndOfMibView):
        raise ReadingFailed(f"the SNMP agent knows nothing of {oid}")
    if isinstance(value, rfc1902.IpAddress | univ.ObjectIdentifier):
        return str(value.prettyPrint())
    if isinstance(value, univ.OctetString):
        content = bytes(value)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return content.hex()
        return text if text.isprintable() or "\n" in text else content.hex()
    return int(value)
