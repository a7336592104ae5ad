"""The platform's data as lines for a terminal. Pure.

Device ids, datastreams and values are foreign text: anything that could move the cursor, colour or
reorder the text is shown as an escape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from oda.platform.fault_text import write_fault_words
from oda.platform.faults import Fault
from oda.platform.store import LatestValue
from oda.wording import counted

#: Longer values are cut.
_MAX_VALUE = 200


def printable(text: str) -> str:
    """``text`` with every invisible character written as ``\\x1b`` or ``\\u202e``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def show_value(value: Any) -> str:
    """A value on one line, as JSON."""
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "..."


def show_json(document: Any) -> str:
    """A document over several lines."""
    lines = json.dumps(document, ensure_ascii=False, indent=2).split("\n")
    return "\n".join(printable(line) for line in lines)


def show_time(at_ms: int) -> str:
    """A local date and time; the number itself if it is no valid time."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000).astimezone()
    except (OverflowError, OSError, ValueError):
        return f"{at_ms} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def event_lines(kind: str, data: Mapping[str, Any]) -> list[str]:
    """A live change in words; no line for an unknown kind."""
    show = _EVENTS.get(kind)
    return [] if show is None else show(data)


def _device(data: Mapping[str, Any]) -> list[str]:
    state = "connected" if data["connected"] else "disconnected"
    return [f"{printable(data['device'])} {state}"]


def _datapoints(data: Mapping[str, Any]) -> list[str]:
    device = printable(data["device"])
    return [f"{device}  {_datapoint(point)}" for point in data["datapoints"]]


def _datapoint(point: Mapping[str, Any]) -> str:
    feed = f" ({printable(point['feed'])})" if point["feed"] else ""
    name = printable(point["datastream"]) + feed
    value = f"({point['omitted']} bytes)" if "omitted" in point else show_value(point["value"])
    return f"{name:<28} {value}"


def _operation(data: Mapping[str, Any]) -> list[str]:
    state = data["state"].replace("_", " ")
    device, name = printable(data["device"]), printable(data["name"])
    return [f"{device}  {name} {printable(data['id'])}: {state}"]


def _unreadable(data: Mapping[str, Any]) -> list[str]:
    device, reason = printable(data["device"]), printable(data["reason"])
    return [f"{device}  message {data['message']} is unreadable: {reason}"]


def _fault(data: Mapping[str, Any]) -> list[str]:
    device = "all devices" if data["device"] is None else printable(data["device"])
    return [f"the faults of {device} have changed"]


def _lost(data: Mapping[str, Any]) -> list[str]:
    return [f"(missed {counted(data['events'], 'change')})"]


_EVENTS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "device": _device,
    "datapoints": _datapoints,
    "operation": _operation,
    "unreadable": _unreadable,
    "fault": _fault,
    "lost": _lost,
}


def device_lines(devices: Sequence[Mapping[str, Any]]) -> list[str]:
    """The answer of ``GET /devices`` as a table."""
    head = ("DEVICE", "STATE", "READ", "WRITTEN", "PINGS", "PONGS", "LAST SEEN")
    return table([head, *(_device_row(device) for device in devices)])


def _device_row(device: Mapping[str, Any]) -> tuple[str, ...]:
    name, seen = printable(device["id"]), show_time(device["lastSeen"])
    connection = device["connection"]
    if connection is None:
        via = device["via"]
        return name, "away" if via is None else f"via {printable(via)}", "", "", "", "", seen
    names = ("messagesIn", "messagesOut", "pingsIn", "pongsOut")
    return name, "connected", *(str(connection[counter]) for counter in names), seen


def latest_lines(values: Iterable[LatestValue]) -> list[str]:
    """A table of the latest values of a device."""
    rows = [("DATASTREAM", "FEED", "TIME", "VALUE")]
    for value in values:
        names = printable(value.datastream), printable(value.feed)
        rows.append((*names, show_time(value.at_ms), show_value(value.value)))
    return table(rows)


def fault_lines(general: Fault, special: Mapping[str, Fault]) -> list[str]:
    """The faults in force, in the words that set them."""
    normal = "no faults"
    lines = [f"all devices: {printable(write_fault_words(general)) or normal}"]
    return lines + [
        f"{printable(device)}: {printable(write_fault_words(fault))}"
        for device, fault in special.items()
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
