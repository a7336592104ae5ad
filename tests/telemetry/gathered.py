"""Events straight to bundles and documents, without a dispatcher."""

from __future__ import annotations

from collections.abc import Iterable

from oda.model import Datapoint, Event, TelemetryDocument
from oda.telemetry.documents import Bundle, Gathering, Places


def bundles(events: Iterable[Event], host_id: str, now_ms: int) -> list[Bundle]:
    """The bundles of ``events``; one without a time gets ``now_ms``. The owner of each datapoint
    is the place of its event in the list."""
    gathering = Gathering(Places(host_id))
    for index, event in enumerate(events):
        run = gathering.run_for((event.device_id, event.path, event.datastream_id, event.feed))
        at_ms = now_ms if event.at_ms is None else event.at_ms
        run.datapoints.append(Datapoint(at_ms, event.value, event.from_ms))
        run.owners.append(index)
    return gathering.bundles()


def documents(
    events: Iterable[Event], host_id: str, now_ms: int, reduced: bool = False
) -> list[TelemetryDocument]:
    """The documents of ``events``."""
    return [
        bundle.reduced() if reduced else bundle.complete()
        for bundle in bundles(events, host_id, now_ms)
    ]
