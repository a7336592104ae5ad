"""Hands events to the connector as OpenGate documents.

The dispatcher gathers everything published within one turn of the reactor into as few documents as
possible (``oda.telemetry.documents``), so a thousand single events cost little more than one list
of a thousand. At the end of the turn, or when many events wait, it encodes the documents, cuts them
to size and hands them to the connector. The Deferred of a ``publish`` fires once every document
with a datapoint of that call was accepted. Events of a datastream with a line in the dispatcher's
configuration are first held (``oda.telemetry.schedules``), unless they answer somebody
(``publish_now``). Events without a time are kept on disk while the time of day is wrong
(``oda.telemetry.undated``).

Sending may settle owners, and an owner may call back at once (publish, stop, set another device
id). So every method that takes events takes all of them first, and sends last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import EventRejected, OutboxClosed, OutboxError, OutboxFull
from oda.interfaces import ICodec, IConnector, ICounters, IEventDispatcher, IWallClock
from oda.model import Datapoint, Event
from oda.settings import Schedule
from oda.telemetry.documents import Call, DocumentSender, Gathering, Places, Run, RunKey, settle_one
from oda.telemetry.schedules import Holding, Timetable
from oda.telemetry.undated import UndatedEvents
from oda.telemetry.validation import (
    MAX_INTEGER,
    MIN_INTEGER,
    CheckValue,
    TimeDoubts,
    accept_event,
    accept_value,
    check_place,
    check_times,
)
from oda.timestamps import SURE_FROM_MS, SURE_TO_MS

#: This many events of one turn are sent without waiting for its end.
MAX_GATHERED = 5_000

#: This many events are worth a document of their own: a stream that brings them before the end of
#: the window does not wait for it.
ENOUGH_GATHERED = 100

#: Equal to no member of any event.
_NOWHERE: Any = object()

#: How many events may wait for the device id; more are refused.
MAX_WAITING = 10_000


@implementer(IEventDispatcher)
class EventDispatcher:
    """Publishes events.

    ``window_s`` is the least time between two documents of a steady stream, in seconds. Events
    published in between are gathered and share documents and a commit; 0 gathers one turn of the
    reactor.

    ``undated`` keeps what is taken while the time of day is wrong; without it that is believed.

    ``clock`` is the reactor, and ``codec`` writes the documents. ``check_value(value, path)``
    raises ``EncodeError`` for a value that the codec could not write. Until ``host_id`` is known
    (here or through ``set_host_id``) up to ``MAX_WAITING`` events wait. Each call of ``publish`` is
    checked as a whole before any of its events is taken. If documents of one call are refused
    later, others of it may already have been accepted (sending the call again with the same
    ``at_ms`` is harmless).
    """

    def __init__(
        self,
        clock: IReactorTime,
        connector: IConnector,
        codec: ICodec,
        check_value: CheckValue,
        wall_clock: IWallClock,
        counters: ICounters,
        *,
        host_id: str | None = None,
        reduced: bool = False,
        max_message_bytes: int = 16 * 1024 * 1024,
        schedules: Iterable[Schedule] = (),
        window_s: float = 0.0,
        undated: UndatedEvents | None = None,
    ) -> None:
        self._clock = clock
        self._sender = DocumentSender(connector, counters, codec, reduced, max_message_bytes)
        self._check_value = check_value
        self._now_ms: Callable[[], int] = wall_clock.now_ms
        self._doubts = TimeDoubts(wall_clock.now_ms)
        self._counters = counters
        self._host_id = host_id
        # Without a host id nothing is gathered, so the name is never used.
        self._places = Places(host_id or "")
        self._holding = Holding(schedules)
        self._timetable = Timetable(clock, self._due)
        self._waiting: list[tuple[Event, int, object, bool]] = []  # arguments of _take
        self._undated = undated
        self._earliest_ms = MIN_INTEGER
        if undated is not None:
            self._earliest_ms = undated.dating.earliest_ms
            undated.send = self._send_dated
            undated.changed = self._choose_path
        self._window_s = window_s
        self._flushed_s = float("-inf")
        self._flush_call: IDelayedCall | None = None
        self._flushing = False
        self._stopped = False
        self._begin_gathering()
        self._choose_path()

    # -- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the timers of the collected datastreams."""
        self._timetable.apply(self._holding.schedules)
        if self._undated is not None:
            self._undated.start()

    def stop(self) -> Deferred[None]:
        """Publish everything held and gathered, and take nothing more.

        Fires when the connector has answered for all of it; never fails. Events that still wait for
        the device id fail with ``OutboxClosed``.
        """
        self._stopped = True  # an owner that is settled from here on can't publish again
        self._choose_path()
        self._timetable.stop()
        flushed = self.flush_all()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._counters.increment("events_refused", len(waiting))
        refusal = Failure(OutboxClosed("the device id was never known"))
        for _, _, owner, _ in waiting:
            settle_one(owner, refusal)
        undated = self._undated
        if undated is not None:
            undated.flush()
            flushed.addCallback(lambda _: undated.close())
        return flushed

    def flush(self) -> None:
        """Publish what is gathered at the end of this turn instead of the window. Events held for a
        line of the configuration stay held."""
        if self._flush_call is not None:
            self._flush_call.reset(0)

    def collected_by(self, event: Event) -> Schedule | None:
        """The line of the configuration that holds ``event`` until its time; None if none does."""
        return None if self._host_id is None else self._holding.schedule_of(event, self._host_id)

    def flush_all(self) -> Deferred[None]:
        """Publish everything held and gathered now; fires when the connector has answered."""
        for schedule in self._holding.schedules:
            self._release(schedule)
        self._flush()
        return self._sender.answered()

    # -- configuration ------------------------------------------------------------------------

    def set_host_id(self, host_id: str) -> None:
        """The device id is known or has changed. Gathered events go out under the old one."""
        if host_id == self._host_id:
            return
        gathering = self._end_gathering()
        self._host_id = host_id
        self._places = Places(host_id)
        self._begin_gathering()
        self._choose_path()
        waiting, self._waiting = self._waiting, []
        for event, at_ms, owner, is_urgent in waiting:
            self._take(event, at_ms, owner, is_urgent)
        self._send(gathering)
        self._flush_if_full()

    def set_output(self, codec: ICodec, reduced: bool, max_message_bytes: int) -> None:
        """Write later documents with this codec, in this form, up to this size."""
        self._flush()
        self._sender.set_codec(codec)
        self._sender.reduced = reduced
        self._sender.max_message_bytes = max_message_bytes
        if self._undated is not None:
            self._undated.look()  # timeSync may be another

    def set_schedules(self, schedules: Iterable[Schedule]) -> None:
        """Collect by these lines. Events held for a line that is gone go out now."""
        schedules = tuple(schedules)
        for event, at_ms, owner in self._holding.apply(schedules):
            self._gather(event, at_ms, owner)
        self._choose_path()
        self._timetable.apply(schedules)
        self._flush_if_full()

    # -- taking events --------------------------------------------------------------------------

    def publish(self, events: Event | Sequence[Event]) -> Deferred[None]:
        """See ``IEventDispatcher.publish``. The Deferred of a held event fires when the connector
        has accepted it, at the time of its line. Fails with ``OutboxFull`` if too many events wait
        for the device id, and with ``OutboxClosed`` after ``stop``."""
        if type(events) is not Event:
            return self._publish_several((events,) if isinstance(events, Event) else events)
        event = events
        try:
            if not self._is_direct:
                return self._publish_several((event,))
            at_ms = event.at_ms
            if at_ms is None:
                at_ms = self._now_ms()
                if at_ms < self._earliest_ms or event.taken is not None:
                    return self._publish_several((event,))
            elif type(at_ms) is not int or not SURE_FROM_MS <= at_ms <= SURE_TO_MS:
                check_times(event)
                self._doubts.consider(event)
            from_ms = event.from_ms
            if from_ms is not None:
                check_times(event)
                self._doubts.consider(event)
            value = event.value
            kind = type(value)
            if not (
                (kind is float and value - value == 0.0)
                or (kind is int and MIN_INTEGER <= value <= MAX_INTEGER)
            ):
                value = accept_value(event, self._check_value)
            key = (event.device_id, event.path, event.datastream_id, event.feed)
            try:
                run = self._runs.get(key)
            except TypeError:
                check_place(event)  # refuses whatever has no hash
                raise
            if run is None:
                run = self._open_run(key, event)
        except EventRejected as error:
            return self._reject(error, 1)
        done: Deferred[None] = Deferred()
        run.datapoints.append(Datapoint(at_ms, value, from_ms))
        run.owners.append(done)
        self._room -= 1
        if self._room <= 0:
            self._overflow()
        return done

    def publish_now(self, events: Event | Sequence[Event]) -> Deferred[None]:
        """See ``IEventDispatcher.publish_now``. Held events of the same datastream stay held: the
        time of each datapoint gives the order, not the time of arrival."""
        if self._is_direct:
            return self.publish(events)
        return self._publish_several((events,) if isinstance(events, Event) else events, True)

    def _publish_several(self, events: Sequence[Event], is_urgent: bool = False) -> Deferred[None]:
        if not isinstance(events, list | tuple):
            events = list(events)  # len() comes before the loop
        try:
            if self._is_direct and len(events) > 1:
                gathered = self._gather_several(events)
                if gathered is not None:
                    return gathered
            accepted = [accept_event(event, self._check_value) for event in events]
        except EventRejected as error:
            return self._reject(error, len(events))
        if not accepted:
            return succeed(None)
        if self._stopped:
            return self._refuse(OutboxClosed("the agent is stopping"), len(accepted))
        undated = self._undated
        is_kept = undated is not None and undated.wants()
        # What was taken before the clock was right gets its time there, too.
        kept = [one.at_ms is None and (is_kept or one.taken is not None) for one in accepted]
        without_time = sum(kept) if undated is not None else 0
        if undated is not None and without_time:
            refusal = undated.refusal(without_time)
            if refusal is not None:
                return self._refuse(refusal, len(accepted))
        waiting = len(self._waiting) + len(accepted) - without_time
        if self._host_id is None and waiting > MAX_WAITING:
            problem = "the device id is unknown and too many events wait for it"
            return self._refuse(OutboxFull(problem), len(accepted))
        call = Call(len(accepted))
        now_ms = self._now_ms()
        for event, has_no_time in zip(accepted, kept, strict=True):
            self._doubts.consider(event)
            if undated is not None and has_no_time:
                undated.keep(event, call)
            else:
                self._take(event, now_ms if event.at_ms is None else event.at_ms, call, is_urgent)
        self._flush_if_full()
        return call.done

    def _send_dated(self, dated: Sequence[tuple[Event, int, object]]) -> bool:
        """Send events that have waited for their time; False where that is not possible now."""
        if self._host_id is None or self._stopped:
            return False
        # Before what is gathered, which is newer or has the time that its publisher gave.
        gathering = Gathering(self._places)
        for event, at_ms, owner in dated:
            run = gathering.run_for((event.device_id, event.path, event.datastream_id, event.feed))
            run.datapoints.append(Datapoint(at_ms, event.value, event.from_ms))
            run.owners.append(owner)
        self._send(gathering, is_late=True)
        return True

    def _gather_several(self, events: Sequence[Event]) -> Deferred[None] | None:
        """Check all, then take all; None if one has to get its time in another way. Consecutive
        events of one run cost one look-up."""
        now_ms = self._now_ms()
        check_value = self._check_value
        stretches: list[tuple[Event, list[Datapoint]]] = []
        device_id = path = datastream_id = feed = _NOWHERE
        for event in events:
            if type(event) is not Event:
                accept_event(event, check_value)
            at_ms = event.at_ms
            if at_ms is None:
                at_ms = now_ms
                if at_ms < self._earliest_ms or event.taken is not None:
                    return None
            elif type(at_ms) is not int or not SURE_FROM_MS <= at_ms <= SURE_TO_MS:
                check_times(event)
                self._doubts.consider(event)
            from_ms = event.from_ms
            if from_ms is not None:
                check_times(event)
                self._doubts.consider(event)
            value = event.value
            kind = type(value)
            if not (
                (kind is float and value - value == 0.0)
                or (kind is int and MIN_INTEGER <= value <= MAX_INTEGER)
            ):
                value = accept_value(event, check_value)
            # Nearly always these are the same objects, and identity is the cheapest test.
            if (
                event.datastream_id is not datastream_id
                or event.device_id is not device_id
                or event.path is not path
                or event.feed is not feed
            ) and (
                event.datastream_id != datastream_id
                or event.device_id != device_id
                or event.path != path
                or event.feed != feed
            ):
                check_place(event)
                datastream_id, device_id = event.datastream_id, event.device_id
                feed, path = event.feed, event.path
                stretch: list[Datapoint] = []
                stretches.append((event, stretch))
            stretch.append(Datapoint(at_ms, value, from_ms))
        call = Call(len(events))
        for event, stretch in stretches:
            run = self._run_of(event)
            run.datapoints.extend(stretch)
            run.owners.extend([call] * len(stretch))
            self._room -= len(stretch)
        self._flush_if_full()
        return call.done

    def _take(self, event: Event, at_ms: int, owner: object, is_urgent: bool) -> None:
        """Let one accepted event wait, hold it or gather it; the caller then calls
        ``_flush_if_full``. An ``is_urgent`` event is not held."""
        if self._host_id is None:
            self._waiting.append((event, at_ms, owner, is_urgent))
            return
        schedule = None if is_urgent else self._holding.schedule_of(event, self._host_id)
        if schedule is None:
            self._gather(event, at_ms, owner)
        elif self._holding.hold(schedule, event, at_ms, owner):
            self._counters.increment("collected_early")
            self._release(schedule)

    def _gather(self, event: Event, at_ms: int, owner: object) -> None:
        run = self._run_of(event)
        run.datapoints.append(Datapoint(at_ms, event.value, event.from_ms))
        run.owners.append(owner)
        self._room -= 1

    def _due(self, schedule: Schedule) -> None:
        if not schedule.period_s:
            self._holding.finish(schedule)
            self._choose_path()
        self._release(schedule)
        self._flush_if_full()

    def _release(self, schedule: Schedule) -> None:
        for event, at_ms, owner in self._holding.release(schedule):
            self._gather(event, at_ms, owner)

    def _run_of(self, event: Event) -> Run:
        key = (event.device_id, event.path, event.datastream_id, event.feed)
        run = self._runs.get(key)
        return self._open_run(key, event) if run is None else run

    def _open_run(self, key: RunKey, event: Event) -> Run:
        if key not in self._places:
            check_place(event)
        if self._flush_call is None:
            # The first event after a pause goes out with its turn; a steady stream is gathered.
            wait_s = self._window_s - (self._clock.seconds() - self._flushed_s)
            self._flush_call = self._clock.callLater(max(0.0, wait_s), self._turn_ended)
        return self._gathering.run_for(key)

    def _reject(self, error: EventRejected, events: int) -> Deferred[None]:
        self._counters.increment("events_rejected", events)
        return fail(error)

    def _refuse(self, error: OutboxError, events: int) -> Deferred[None]:
        self._counters.increment("events_refused", events)
        return fail(error)

    # -- sending --------------------------------------------------------------------------------

    def _begin_gathering(self) -> None:
        self._gathering = Gathering(self._places)
        self._runs = self._gathering.runs
        self._is_hurried = not self._window_s
        self._room = MAX_GATHERED if self._is_hurried else ENOUGH_GATHERED

    def _choose_path(self) -> None:
        self._is_direct = (
            self._host_id is not None
            and not self._stopped
            and not self._holding.is_collecting
            and not (self._undated is not None and self._undated.is_taking)
        )

    def _turn_ended(self) -> None:
        self._flush_call = None
        self._flush()

    def _flush_if_full(self) -> None:
        if self._room <= 0:
            self._overflow()

    def _overflow(self) -> None:
        if not self._is_hurried:
            self._is_hurried = True
            self._room += MAX_GATHERED - ENOUGH_GATHERED
            if self._flush_call is not None:
                self._flush_call.reset(0)
            if self._room > 0:
                return
        # An owner that is settled may publish again at once. Sending that now would overtake the
        # rest of the gathering in progress; the end of the turn is soon enough.
        if not self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._send(self._end_gathering())

    def _end_gathering(self) -> Gathering:
        """Return what was gathered, for sending; the next gathering begins."""
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        gathering = self._gathering
        if gathering.runs:
            self._flushed_s = self._clock.seconds()
            self._begin_gathering()
        return gathering

    def _send(self, gathering: Gathering, is_late: bool = False) -> None:
        bundles = gathering.bundles()
        if not bundles:
            return
        was_flushing, self._flushing = self._flushing, True
        try:
            self._sender.send(bundles, is_late)
        finally:
            self._flushing = was_flushing
