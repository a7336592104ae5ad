"""Turns events into OpenGate documents, encodes and sends them, and settles their owners.

A ``Gathering`` sorts events into the datapoints of one document per device and path (OpenGate
protocol, "Telemetry"). Inside a document, every datastream and feed is one ``Run`` of datapoints in
the order given. Each datapoint keeps its *owner*, which waits for its acceptance. So a document may
be cut anywhere, and every owner still learns the fate of exactly its own datapoints. An owner is
the Deferred of a ``publish`` of one event, or the ``Call`` of several, which fires when the last of
its events is settled.

``DocumentSender`` encodes a ``Bundle``, cuts one that is too big for one message, and hands the
parts to the connector. A cut goes through the datapoints run by run. Every part holds consecutive
datapoints, in order, so the parts keep the order of each datastream.

This is the busiest code of the agent: ``runs`` is a plain dict, so that a caller finds the run of
an event with one look-up and appends to it directly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.python.failure import Failure

from oda.boundary import contained, reason_of
from oda.errors import EncodeError, EventRejected
from oda.interfaces import ICheckedEncoding, ICodec, IConnector, ICounters
from oda.log import Logger
from oda.model import (
    HOST,
    PROTOCOL_VERSION,
    Datapoint,
    Datastream,
    TelemetryDocument,
)

log = Logger()

#: Maximum number of datapoints in one document.
MAX_DATAPOINTS = 500
#: The device, path, datastream and feed of an event, which distinguish its run from others.
RunKey = tuple[str, tuple[str, ...], str, str | None]

#: How many places are remembered.
MAX_PLACES = 10_000


# -- gathering -------------------------------------------------------------------------------


class Run:
    """Datapoints of one datastream and feed, each with its owner."""

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
        """The datapoints from ``start`` up to ``end``, without the latter, with their owners."""
        return Run(
            self.datastream_id, self.feed, self.datapoints[start:end], self.owners[start:end]
        )


class Bundle:
    """The content of one document: a device, the path to it, and runs of datapoints.

    ``path`` is empty if the document has none; ``is_host`` says that the device is the host.
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

        The datastreams of one id are adjacent, the one without a feed first.
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
    """Remembers which place each key of an event means: the same few keys come again and again.

    Two keys mean the same place if one has "" and the other the id of the host, or if their paths
    differ only in the host's id at the front.
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
    """Events that are becoming documents.

    ``runs`` holds the run of every combination of device, path, datastream and feed seen so far.
    """

    __slots__ = ("_bundles", "_places", "_runs_by_place", "runs")

    def __init__(self, places: Places) -> None:
        self.runs: dict[RunKey, Run] = {}
        self._places = places
        self._bundles: dict[tuple[str, tuple[str, ...]], Bundle] = {}
        self._runs_by_place: dict[RunKey, Run] = {}

    def run_for(self, key: RunKey) -> Run:
        """The run for events with this key; created if there is none yet."""
        run = self.runs.get(key)
        if run is None:
            run = self.runs[key] = self._open(self._places.of(key))
        return run

    def bundles(self) -> list[Bundle]:
        """One bundle for each device and path, in order of first appearance."""
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


# -- sending ---------------------------------------------------------------------------------


class DocumentSender:
    """Encodes with ``codec``, at most ``max_message_bytes`` a message, and hands to ``connector``.

    With ``reduced`` it adds the reduced form, for a message that is sent while it is fresh. The
    three settings may change between two calls of ``send``.
    """

    def __init__(
        self,
        connector: IConnector,
        counters: ICounters,
        codec: ICodec,
        reduced: bool,
        max_message_bytes: int,
    ) -> None:
        self.set_codec(codec)
        self.reduced = reduced
        self.max_message_bytes = max_message_bytes
        self._connector = connector
        self._counters = counters
        self._unsent: deque[tuple[Iterator[Part], bool]] = deque()
        self._unanswered: set[Deferred[Any]] = set()

    def set_codec(self, codec: ICodec) -> None:
        """Write later documents with this codec."""
        self.codec = codec
        # Every event was checked when it was published; see ``oda.telemetry.validation``.
        checked = ICheckedEncoding.providedBy(codec)
        self._write = codec.encode_checked if checked else codec.encode  # type: ignore[attr-defined]

    def send(self, bundles: Iterable[Bundle], is_late: bool = False) -> None:
        """Hand ``bundles`` over, in order, in as many documents as they need. What ``is_late`` goes
        out in the complete form: the time of its arrival is not that of its datapoints.

        Owners of a datapoint that fits in no message get ``EventRejected``; owners of a document
        that the connector refuses get its failure. If an owner calls ``send`` again, its bundles
        wait until the ones before are sent as well.
        """
        self._unsent.extend(
            (iter(encode_parts(bundle, self._encode, self.max_message_bytes)), is_late)
            for bundle in bundles
        )
        while self._unsent:
            parts, is_late = self._unsent[0]
            part = next(parts, None)
            if part is None:
                self._unsent.popleft()
            else:
                self._send_part(part, self.reduced and not is_late)

    def answered(self) -> Deferred[None]:
        """Fires when the connector has answered for everything sent so far; never fails."""
        waiting = DeferredList([_observe(uplink) for uplink in self._unanswered])
        return waiting.addCallback(lambda _: None)

    def _encode(self, document: TelemetryDocument) -> bytes:
        try:
            return self._write(document)
        except EncodeError:
            raise
        except BaseException as raised:
            log.failure("the {content_type} codec failed", content_type=self.codec.content_type)
            raise EncodeError(_named(contained(raised))) from raised

    def _fresh(self, bundle: Bundle) -> bytes | None:
        try:
            return self._encode(bundle.reduced())
        except EncodeError:
            return None  # the complete form, which could be encoded, goes out instead

    def _send_part(self, part: Part, reduced: bool) -> None:
        bundle = part.bundle
        if part.payload is None:
            datastream_id = bundle.runs[0].datastream_id
            self._counters.increment("events_rejected")
            log.warn(
                "a datapoint of {datastream_id} can't be sent: {problem}",
                datastream_id=datastream_id,
                problem=part.problem,
            )
            settle(bundle, Failure(EventRejected(datastream_id, part.problem)))
            return
        fresh = self._fresh(bundle) if reduced else None
        try:
            uplink: Deferred[Any] = self._connector.uplink(
                part.payload, self.codec.content_type, part.datapoints, fresh
            )
        except BaseException as raised:  # noqa: BLE001 - a foreign connector: the owners hear it
            uplink = fail(contained(raised))
        self._unanswered.add(uplink)
        uplink.addCallbacks(
            self._accepted,
            self._refused,
            callbackArgs=(uplink, part),
            errbackArgs=(uplink, part),
        )

    def _accepted(self, row_id: object, uplink: Deferred[Any], part: Part) -> None:
        self._unanswered.discard(uplink)
        self._counters.increment("events_accepted", part.datapoints)
        settle(part.bundle, None)

    def _refused(self, failure: Failure, uplink: Deferred[Any], part: Part) -> None:
        self._unanswered.discard(uplink)
        self._counters.increment("events_refused", part.datapoints)
        settle(part.bundle, failure)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {reason_of(error)}"


def _observe(uplink: Deferred[Any]) -> Deferred[None]:
    """Fires when ``uplink`` has fired, and leaves its result alone."""
    observed: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        observed.callback(None)
        return result

    uplink.addBoth(pass_on)
    return observed


class Part(msgspec.Struct, frozen=True):
    """A bundle that fits into one message: ``payload`` is its encoded complete document, with
    ``datapoints`` in it.

    For a single datapoint that can't be sent, ``payload`` is None and ``problem`` says why.
    """

    bundle: Bundle
    payload: bytes | None
    datapoints: int = 1
    problem: str = ""


def cut(bundle: Bundle, max_datapoints: int) -> Iterator[Bundle]:
    """Bundles of at most ``max_datapoints`` that together make up ``bundle``."""
    if len(bundle) <= max_datapoints:
        yield bundle
        return
    runs: list[Run] = []
    room = max_datapoints
    for run in bundle.runs:
        start, total = 0, len(run.datapoints)
        while start < total:
            end = min(start + room, total)
            runs.append(run if end - start == total else run.part(start, end))
            room -= end - start
            start = end
            if not room:
                yield Bundle(bundle.device_id, bundle.path, bundle.is_host, runs)
                runs, room = [], max_datapoints
    if runs:
        yield Bundle(bundle.device_id, bundle.path, bundle.is_host, runs)


def encode_parts(
    bundle: Bundle,
    encode: Callable[[TelemetryDocument], bytes],
    max_bytes: int,
    max_datapoints: int = MAX_DATAPOINTS,
) -> Iterable[Part]:
    """The parts of ``bundle``, each encoded in at most ``max_bytes`` and ``max_datapoints``.

    ``encode`` may raise ``EncodeError``: then the datapoint at fault becomes a part without
    payload, and the others are sent.
    """
    number = len(bundle)
    if number <= max_datapoints:  # nearly every document
        return _encode_piece(bundle, number, encode, max_bytes)
    return (
        part
        for piece in cut(bundle, max_datapoints)
        for part in _encode_piece(piece, len(piece), encode, max_bytes)
    )


def _encode_piece(
    piece: Bundle, number: int, encode: Callable[[TelemetryDocument], bytes], max_bytes: int
) -> list[Part]:
    """``number`` is how many datapoints ``piece`` has."""
    try:
        payload = encode(piece.complete())
    except EncodeError as error:
        if number == 1:
            return [Part(piece, None, problem=error.problem)]
        size = (number + 1) // 2
    else:
        if len(payload) <= max_bytes:
            return [Part(piece, payload, number)]
        if number == 1:
            problem = f"{len(payload)} bytes exceed the maximum of {max_bytes}"
            return [Part(piece, None, problem=problem)]
        # As many as should fit if all had one size, but at most half, so that this ends.
        size = max(1, min(number * max_bytes // len(payload), (number + 1) // 2))
    return [
        part
        for smaller in cut(piece, size)
        for part in _encode_piece(smaller, len(smaller), encode, max_bytes)
    ]


class Call:
    """A ``publish`` of several events. ``done`` fires when all are settled, or then fails with the
    first failure."""

    __slots__ = ("_failure", "_remaining", "done")

    def __init__(self, events: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._remaining = events
        self._failure: Failure | None = None

    def settle(self, events: int, failure: Failure | None) -> None:
        """This many events of the call were accepted, or refused because of ``failure``."""
        self._remaining -= events
        self._failure = self._failure or failure
        if not self._remaining:
            if self._failure is None:
                self.done.callback(None)
            else:
                self.done.errback(self._failure)


def settle(bundle: Bundle, failure: Failure | None) -> None:
    """Settle all owners of ``bundle``: it was accepted, or refused with ``failure``."""
    for run in bundle.runs:
        owners = run.owners
        start, total = 0, len(owners)
        while start < total:
            owner = owners[start]
            if type(owner) is Call:
                # Adjacent events of one call are settled together. All events of a call are
                # adjacent, unless some were held in the meantime.
                events = owners.count(owner)
                if owners[start : start + events] != [owner] * events:
                    events = 1
                owner.settle(events, failure)
                start += events
            else:
                settle_one(owner, failure)
                start += 1


def settle_one(owner: Any, failure: Failure | None) -> None:
    """Settle the owner of one event: it was accepted, or refused with ``failure``."""
    if type(owner) is Call:
        owner.settle(1, failure)
    elif failure is None:
        owner.callback(None)
    else:
        owner.errback(failure)
