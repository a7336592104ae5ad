"""Modbus TCP and RTU, against the library's own server."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from oda.errors import ReadingFailed, WritingFailed
from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IDatastreamSource, IPlugin
from oda.plugins.modbus import modbus
from tests.plugins.loop import AsyncioThread, Loop, free_port

pytest.importorskip("pymodbus")


def _context() -> Any:
    """A device (unit 1) whose register n holds n, whose coil n is set where n is odd."""
    from pymodbus.datastore import (
        ModbusDeviceContext,
        ModbusSequentialDataBlock,
        ModbusServerContext,
    )

    registers = list(range(200))
    # Register 20 and 21: 1.5 as a float; 30 and 31: -2 with the words swapped; 40 to 42: "pump".
    registers[20:22] = [0x3FC0, 0x0000]
    registers[30:32] = [0xFFFE, 0xFFFF]
    registers[40:42] = [0x7075, 0x6D70]
    registers[50:52] = [0x7FC0, 0x0000]  # no number
    # The library counts the rows of a block from 1.
    block = ModbusSequentialDataBlock
    device = ModbusDeviceContext(
        di=block(1, [bool(n % 2) for n in range(100)]),
        co=block(1, [bool(n % 2) for n in range(100)]),
        hr=block(1, list(registers)),
        ir=block(1, list(registers)),
    )
    return ModbusServerContext(devices={1: device}, single=False)


class Server:
    """A Modbus TCP server on the loopback interface."""

    def __init__(self) -> None:
        self.port = free_port()
        self._asyncio = AsyncioThread()
        self.start()

    def start(self) -> None:
        self._server = self._asyncio.run(self._begin())

    async def _begin(self) -> Any:
        from pymodbus.server import ModbusTcpServer

        server = ModbusTcpServer(_context(), address=("127.0.0.1", self.port))
        await server.listen()
        return server

    def stop(self) -> None:
        self._asyncio.run(self._server.shutdown())

    def close(self) -> None:
        self.stop()
        self._asyncio.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def components(loop: Loop, connection: str, **lines: str) -> dict[str, Any]:
    """The components for these lines (a . in a name is written _), by datastream; the connection
    itself is ""."""
    options = {"connection.c": connection}
    for name, line in lines.items():
        options[f"datastream.{name.replace('_', '.')}"] = f"connection:c, {line}"
    made = list(modbus.create(options, loop))
    return {getattr(one, "datastream_id", ""): one for one in made}


def tcp(server: Server) -> str:
    return f"host:127.0.0.1, port:{server.port}, timeout:2"


def test_it_keeps_the_contracts(server: Server, loop: Loop) -> None:
    """The plugin, its getters, setters and the source that closes the connection."""
    verifyObject(IPlugin, modbus)
    made = components(loop, tcp(server), a="table:holding, address:1, write:true")
    verifyObject(IDatastreamGetter, made["a"])
    verifyObject(IDatastreamSetter, made["a"])
    verifyObject(IDatastreamSource, made[""])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("table:holding, address:7", 7),
        ("table:input, address:7, type:UINT16", 7),
        ("table:holding, address:7, scale:0.1, offset:-1", pytest.approx(-0.3)),
        ("table:coil, address:3", True),
        ("table:discrete, address:4", False),
        ("table:holding, address:20, type:float32", 1.5),
        ("table:input, address:30, type:INT32, wordOrder:little", -2),
        ("table:holding, address:40, type:STRING, count:2", "pump"),
    ],
)
def test_every_table_and_type_is_read(server: Server, loop: Loop, line: str, value: Any) -> None:
    """Coils and discrete inputs are bits; registers are numbers or texts."""
    made = components(loop, tcp(server), a_b=line)
    assert loop.result(made["a.b"].get("")).value == value
    assert list(made["a.b"].devices()) == [""]
    loop.result(made[""].stop())


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("table:holding, address:9", [0, -5, 77]),
        ("table:holding, address:9, scale:0.5", [2.5]),
        ("table:coil, address:9", [True, False]),
        ("table:holding, address:60, type:FLOAT32", [0.25, 3]),
        ("table:holding, address:60, type:UINT64", [2**63]),
        ("table:holding, address:60, type:STRING, count:4", ["a pump", "x"]),
    ],
)
def test_what_was_written_is_read(server: Server, loop: Loop, line: str, values: list[Any]) -> None:
    """A setting takes what a reading of it gives."""
    made = components(loop, tcp(server), a=f"{line}, write:true")
    for value in values:
        loop.result(made["a"].set("", value))
        assert loop.result(made["a"].get("")).value == value
    loop.result(made[""].stop())


def test_a_value_that_does_not_fit_is_refused(server: Server, loop: Loop) -> None:
    """Before anything is sent, with the reason."""
    made = components(
        loop,
        tcp(server),
        n="table:holding, address:9, write:true",
        c="table:coil, address:9, write:true",
        t="table:holding, address:9, type:STRING, count:2, write:true",
    )
    for name, value in (("n", "x"), ("n", True), ("n", float("nan")), ("c", 1), ("t", 5)):
        with pytest.raises(WritingFailed):
            made[name].set("", value)
    with pytest.raises(WritingFailed, match="does not take 70000"):
        loop.result(made["n"].set("", 70_000))
    assert loop.result(made["n"].get("")).value == 9
    loop.result(made[""].stop())


def test_an_answer_of_the_device_is_a_reason(server: Server, loop: Loop) -> None:
    """An address that does not exist, a unit that does not exist, a float that is no number."""
    made = components(
        loop,
        tcp(server),
        far="table:holding, address:5000",
        nan="table:holding, address:50, type:FLOAT32",
        well="table:holding, address:1",
        text="table:holding, address:30, type:STRING, count:2",
    )
    with pytest.raises(ReadingFailed, match="the registers hold no text"):
        loop.result(made["text"].get(""))
    with pytest.raises(ReadingFailed, match="the Modbus device refuses it"):
        loop.result(made["far"].get(""))
    with pytest.raises(ReadingFailed, match="which is no number"):
        loop.result(made["nan"].get(""))
    assert loop.result(made["well"].get("")).value == 1
    loop.result(made[""].stop())


def test_a_device_that_goes_and_comes_back(server: Server, loop: Loop) -> None:
    """A reading fails while nobody answers, and works again without anything being done."""
    made = components(loop, tcp(server), a="table:holding, address:5")
    assert loop.result(made["a"].get("")).value == 5
    server.stop()
    with pytest.raises(ReadingFailed, match="no answer from the Modbus device"):
        loop.result(made["a"].get(""))
    with pytest.raises(ReadingFailed, match=r"no connection to the Modbus device c \(127.0.0.1\)"):
        loop.result(made["a"].get(""))
    server.start()
    assert loop.result(made["a"].get("")).value == 5
    loop.result(made[""].stop())


def test_many_readings_share_one_connection(server: Server, loop: Loop) -> None:
    """Readings that are asked for together are made one after the other, and none is mixed up."""
    made = components(
        loop, tcp(server), **{f"r{n}": f"table:holding, address:{n}" for n in range(15)}
    )
    waiting = {n: made[f"r{n}"].get("") for n in range(15)}
    assert {n: loop.result(one).value for n, one in waiting.items()} == {n: n for n in range(15)}
    loop.result(made[""].stop())


class Cable:
    """Two serial ports with a cable between them."""

    def __init__(self) -> None:
        self._masters: list[int] = []
        self.ports: list[str] = []
        self._slaves: list[int] = []
        for _ in range(2):
            master, slave = os.openpty()
            self._masters.append(master)
            self._slaves.append(slave)
            self.ports.append(os.ttyname(slave))
        self._end = os.pipe()
        self._thread = Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        one, other = self._masters
        while True:
            ready, _, _ = select.select([one, other, self._end[0]], [], [])
            if self._end[0] in ready:
                return
            for source in ready:
                os.write(other if source == one else one, os.read(source, 4096))

    def close(self) -> None:
        os.write(self._end[1], b".")
        self._thread.join()
        for descriptor in (*self._masters, *self._slaves, *self._end):
            os.close(descriptor)


def test_rtu_on_a_serial_line(loop: Loop) -> None:
    """The same values from a device on a serial line."""
    pytest.importorskip("serial")
    from pymodbus.server import ModbusSerialServer

    cable, running = Cable(), AsyncioThread()

    async def begin() -> Any:
        server = ModbusSerialServer(_context(), port=cable.ports[0], baudrate=19200)
        await server.listen()
        return server

    server = running.run(begin())
    made = components(
        loop,
        f"serial:{cable.ports[1]}, baudrate:19200, parity:N, timeout:3",
        a="table:holding, address:7",
        b="table:coil, address:3, write:true",
    )
    assert loop.result(made["a"].get("")).value == 7
    loop.result(made["b"].set("", False))
    assert loop.result(made["b"].get("")).value is False
    loop.result(made[""].stop())
    running.run(server.shutdown())
    running.stop()
    cable.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"speed": "1"}, "unknown option 'speed'"),
        ({"connection.c": "x"}, "must be member:value"),
        ({"connection.c": "port:1"}, "needs the member 'host'"),
        ({"connection.c": "host:h, port:0"}, "a whole number from 1 to 65535, not '0'"),
        ({"connection.c": "host:h, baudrate:9600"}, "unknown member 'baudrate'"),
        ({"datastream.a": "connection:c"}, "there is no option 'connection.c'"),
        (
            {"connection.c": "host:h", "datastream.a": "connection:c, table:x, address:1"},
            "one of coil, discrete, input, holding",
        ),
        (
            {
                "connection.c": "host:h",
                "datastream.a": "connection:c, table:input, address:1, write:true",
            },
            "nothing can be written to input",
        ),
        (
            {
                "connection.c": "host:h",
                "datastream.a": "connection:c, table:holding, address:1, scale:0",
            },
            "scale must not be 0",
        ),
    ],
)
def test_a_wrong_option_is_told(loop: Loop, options: dict[str, str], problem: str) -> None:
    """The agent does not start, and the text names the option."""
    with pytest.raises(ValueError, match=problem):
        list(modbus.create(options, loop))
