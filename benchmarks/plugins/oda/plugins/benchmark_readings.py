"""A plugin with datastreams ``reading.0``, ``reading.1``...: each reading has another value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer

from oda.interfaces import IDatastreamGetter, IPlugin
from oda.model import Reading


@implementer(IDatastreamGetter)
class Counting:
    """Counts how often it was read."""

    def __init__(self, datastream_id: str) -> None:
        self.datastream_id = datastream_id
        self._count = 0

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def get(self, device_id: str) -> Reading:
        self._count += 1
        return Reading(self._count)


@implementer(ITwistedPlugin, IPlugin)
class ReadingsPlugin:
    """``count`` is how many datastreams there are."""

    name = "benchmark-readings"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        return [Counting(f"reading.{number}") for number in range(int(options["count"]))]


readings = ReadingsPlugin()
