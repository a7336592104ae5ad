"""Verified test doubles: the device that the recorded answers came from, and what surrounds the
dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from oda.codecs import CodecRegistry, check_value, default_registry, is_plain
from oda.errors import OperationFailed, ReadingFailed
from oda.interfaces import ICounters, IOperation, IStateManager, ITimeSource, IWallClock
from oda.model import (
    HOST,
    Answer,
    ContentType,
    DatastreamValue,
    Event,
    MessageClass,
    OperationRequest,
    OperationResult,
    OutgoingMessage,
    ResultCode,
    Step,
    StepResult,
    ValueStatus,
)
from oda.operations import (
    GetDeviceParameters,
    OperationDispatcher,
    RefreshInfo,
    SetClockEquipment,
    SetDeviceParameters,
    SynchronizeClock,
)

from .fake_outbox import FakeOutbox

HOST_ID = "dev-1"
READ_AT_MS = 1_700_000_000_000
NOW_MS = 1_706_919_306_000

Progress = Callable[[Sequence[Step]], None]


class Stored:
    """A datastream of the fake device; ``error`` makes reading and writing it fail."""

    def __init__(
        self,
        value: Any = None,
        *,
        at_ms: int = READ_AT_MS,
        feed: str | None = None,
        error: str | None = None,
        reads: bool = True,
        writes: bool = False,
    ) -> None:
        self.value = value
        self.at_ms = at_ms
        self.feed = feed
        self.error = error
        self.reads = reads
        self.writes = writes


def recorded_device() -> dict[tuple[str, str], Stored]:
    """The datastreams that the recorded answers tell of, by device and datastream."""
    return {
        (HOST, "nullvalue"): Stored(None),
        (HOST, "q"): Stored(17, writes=True),
        (HOST, "fed"): Stored(5, feed="fast"),
        (HOST, "slow"): Stored(99),
        (HOST, "name"): Stored('café ☃ "q"'),
        (HOST, "temperature"): Stored(21.5),
        (HOST, "sim.const"): Stored(42, at_ms=1_795_332_560_414),
        (HOST, "object"): Stored({"x": 1, "y": [1, 2.5, "z", True]}),
        (HOST, "failing"): Stored(error="actuator broken", writes=True),
        (HOST, "device.clock"): Stored(reads=False, writes=True),
        ("child-1", "child.t"): Stored(7),
        ("child-1", "child.s"): Stored(reads=False, writes=True),
    }


def matches(pattern: str, device_id: str) -> bool:
    """Whether a device pattern names that device."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == device_id
    return (
        len(device_id) >= len(before) + len(after)
        and device_id.startswith(before)
        and device_id.endswith(after)
    )


@implementer(IStateManager)
class FakeStateManager:
    """Answers at once from a dict of datastreams, and records what it was asked."""

    def __init__(self, datastreams: dict[tuple[str, str], Stored] | None = None) -> None:
        self.datastreams = recorded_device() if datastreams is None else datastreams
        self.gets: list[tuple[str, list[str] | None]] = []
        self.sets: list[tuple[str, list[tuple[str, Any]]]] = []

    def get(
        self, device_pattern: str, datastream_ids: Sequence[str] | None
    ) -> Deferred[list[DatastreamValue]]:
        self.gets.append((device_pattern, None if datastream_ids is None else [*datastream_ids]))
        wanted = datastream_ids
        if wanted is None:
            wanted = list(dict.fromkeys(name for _, name in self.datastreams))
        values = []
        for name in wanted:
            found = [
                self._read(device_id, name, stored)
                for (device_id, stored_name), stored in self.datastreams.items()
                if stored_name == name and stored.reads and matches(device_pattern, device_id)
            ]
            if not found and datastream_ids is not None:
                found = [DatastreamValue(name, device_pattern, ValueStatus.NOT_FOUND)]
            values += found
        return succeed(values)

    def set(
        self, device_id: str, values: Sequence[tuple[str, Any]]
    ) -> Deferred[list[DatastreamValue]]:
        self.sets.append((device_id, list(values)))
        return succeed([self._write(device_id, name, value) for name, value in values])

    def received(self, events: Sequence[Event]) -> Deferred[None]:
        raise AssertionError("an operation brings no new values")

    def read(
        self, datastream_id: str, device_pattern: str, changes: Any = None
    ) -> Deferred[list[DatastreamValue]]:
        raise AssertionError("an operation does not poll")

    def collect(self, datastream_id: str, device_pattern: str) -> Deferred[int]:
        raise AssertionError("an operation does not collect")

    @staticmethod
    def _read(device_id: str, name: str, stored: Stored) -> DatastreamValue:
        if stored.error is not None:
            return DatastreamValue(name, device_id, ValueStatus.ERROR, error=stored.error)
        return DatastreamValue(
            name, device_id, ValueStatus.OK, stored.value, stored.at_ms, stored.feed
        )

    def _write(self, device_id: str, name: str, value: Any) -> DatastreamValue:
        stored = self.datastreams.get((device_id, name))
        if stored is None or not stored.writes:
            return DatastreamValue(name, device_id, ValueStatus.NOT_FOUND)
        if stored.error is not None:
            return DatastreamValue(name, device_id, ValueStatus.ERROR, error=stored.error)
        stored.value = value
        return DatastreamValue(name, device_id, ValueStatus.OK, value)


