"""The table of the built-in readings: what ``oda readings`` and docs/readings-reference.md show.

The tests compare the table with the getters of ``system``: a reading without a row is a fault.
``python -m oda.datastreams.catalogue`` writes the page.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from oda.settings import ValueType


class BuiltIn(msgspec.Struct, frozen=True, kw_only=True):
    """One built-in reading. ``unit`` is "" where the value has none. ``window_s`` is the time that
    a first reading needs before the value describes the present."""

    datastream_id: str
    value_type: ValueType
    unit: str = ""
    meaning: str
    source: str
    example: Any
    window_s: float = 0.0


BUILT_INS = (
    BuiltIn(
        datastream_id="device.clock",
        value_type=ValueType.JSON,
        meaning="local date and time; `timezone` and `dst` are hours",
        source="the system's clock and `/etc/localtime`, or `TZ`",
        example={"date": "2026-11-27", "time": "14:05:09", "timezone": 1, "dst": 0},
    ),
    BuiltIn(
        datastream_id="device.cpu.status",
        value_type=ValueType.STRING,
        meaning="the load in a word: IDLE below 5 %, IDLE/WORKING below 20 %, WORKING below 60 %, "
        "STRESSED below 80 %, else OVERLOAD",
        source="as `device.cpu.usage`",
        example="WORKING",
        window_s=1.0,
    ),
    BuiltIn(
        datastream_id="device.cpu.total",
        value_type=ValueType.INTEGER,
        unit="processors",
        meaning="the number of processors",
        source="`/proc/stat` and the control group",
        example=4,
    ),
    BuiltIn(
        datastream_id="device.cpu.usage",
        value_type=ValueType.DOUBLE,
        unit="%",
        meaning="the load of all processors since the reading before",
        source="`/proc/stat` and the control group",
        example=12.5,
        window_s=1.0,
    ),
    BuiltIn(
        datastream_id="device.identifier",
        value_type=ValueType.STRING,
        meaning="the id under which the device connects",
        source="`deviceId`, else the serial number",
        example="gateway-17",
    ),
    BuiltIn(
        datastream_id="device.ram.total",
        value_type=ValueType.INTEGER,
        unit="MiB",
        meaning="the memory of the machine, or the limit of the container",
        source="`/proc/meminfo` and the control group",
        example=3906,
    ),
    BuiltIn(
        datastream_id="device.ram.usage",
        value_type=ValueType.DOUBLE,
        unit="%",
        meaning="the memory in use, without what can be freed at once",
        source="`/proc/meminfo` and the control group",
        example=41.3,
    ),
    BuiltIn(
        datastream_id="device.serialNumber",
        value_type=ValueType.STRING,
        meaning="the serial number of the machine",
        source="a script, else DMI, the device tree, `/etc/machine-id` or the host name",
        example="PF2X9A1C",
    ),
    BuiltIn(
        datastream_id="device.software",
        value_type=ValueType.JSON,
        meaning="what is installed: the operating system, its kernel, the agent and its libraries",
        source="`/etc/os-release`, the kernel, Python's package metadata",
        example=[{"name": "oda-websocket", "version": "0.1.0", "type": "SOFTWARE"}],
    ),
    BuiltIn(
        datastream_id="device.storage.disk.total",
        value_type=ValueType.INTEGER,
        unit="MiB",
        meaning="the size of the file system of `/`",
        source="`statvfs`",
        example=29534,
    ),
    BuiltIn(
        datastream_id="device.storage.disk.usage",
        value_type=ValueType.DOUBLE,
        unit="%",
        meaning="the use of the file system of `/`, as `df` shows it",
        source="`statvfs`",
        example=63.2,
    ),
    BuiltIn(
        datastream_id="device.temperature.status",
        value_type=ValueType.STRING,
        meaning="the temperature in a word: LOW_CRITICAL to -50 °C, LOW_WARNING to -25 °C, NORMAL "
        "below 25 °C, HIGH_WARNING below 50 °C, else HIGH_CRITICAL",
        source="as `device.temperature.value`",
        example="NORMAL",
    ),
    BuiltIn(
        datastream_id="device.temperature.value",
        value_type=ValueType.DOUBLE,
        unit="°C",
        meaning="the temperature of the sensor nearest to the processor",
        source="`/sys/class/thermal`, `/sys/class/hwmon`",
        example=23.4,
    ),
    BuiltIn(
        datastream_id="device.upTime",
        value_type=ValueType.INTEGER,
        unit="s",
        meaning="the time since the machine started",
        source="`/proc/uptime`",
        example=86400,
    ),
)

_PAGE_HEAD = """\
# Built-in readings

The agent reads these datastreams of the device itself. List a datastream in
`es.amplia.oda.subsystem.poller.cfg` to publish it, or ask for it with GET_DEVICE_PARAMETERS.
[machine-readings.md](machine-readings.md) says how containers and sensors are treated, and
[readings.md](readings.md) how to add or replace a reading.

`oda readings` prints this list. `oda readings get` reads datastreams once, also those of scripts
and plugins; it needs no platform and no running agent:

```sh
oda readings
oda readings get device.ram.usage device.clock
```

A machine without the source (for example, without a temperature sensor) does not have the reading.
This page is generated (`python -m oda.datastreams.catalogue > docs/readings-reference.md`).

| datastream | type | unit | value | source | example |
|---|---|---|---|---|---|
"""


def json_of(value: Any) -> str:
    """A value in one line, as it is sent."""
    return json.dumps(value, ensure_ascii=False)


def render_page() -> str:
    """The text of docs/readings-reference.md."""
    rows = [
        f"| `{one.datastream_id}` | {one.value_type.value} | {one.unit} | {one.meaning} |"
        f" {one.source} | `{json_of(one.example)}` |\n"
        for one in BUILT_INS
    ]
    return _PAGE_HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(render_page())
