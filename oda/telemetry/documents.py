"""Events become OpenGate documents. Pure.

A ``Gathering`` sorts events, as they come, into the datapoints of one document per device and path
(OpenGate protocol, "Telemetry"); inside it, every datastream and feed is one ``Run`` of datapoints
in the order given. Each datapoint keeps its *owner*, whoever waits for its acceptance, so that a
document may be cut anywhere and every owner still learns the fate of exactly its own datapoints.

This is the busiest code of the agent: ``runs`` is a plain dict, so that a caller finds the run of
an event by one look-up and appends to it directly.
"""

from __future__ import annotations

from collections.abc import Sequence

from oda.model import (
    HOST,
    PROTOCOL_VERSION,
    Datapoint,
    Datastream,
    TelemetryDocument,
)

#: What tells one run of datapoints from another: device, path, datastream and feed of an event.
RunKey = tuple[str, tuple[str, ...], str, str | None]

#: How many places are remembered at once.
MAX_PLACES = 10_000


class Run:
    """Datapoints of one datastream and feed, and beside each its owner."""

    __slots__ = ("datapoints", "datastream_id", "feed", "owners")

    def __init__(
        self,
        datastream_id: str,
        feed: str | None,
        datapoints: list[Datapoint],
        owners: list[object],
    ) -> None:
        self.datastream_id = datastream_id
        self.feed = feed
        self.datapoints = datapoints
        self.owners = owners

    def part(self, start: int, end: int) -> Run:
        """The datapoints from ``start`` to before ``end``, with their owners."""
        return Run(
            self.datastream_id, self.feed, self.datapoints[start:end], self.owners[start:end]
        )


class Bundle:
    """What goes into one document: a device, the path to it, and runs of datapoints.

    ``path`` is empty when the document has none; ``is_host`` tells the host device.
    """

    __slots__ = ("device_id", "is_host", "path", "runs")

    def __init__(
        self, device_id: str, path: tuple[str, ...], is_host: bool, runs: list[Run]
    ) -> None:
        self.device_id = device_id
        self.path = path
        self.is_host = is_host
        self.runs = runs

    def __len__(self) -> int:
        """The number of datapoints."""
        runs = self.runs
        if len(runs) == 1:  # by far the most frequent
            return len(runs[0].datapoints)
        return sum(len(run.datapoints) for run in runs)

    def complete(self) -> TelemetryDocument:
        """The complete form."""
        return TelemetryDocument(
            version=PROTOCOL_VERSION,
            device=self.device_id,
            path=self.path or None,
            datastreams=[
                Datastream(id=run.datastream_id, feed=run.feed, datapoints=run.datapoints)
                for run in self.runs
            ],
        )

    def reduced(self) -> TelemetryDocument:
        """The reduced form: no path, no ``at``, and no device for the host.

        The datastreams of one id stand together, the one without a feed first.
        """
        return TelemetryDocument(
            version=PROTOCOL_VERSION,
            device=None if self.is_host else self.device_id,
            datastreams=[
                Datastream(
                    id=run.datastream_id,
                    feed=run.feed,
                    datapoints=[
                        Datapoint(None, datapoint.value, datapoint.from_)
                        for datapoint in run.datapoints
                    ],
                )
                for run in _feedless_first(self.runs)
            ],
        )


class Places:
    """The place that the keys of events mean, remembered: the same few come again and again.

    Two keys mean the same place when one has "" and the other the id of the host, or when their
    paths differ only in the host's id in front.
    """

    __slots__ = ("_host_id", "_known")

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._known: dict[RunKey, RunKey] = {}

    def __contains__(self, key: RunKey) -> bool:
        return key in self._known

    def is_host(self, device_id: str) -> bool:
        """Whether ``device_id`` is the host's."""
        return device_id == HOST or device_id == self._host_id

    def of(self, key: RunKey) -> RunKey:
        """The key with the full id of the device and the full path to it."""
        place = self._known.get(key)
        if place is None:
            device_id, path, datastream_id, feed = key
            if self.is_host(device_id):
                device_id = self._host_id
            elif self._host_id not in path:
                path = (self._host_id, *path)
            place = (device_id, path, datastream_id, feed)
            if len(self._known) >= MAX_PLACES:
                self._known.clear()
            self._known[key] = place
        return place


class Gathering:
    """Events on their way into documents.

    ``runs`` holds the run of every combination of device, path, datastream and feed seen so far.
    """

    __slots__ = ("_bundles", "_places", "_runs_by_place", "runs")

    def __init__(self, places: Places) -> None:
        self.runs: dict[RunKey, Run] = {}
        self._places = places
        self._bundles: dict[tuple[str, tuple[str, ...]], Bundle] = {}
        self._runs_by_place: dict[RunKey, Run] = {}

    def run_for(self, key: RunKey) -> Run:
        """The run an event of this key belongs to; made when there is none yet."""
        run = self.runs.get(key)
        if run is None:
            run = self.runs[key] = self._open(self._places.of(key))
        return run

    def bundles(self) -> list[Bundle]:
        """One bundle for each device and path, in the order in which they first appeared."""
        return list(self._bundles.values())

    def _open(self, place: RunKey) -> Run:
        run = self._runs_by_place.get(place)
        if run is None:
            device_id, path, datastream_id, feed = place
            run = self._runs_by_place[place] = Run(datastream_id, feed, [], [])
            bundle = self._bundles.get((device_id, path))
            if bundle is None:
                bundle = Bundle(device_id, path, self._places.is_host(device_id), [run])
                self._bundles[(device_id, path)] = bundle
            else:
                bundle.runs.append(run)
        return run


def _feedless_first(runs: Sequence[Run]) -> Sequence[Run]:
    if all(run.feed is None for run in runs):
        return runs
    rank: dict[str, int] = {}
    for run in runs:
        rank.setdefault(run.datastream_id, len(rank))
    return sorted(runs, key=lambda run: (rank[run.datastream_id], run.feed is not None))