@implementer(IWallClock)
class FakeWallClock:
    """It is always the same time of day."""

    def now_ms(self) -> int:
        return NOW_MS


@implementer(ITimeSource)
class FakeTimeSource:
    """Says ``answer``, or fails with it."""

    def __init__(self, answer: int | Exception | Deferred[int]) -> None:
        self.answer = answer

    def now_ms(self) -> Deferred[int]:
        if isinstance(self.answer, Deferred):
            return self.answer
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


class TimeSources:
    """The way to time sources, by their text."""

    def __init__(self) -> None:
        self.sources: dict[str, FakeTimeSource] = {
            "ntp://good": FakeTimeSource(NOW_MS + 5),
            "ntp://silent": FakeTimeSource(ReadingFailed("no answer within 5 s")),
        }

    def open(self, text: str) -> FakeTimeSource:
        if text not in self.sources:
            raise ValueError(f"{text!r} is not a time source")
        return self.sources[text]


@implementer(ICounters)
class FakeCounters:
    """Adds up increments by name and labels, and keeps every measurement."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self.observed: list[tuple[str, float]] = []

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        key = (name, tuple(sorted(labels.items())))
        self.counted[key] = self.counted.get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.observed.append((name, value))

    def of(self, name: str, **labels: str) -> int:
        """How often that was counted with exactly these labels."""
        return self.counted.get((name, tuple(sorted(labels.items()))), 0)


@implementer(IOperation)
class FakeOperation:
    """Runs ``behaviour(request, progress)`` and records the requests."""

    def __init__(
        self,
        name: str,
        behaviour: Callable[[OperationRequest, Progress], Any],
        reads_only: bool = False,
    ) -> None:
        self.name = name
        self.reads_only = reads_only
        self.behaviour = behaviour
        self.requests: list[OperationRequest] = []

    def execute(self, request: OperationRequest, progress: Progress) -> Any:
        self.requests.append(request)
        return self.behaviour(request, progress)


def custom_operations() -> list[FakeOperation]:
    """The operations that somebody had registered on the recorded device."""

    def echo(request: OperationRequest, progress: Progress) -> OperationResult:
        parts = (f"{name}={_printed(value)}" for name, value in request.parameters.items())
        parameters = "{" + ", ".join(parts) + "}"
        return OperationResult(
            description=f"dev={request.device_id} op={request.id} params={parameters}"
        )

    def fail_it(request: OperationRequest, progress: Progress) -> OperationResult:
        raise OperationFailed("it failed")

    def take_steps(request: OperationRequest, progress: Progress) -> OperationResult:
        steps = (
            Step("S1", StepResult.SUCCESSFUL, "one", ["r"], READ_AT_MS),
            Step("S2", StepResult.SKIPPED, "two", [], READ_AT_MS),
        )
        return OperationResult(ResultCode.SUCCESSFUL, "with steps", steps)

    return [
        FakeOperation("MY_CUSTOM", echo),
        FakeOperation("MY_FAIL", fail_it),
        FakeOperation("MY_STEPS", take_steps),
    ]


def _printed(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_printed(item) for item in value) + "]"
    return str(value)


class Bench:
    """A dispatcher with everything around it faked, the connector included: answers go into the
    ``outbox``, which commits at once unless ``commits`` is False."""

    def __init__(
        self,
        *operations: Any,
        timeout_s: float = 80.0,
        max_concurrent: int = 100,
        max_waiting: int = 1000,
        journal: Any = None,
        time_source: str | None = None,
        max_answer_bytes: int = 1 << 24,
        outbox: FakeOutbox | None = None,
        codecs: CodecRegistry | None = None,
    ) -> None:
        self.clock = Clock()
        self.state = FakeStateManager()
        self.counters = FakeCounters()
        self.time_sources = TimeSources()
        self.codecs = codecs or default_registry()
        self.outbox = outbox or FakeOutbox(journal)
        self.journal = self.outbox.journal
        self.commits = True
        self.max_answer_bytes = max_answer_bytes
        self.has_room = True
        self.partials: list[tuple[bytes, ContentType]] = []
        self.send_partial: Callable[[bytes, ContentType], Any] = lambda payload, content_type: (
            self.partials.append((payload, content_type))
        )
        self.dispatcher = OperationDispatcher(
            self.codecs,
            lambda: HOST_ID,
            [
                RefreshInfo(self.state, check_value, self.counters),
                GetDeviceParameters(self.state, check_value),
                SetDeviceParameters(self.state),
                SetClockEquipment(self.state, FakeWallClock()),
                SynchronizeClock(
                    self.state,
                    self.time_sources.open,
                    FakeWallClock(),
                    time_source,
                    named_sources=("ntp://good", "ntp://silent", "ntp://mute", "ntp://odd"),
                ),
                *operations,
            ],
            self.journal,
            lambda payload, content_type: self.send_partial(payload, content_type),
            self.clock,
            self.counters,
            timeout_s=timeout_s,
            max_concurrent=max_concurrent,
            max_waiting=max_waiting,
            max_answer_bytes=lambda: self.max_answer_bytes,
            is_plain=is_plain,
            has_room=lambda: self.has_room,
        )

    def send(
        self, message: object, content_type: ContentType = ContentType.JSON
    ) -> list[bytes | None]:
        """Let the platform's message arrive; the list gets its answer when there is one."""
        return self.send_bytes(self.codecs.codec(content_type).encode(message), content_type)

    def send_bytes(self, payload: bytes, content_type: ContentType | None) -> list[bytes | None]:
        """As ``send``, for a message as it is on the wire."""
        answers: list[bytes | None] = []

        def answered(answer: Answer | None) -> None:
            if answer is not None:
                self.put(answer)
            answers.append(None if answer is None else answer.payload)

        self.dispatcher.process(payload, content_type).addCallback(answered)
        if self.commits:
            self.outbox.commit_all()
        return answers

    def put(self, answer: Answer) -> None:
        """What the connector does with an answer."""
        message = OutgoingMessage(
            answer.payload,
            MessageClass.RESPONSE,
            record=answer.record,
            waits_for_commit=answer.waits_for_commit,
        )
        self.outbox.put(message).addErrback(lambda _: None)

    def answer(self, message: object, content_type: ContentType = ContentType.JSON) -> Any:
        """The decoded answer, which has to be there at once."""
        (payload,) = self.send(message, content_type)
        return self.decoded(payload, content_type)

    def response(self, **members: Any) -> dict[str, Any]:
        """The ``operation.response`` to a request with these members."""
        response: dict[str, Any] = self.answer(request(**members))["operation"]["response"]
        return response

    def decoded(self, payload: bytes | None, content_type: ContentType = ContentType.JSON) -> Any:
        """What ``payload`` says."""
        assert payload is not None
        return self.codecs.codec(content_type).decode(payload)


def request(**members: Any) -> dict[str, Any]:
    """A request message; ``id`` is "1" unless given."""
    return {"operation": {"request": {"id": "1", **members}}}
