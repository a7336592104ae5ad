"""SNMP GET in all versions, against a real command responder."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from oda.errors import ReadingFailed
from oda.interfaces import IDatastreamGetter, IPlugin
from oda.plugins.snmp import snmp
from tests.plugins.loop import AsyncioThread, Loop, free_port

pytest.importorskip("pysnmp")

BASE = (1, 3, 6, 1, 4, 1, 99999)


class Responder:
    """An SNMP agent with the community "secret" and the user "oda" (SHA, AES). Below
    1.3.6.1.4.1.99999 it has a value of every kind."""

    def __init__(self) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self._asyncio = AsyncioThread()
        self._engine = self._asyncio.run(self._begin())

    async def _begin(self) -> Any:
        from pysnmp.carrier.asyncio.dgram import udp
        from pysnmp.entity import config, engine
        from pysnmp.entity.rfc3413 import cmdrsp, context
        from pysnmp.proto.api import v2c

        one = engine.SnmpEngine()
        transport = udp.UdpAsyncioTransport().open_server_mode(("127.0.0.1", self.port))
        config.add_transport(one, udp.DOMAIN_NAME, transport)
        config.add_v1_system(one, "area", "secret")
        config.add_v3_user(
            one,
            "oda",
            config.USM_AUTH_HMAC96_SHA,
            "auth-passphrase",
            config.USM_PRIV_CFB128_AES,
            "priv-passphrase",
        )
        for model, user, level in (
            (1, "area", "noAuthNoPriv"),
            (2, "area", "noAuthNoPriv"),
            (3, "oda", "authPriv"),
        ):
            config.add_vacm_user(one, model, user, level, BASE, ())
        there = context.SnmpContext(one)
        builder = there.get_mib_instrum().get_mib_builder()
        scalar, instance = builder.import_symbols("SNMPv2-SMI", "MibScalar", "MibScalarInstance")
        values = (
            v2c.Integer32(-7),
            v2c.OctetString("a text"),
            v2c.OctetString(hexValue="00ff10"),
            v2c.Counter64(2**63),
            v2c.TimeTicks(4711),
            v2c.IpAddress("192.0.2.7"),
            v2c.ObjectIdentifier("1.3.6.1"),
            v2c.Gauge32(17),
        )
        exported = {}
        for number, value in enumerate(values, 1):
            exported[f"value{number}"] = scalar((*BASE, number), value)
            exported[f"instance{number}"] = instance((*BASE, number), (0,), value)
        builder.export_symbols("ODA-TEST", **exported)
        cmdrsp.GetCommandResponder(one, there)
        one.transport_dispatcher.job_started(1)
        return one

    def close(self) -> None:
        async def end() -> None:
            self._engine.close_dispatcher()

        self._asyncio.run(end())
        self._asyncio.stop()


@pytest.fixture(scope="module")
def responder() -> Iterator[Responder]:
    running = Responder()
    yield running
    running.close()


VERSIONS = {
    "1": "version:1, community:secret",
    "2": "version:2, community:secret",
    "3": "version:3, securityName:oda, authPassphrase:auth-passphrase, authProtocol:SHA,"
    " privPassphrase:priv-passphrase, privProtocol:AES",
}


def read(loop: Loop, responder: Responder, who: str, oid: str, more: str = "") -> Any:
    """The reading of one OID below 1.3.6.1.4.1.99999."""
    options = {
        "agent.a": f"ip:127.0.0.1, port:{responder.port}, timeout:1, {who}",
        "datastream.t;dev": f"agent:a, oid:1.3.6.1.4.1.99999.{oid}{more}",
    }
    (value,) = snmp.create(options, loop)
    verifyObject(IDatastreamGetter, value)
    assert (value.datastream_id, value.devices()) == ("t", ("dev",))
    return loop.result(value.get("dev"))


def test_it_keeps_the_contract() -> None:
    """The plugin."""
    verifyObject(IPlugin, snmp)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_reads(responder: Responder, version: str) -> None:
    """Community or user with authentication and encryption."""
    reading = read(Loop(), responder, VERSIONS[version], "1.0", ", feed:snmp")
    assert (reading.value, reading.feed) == (-7, "snmp")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (2, "a text"),
        (3, "00ff10"),
        (4, 2**63),
        (5, 4711),
        (6, "192.0.2.7"),
        (7, "1.3.6.1"),
        (8, 17),
    ],
)
def test_every_kind_of_value(responder: Responder, number: int, value: Any) -> None:
    """Numbers are numbers; bytes that are no text are hexadecimal."""
    assert read(Loop(), responder, VERSIONS["2"], f"{number}.0").value == value


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_there_is_a_reason(responder: Responder, version: str) -> None:
    """An OID that the agent does not have fails the reading, whatever the version calls that."""
    with pytest.raises(ReadingFailed, match=r"has no value for|refuses it: noSuchName"):
        read(Loop(), responder, VERSIONS[version], "77.0")


@pytest.mark.parametrize(
    "who",
    [
        "version:2, community:wrong",
        VERSIONS["3"].replace("auth-", "other-"),
        VERSIONS["3"].replace("priv-", "other-"),
        VERSIONS["3"].replace("oda", "nobody"),
    ],
)
def test_a_wrong_secret_is_a_reason(responder: Responder, who: str) -> None:
    """The reading fails with what the agent said, or because it said nothing."""
    with pytest.raises(ReadingFailed, match="the SNMP agent a: "):
        read(Loop(), responder, who, "1.0")


def test_a_host_without_an_address_is_a_reason() -> None:
    """A name that nobody knows fails the reading, without a traceback in the log."""
    options = {"agent.a": "ip:nowhere.invalid", "datastream.t": "agent:a, oid:1.3.6.1.2.1.1.5.0"}
    (value,) = snmp.create(options, loop := Loop())
    with pytest.raises(ReadingFailed, match="the SNMP agent a: "):
        loop.result(value.get(""))


def test_readings_at_the_same_time(responder: Responder) -> None:
    """Each has a loop of its own: none disturbs the others."""
    loop = Loop()
    options = {"agent.a": f"ip:127.0.0.1, port:{responder.port}, {VERSIONS['2']}"}
    for number in (1, 4, 5, 8):
        options[f"datastream.t{number}"] = f"agent:a, oid:1.3.6.1.4.1.99999.{number}.0"
    waiting = [value.get("") for value in snmp.create(options, loop)]
    assert [loop.result(one).value for one in waiting] == [-7, 2**63, 4711, 17]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"agent.a": "port:161"}, "needs the member 'ip'"),
        ({"agent.a": "ip:h, version:4"}, "one of 1, 2, 2c, 3"),
        ({"agent.a": "ip:h, version:3"}, "needs the member 'securityName'"),
        (
            {"agent.a": "ip:h, version:3, securityName:u, privPassphrase:12345678"},
            "needs the member 'authPassphrase'",
        ),
        ({"agent.a": "ip:h, securityName:u"}, "unknown member 'securityName'"),
        ({"datastream.t": "agent:a, oid:1"}, r"there is no option 'agent\.a'"),
        ({"agent.a": "ip:h", "datastream.t": "agent:a, oid:sysName"}, "must be numbers"),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, str], problem: str) -> None:
    """The agent does not start, and the text names the option."""
    with pytest.raises(ValueError, match=problem):
        list(snmp.create(options, Loop()))
