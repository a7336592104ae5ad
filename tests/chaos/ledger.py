"""Compares what the agent accepted with what the platform has on record.

Every datapoint of the load is one of a kind: its value and its time follow from its datastream and
its number. So a datapoint that was altered, or never sent, shows. Pure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

from oda.platform.recording import RecordedMessage

#: The time of number 0, in milliseconds since the Unix epoch.
BASE_MS = 1_700_000_000_000


def datapoint(datastream: str, number: int) -> dict[str, Any]:
    """The member ``value`` and ``at`` of a datapoint of the load."""
    text = "x" * (number % 61)
    return {
        "at": BASE_MS + number,
        "value": {"n": number, "fill": text, "sum": crc32(f"{datastream} {number}".encode())},
    }


class Arrival:
    """The newest arrival of one document."""

    __slots__ = ("at_ms", "connection", "position")

    def __init__(self, message: RecordedMessage) -> None:
        self.connection = message.connection
        self.position = message.position
        self.at_ms = message.at_ms


class Ledger:
    """``read`` takes the platform's record in its order; ``problems`` is what is wrong with it, and
    ``disorder`` what arrived for the first time after something newer of its datastream."""

    def __init__(self) -> None:
        self.messages = 0
        self.datapoints = 0
        self.repeated_messages = 0
        self.repeated_datapoints = 0
        self.last_number = 0
        self.problems: list[str] = []
        self.disorder: list[str] = []
        self._arrived: dict[str, Counter[int]] = {}
        self._newest: dict[str, int] = {}
        self._documents: dict[bytes, Arrival] = {}
        self._arrivals: Counter[bytes] = Counter()
        self._repeats: list[tuple[Arrival, RecordedMessage]] = []
        self._lengths: Counter[int] = Counter()
        self._ends: dict[int, int] = {}

    def read(self, messages: Iterable[RecordedMessage]) -> None:
        """The next messages that the platform has read."""
        for message in messages:
            self.last_number = message.number
            document = json.loads(message.payload)
            if "datastreams" not in document:
                continue
            self.messages += 1
            self._lengths[message.connection] = message.position
            self._ends[message.connection] = message.at_ms
            before = self._documents.get(message.payload)
            if before is not None:
                self.repeated_messages += 1
                self._repeats.append((before, message))
            self._documents[message.payload] = Arrival(message)
            self._arrivals[message.payload] += 1
            for datastream in document["datastreams"]:
                for point in datastream["datapoints"]:
                    self._take(datastream["id"], point)

    def _take(self, name: str, point: Mapping[str, Any]) -> None:
        self.datapoints += 1
        number = point["value"]["n"]
        if dict(point) != datapoint(name, number):
            self.problems.append(f"{name} {number} was altered: {point}")
        arrived = self._arrived.setdefault(name, Counter())
        arrived[number] += 1
        if arrived[number] > 1:
            self.repeated_datapoints += 1
        else:
            newest = self._newest.get(name, -1)
            if number < newest:
                self.disorder.append(f"{name} {number} arrived after {newest}")
            self._newest[name] = max(newest, number)

    def missing(self, accepted: Mapping[str, Iterable[int]]) -> list[str]:
        """The accepted datapoints that have not arrived."""
        return [
            f"{name} {number} was accepted and has not arrived"
            for name, numbers in accepted.items()
            for number in numbers
            if number not in self._arrived.get(name, ())
        ]

    def unjustified_repeats(self, window: int, linger_s: float, rereads: bool = False) -> list[str]:
        """The documents that were sent again although they had been acknowledged longer than
        ``linger_s`` before their connection ended, and were not of the last ``window`` on it. With
        ``rereads`` (the store could not be read for a while) what lingers then may come again on
        the same connection.

        The end is taken to be the connection's last message: the load never rests, and nobody but
        the agent knows when it has noticed a silent end.
        """
        numbers = sorted(self._ends)
        problems = []
        for before, repeat in self._repeats:
            connection = repeat.connection
            is_fresh = repeat.at_ms - before.at_ms <= linger_s * 1000
            if rereads and connection == before.connection and is_fresh:
                continue
            if before.position > self._lengths[before.connection] - window:
                continue
            # It may have waited through connections on which its turn did not come.
            between = [self._ends[one] for one in numbers if before.connection <= one < connection]
            if not any(end - before.at_ms <= linger_s * 1000 for end in between):
                problems.append(
                    f"a document of connection {before.connection} came again on {connection}"
                )
        return problems

    @property
    def most_repeats(self) -> int:
        """How often the document came again that did so most often."""
        return max(self._arrivals.values(), default=1) - 1

    def superfluous_repeats(self, window: int, repeats: int) -> list[str]:
        """Whether there were more than a window for each lost connection, and ``repeats`` of each
        document because it had been acknowledged a short while ago."""
        reconnects = max(0, len(self._ends) - 1)
        bound = window * reconnects + repeats * len(self._arrivals)
        if self.repeated_messages <= bound:
            return []
        return [f"{self.repeated_messages} messages came again, {bound} can be explained"]
