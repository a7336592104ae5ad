"""Counts messages by class, and the datapoints in them, once for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence

from oda.interfaces import ICounters
from oda.model import MessageClass


def count_batch(
    counters: ICounters,
    messages_name: str,
    datapoints_name: str,
    batch: Sequence[tuple[MessageClass, int]],
) -> None:
    """``batch`` holds the class and the number of datapoints of each message."""
    for message_class in MessageClass:
        messages = sum(known is message_class for known, _ in batch)
        if messages:
            counters.increment(messages_name, messages, message_class=message_class.text)
    datapoints = sum(points for _, points in batch)
    if datapoints:
        counters.increment(datapoints_name, datapoints)
