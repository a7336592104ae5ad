"""Datastreams from Modbus devices, TCP and RTU: see docs/field.md.

The library ``pymodbus`` is imported only where the plugin is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer

from oda.errors import ReadingFailed, WritingFailed
from oda.field import ConnectionFailed, Line, OneAtATime, library_of, place_of, read_lines
from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IPlugin
from oda.model import Reading

#: The tables of a Modbus device, and how a row of each is read.
_READS = {
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
    "input": "read_input_registers",
    "holding": "read_holding_registers",
}
_BIT_TABLES = ("coil", "discrete")
_WRITABLE = ("coil", "holding")
_TYPES = ("INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "FLOAT32", "FLOAT64", "STRING")


@implementer(ITwistedPlugin, IPlugin)
class ModbusPlugin:
    """What the line ``plugins=modbus`` loads."""

    name = "modbus"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        """See ``IPlugin.create``. Raises ``ValueError`` for a wrong option."""
        lines = read_lines(options, ("connection", "datastream"))
        connections = {
            name: OneAtATime(reactor, _connector(name, line), _close)
            for name, line in lines["connection"].items()
        }
        values = [_value(name, line, connections) for name, line in lines["datastream"].items()]
        return [*connections.values(), *values]


modbus = ModbusPlugin()


def _connector(name: str, line: Line) -> Callable[[], Any]:
    with library_of("modbus"):
        from pymodbus.client import ModbusSerialClient, ModbusTcpClient

        if "serial" in line:
            import serial  # noqa: F401 - the library needs it later, and would only say no
    timeout_s = line.number("timeout", 0.1, 60, 3.0, is_whole=False)
    if "serial" in line:
        device = line.text("serial")
        settings = {
            "baudrate": line.number("baudrate", 300, 4_000_000, 19200),
            "parity": line.choice("parity", ("N", "E", "O"), "E"),
            "stopbits": line.number("stopbits", 1, 2, 1),
        }

        def make() -> Any:
            return ModbusSerialClient(device, timeout=timeout_s, retries=1, **settings)
    else:
        device = line.text("host")
        port = line.number("port", 1, 65535, 502)

        def make() -> Any:
            return ModbusTcpClient(device, port=port, timeout=timeout_s, retries=1)

    line.end()

    def connect() -> Any:
        client = make()
        if not client.connect():
            raise ReadingFailed(f"no connection to the Modbus device {name} ({device})")
        return client

    return connect


def _close(client: Any) -> None:
    client.close()


def _value(
    name: str, line: Line, connections: Mapping[str, OneAtATime[Any]]
) -> ModbusValue | ModbusSetting:
    connection = line.text("connection")
    if connection not in connections:
        raise ValueError(
            f"the option {line.option!r} names the connection {connection!r}, and there is no"
            f" option 'connection.{connection}'"
        )
    table = line.choice("table", _READS)
    kind = None if table in _BIT_TABLES else line.choice("type", _TYPES, "INT16")
    is_number = kind not in (None, "STRING")
    is_setting = line.flag("write")
    if is_setting and table not in _WRITABLE:
        raise ValueError(f"the option {line.option!r}: nothing can be written to {table}")
    make = ModbusSetting if is_setting else ModbusValue
    value = make(
        *place_of(name),
        connections[connection],
        line.number("unit", 0, 255, 1),
        table,
        line.number("address", 0, 65535),
        kind,
        line.number("count", 1, 125) if kind == "STRING" else 0,
        line.choice("wordOrder", ("big", "little"), "big") if is_number else "big",
        line.number("scale", -1e12, 1e12, 1, is_whole=False) if is_number else 1,
        line.number("offset", -1e12, 1e12, 0, is_whole=False) if is_number else 0,
    )
    line.end()
    if not value.scale:
        raise ValueError(f"the option {line.option!r}: scale must not be 0")
    return value


def _asked(ask: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """The answer of the device. Raises ``ConnectionFailed`` where there is none."""
    from pymodbus.exceptions import ModbusException

    try:
        return ask(*arguments, **more)
    except (ModbusException, OSError) as error:
        raise ConnectionFailed(f"no answer from the Modbus device: {error}") from error


@implementer(IDatastreamGetter)
class ModbusValue:
    """One value of a table. ``kind`` None means a bit. A number n is read as n * scale + offset."""

    def __init__(
        self,
        datastream_id: str,
        device_id: str,
        connection: OneAtATime[Any],
        unit: int,
        table: str,
        address: int,
        kind: str | None,
        count: int,
        word_order: str,
        scale: float,
        offset: float,
    ) -> None:
        self.datastream_id = datastream_id
        self._device_id = device_id
        self._connection = connection
        self._unit = unit
        self._table = table
        self._address = address
        self._kind = kind
        self._count = count
        self._word_order = word_order
        self.scale = scale
        self._offset = offset

    def devices(self) -> tuple[str, ...]:
        """The device of the line."""
        return (self._device_id,)

    def get(self, device_id: str) -> Deferred[Reading]:
        """See ``IDatastreamGetter.get``."""
        return self._connection.call(self._read)

    def _read(self, client: Any) -> Reading:
        count = self._count
        if self._kind is None:
            count = 1
        elif not count:
            count = client.DATATYPE[self._kind].value[1]
        answer = _asked(
            getattr(client, _READS[self._table]),
            self._address,
            count=count,
            device_id=self._unit,
        )
        if answer.isError():
            raise ReadingFailed(f"the Modbus device refuses it: {answer}")
        if self._kind is None:
            return Reading(bool(answer.bits[0]))
        try:
            value = client.convert_from_registers(
                answer.registers, client.DATATYPE[self._kind], self._word_order
            )
        except ValueError as error:
            raise ReadingFailed(f"the registers hold no text: {error}") from error
        if self._kind == "STRING":
            return Reading(value.rstrip("\0 "))
        if not isfinite(value):
            raise ReadingFailed(f"the Modbus device says {value}, which is no number")
        return Reading(value if self._is_plain else value * self.scale + self._offset)

    @property
    def _is_plain(self) -> bool:
        return self.scale == 1 and self._offset == 0


@implementer(IDatastreamSetter)
class ModbusSetting(ModbusValue):
    """A value that can be written as well."""

    def set(self, device_id: str, value: Any) -> Deferred[None]:
        """See ``IDatastreamSetter.set``."""
        wanted = self._checked(value)
        return self._connection.call(lambda client: self._write(client, wanted))

    def _checked(self, value: Any) -> Any:
        if self._kind is None:
            if isinstance(value, bool):
                return value
            raise WritingFailed("a coil takes true or false")
        if self._kind == "STRING":
            if isinstance(value, str):
                return value
            raise WritingFailed("the register takes a text")
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise WritingFailed("the register takes a number")
        number = value if self._is_plain else (value - self._offset) / self.scale
        return float(number) if self._kind.startswith("FLOAT") else round(number)

    def _write(self, client: Any, value: Any) -> None:
        if self._kind is None:
            answer = _asked(client.write_coil, self._address, value, device_id=self._unit)
        else:
            try:
                registers = client.convert_to_registers(
                    value, client.DATATYPE[self._kind], self._word_order
                )
            except Exception as error:
                raise WritingFailed(f"the register does not take {value!r}: {error}") from error
            if self._count:
                registers = [*registers, *[0] * self._count][: self._count]
            answer = _asked(client.write_registers, self._address, registers, device_id=self._unit)
        if answer.isError():
            raise WritingFailed(f"the Modbus device refuses it: {answer}")
