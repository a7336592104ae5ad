"""Every metric of the agent: its name for Prometheus, its meaning, and its source.

The exposition and docs/metrics.md are made from these tables. A counter in the code that is missing
here is not shown (and a test fails); adding one takes one line. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from oda.model import LinkState
from oda.monitor.health import judge
from oda.monitor.snapshot import Snapshot
from oda.troubles import TroubleKind

PREFIX = "oda_"

_CLASS = {"class": "message_class"}


@dataclass(frozen=True)
class Counted:
    """A counter or summary of ``ICounters``. ``labels`` maps exposed names to the names in the
    code."""

    source: str
    meaning: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def exposed_labels(self) -> tuple[str, ...]:
        return tuple(self.labels)


@dataclass(frozen=True)
class Measured:
    """A gauge read from a ``Snapshot``: values by label values; empty if unknown."""

    name: str
    meaning: str
    read: Callable[[Snapshot], Mapping[tuple[str, ...], float]]
    labels: tuple[str, ...] = ()


_Values = Mapping[tuple[str, ...], float]


def _one(read: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], _Values]:
    def values(snapshot: Snapshot) -> _Values:
        value = read(snapshot)
        return {} if value is None else {(): float(value)}

    return values


def _states(snapshot: Snapshot) -> _Values:
    return {(state.value,): float(state is snapshot.connection.state) for state in LinkState}


def _peer(snapshot: Snapshot) -> _Values:
    return {(snapshot.connection.peer_class,): 1.0}


def _rows(snapshot: Snapshot) -> _Values:
    # The words of docs/outbox.md.
    states = ("waiting", "in_flight", "lingering", "recovering", "dead")
    return {(state,): float(snapshot.outbox.get(state, 0)) for state in states}


def _troubles(snapshot: Snapshot) -> _Values:
    counts = Counter(one.kind for one in snapshot.troubles)
    return {(kind.value,): float(counts[kind]) for kind in TroubleKind}


def _build(snapshot: Snapshot) -> _Values:
    return {(snapshot.version, snapshot.python, snapshot.twisted): 1.0}


def _certificates(snapshot: Snapshot) -> _Values:
    connection = snapshot.connection
    ends = {
        "platform": connection.platform_certificate_ends_ms,
        "client": connection.client_certificate_ends_ms,
    }
    return {(whose,): end / 1000 for whose, end in ends.items() if end is not None}


def _oldest(snapshot: Snapshot) -> float | None:
    age_ms = snapshot.outbox.get("oldest_age_ms")
    return None if age_ms is None else age_ms / 1000


COUNTERS = (
    Counted("connections_opened", "Connections opened."),
    Counted("disconnects", "Connections and attempts that ended, by reason.", {"reason": "reason"}),
    Counted("pong_timeouts", "Connections given up because a pong did not arrive in time."),
    Counted("pongs_foreign", "Pongs that answered no ping of the agent."),
    Counted("messages_accepted", "Messages accepted for delivery."),
    Counted("messages_refused", "Messages that the outbox did not accept.", _CLASS),
    Counted("messages_sent", "Messages sent, each repetition counted.", _CLASS),
    Counted("messages_resent", "Messages sent that had been sent before.", _CLASS),
    Counted("messages_acknowledged", "Messages that the platform has provably read.", _CLASS),
    Counted("messages_delivered", "Acknowledged messages that are no longer retained.", _CLASS),
    Counted(
        "messages_dropped",
        "Accepted messages that were dropped, by reason.",
        {**_CLASS, "reason": "reason"},
    ),
    Counted("messages_dead", "Messages set aside because the platform refuses them.", _CLASS),
    Counted(
        "dead_letters_forgotten",
        "Dead letters that were forgotten, the oldest first, because there were too many.",
    ),
    Counted("datapoints_accepted", "Datapoints in messages accepted."),
    Counted("datapoints_sent", "Datapoints in messages sent."),
    Counted("datapoints_acknowledged", "Datapoints in messages acknowledged."),
    Counted("datapoints_delivered", "Datapoints in messages delivered.", _CLASS),
    Counted(
        "datapoints_dropped", "Datapoints in messages dropped.", {**_CLASS, "reason": "reason"}
    ),
    Counted("datapoints_dead", "Datapoints in messages set aside.", _CLASS),
    Counted("events_accepted", "Datapoints accepted for publishing."),
    Counted("scripts_unkillable", "Scripts that could not be killed, and were left behind."),
    Counted(
        "values_not_sendable",
        "Values omitted from an answer to REFRESH_INFO because no format carries them.",
    ),
    Counted("events_rejected", "Datapoints that can't be published (their value, their name)."),
    Counted(
        "events_refused",
        "Datapoints not accepted: no room in the outbox, no device id known, the agent stopping.",
    ),
    Counted(
        "events_undated",
        "Datapoints kept because the clock was not right; they are sent once it is.",
    ),
    Counted(
        "events_undated_lost",
        "Datapoints lost before the clock was right, by reason (full, damaged, stopped).",
        {"reason": "reason"},
    ),
    Counted("collected_early", "Collections published before their time because they grew large."),
    Counted("readings", "Datastreams read by the poller."),
    Counted("readings_failed", "Readings that failed."),
    Counted("polls_missed", "Readings skipped because the one before had not ended."),
    Counted("collections", "Collections published on schedule."),
    Counted("collections_failed", "Collections that could not be published."),
    Counted("collections_missed", "Collections skipped because the one before had not ended."),
    Counted(
        "values_forgotten_unpublished",
        "Kept values lost before they were published: too old, too many, or with their file.",
    ),
    Counted("values_not_kept", "Values that the in-memory state manager could not store."),
    Counted("messages_received", "Messages from the platform."),
    Counted("messages_ignored", "Messages received that are not operations.", {"cause": "cause"}),
    Counted(
        "operations",
        "Operations answered, by name and result.",
        {"operation": "operation", "result": "result"},
    ),
    Counted("operations_repeated", "Requests received again.", {"operation": "operation"}),
    Counted("operations_interrupted", "Operations that the end of an earlier process cut short."),
    Counted("operations_resumed", "Operations that continued after a restart of the agent."),
    Counted("operation_partial_answers", "Partial answers sent.", {"operation": "operation"}),
    Counted(
        "journal_entries_forgotten",
        "Answered operations that are no longer remembered: too old, or too many.",
    ),
    Counted(
        "journal_answers_forgotten",
        "Answers that the journal forgot early, to make room.",
    ),
    Counted("answers_lost", "Answers to operations that the outbox did not accept."),
    Counted("dispatcher_failures", "Messages on which the dispatcher failed."),
    Counted("reloads", "Changes of the configuration, by result.", {"result": "result"}),
)

SUMMARIES = (
    Counted("barrier_round_trip_seconds", "Time from a ping to its pong."),
    Counted("reconnect_delay_seconds", "Pauses before connecting again."),
    Counted("operation_seconds", "Duration of operations.", {"operation": "operation"}),
    Counted("reactor_latency_seconds", "How late the reactor served a timer."),
)

GAUGES = (
    Measured(
        "build_info", "The versions in use; always 1.", _build, ("version", "python", "twisted")
    ),
    Measured("uptime_seconds", "Time since the agent started.", _one(lambda now: now.uptime_s)),
    Measured(
        "ready",
        "1 when connected and acknowledged in time.",
        _one(lambda now: judge(now.connection).ready),
    ),
    Measured(
        "trouble",
        "How many things of each kind are wrong now; see troubles.md.",
        _troubles,
        ("kind",),
    ),
    Measured(
        "connection_state", "1 for the state the connection is in, else 0.", _states, ("state",)
    ),
    Measured(
        "connection_since_seconds",
        "How long the connection has been open, or the agent has waited for it.",
        _one(lambda now: now.connection.since_s),
    ),
    Measured(
        "reconnect_in_seconds",
        "Time to the next attempt, while waiting for it.",
        _one(lambda now: now.connection.retry_in_s),
    ),
    Measured(
        "peer_class_info",
        "How the platform answers pings: pong, none, unusable.",
        _peer,
        ("peer_class",),
    ),
    Measured(
        "ping_waits_seconds",
        "How long the unanswered ping has been waiting.",
        _one(lambda now: now.connection.ping_waits_s),
    ),
    Measured(
        "unacknowledged_messages",
        "Messages sent on this connection that are not proven yet.",
        _one(lambda now: now.connection.unacknowledged),
    ),
    Measured("outbox_rows", "Messages in the outbox, by state.", _rows, ("state",)),
    Measured(
        "outbox_bytes",
        "Size of the outbox, in bytes as it needs them on disk.",
        _one(lambda now: now.outbox.get("bytes")),
    ),
    Measured(
        "outbox_oldest_age_seconds",
        "Age of the oldest message that is not acknowledged.",
        _one(_oldest),
    ),
    Measured(
        "undated_datapoints",
        "Datapoints that wait until the clock is right.",
        _one(lambda now: now.undated),
    ),
    Measured(
        "operations_unanswered",
        "Operations that are running or waiting.",
        _one(lambda now: now.operations_unanswered),
    ),
    Measured(
        "reactor_latency_max_seconds",
        "The worst reactor latency of the last five minutes.",
        _one(lambda now: now.latency_max_s),
    ),
    Measured(
        "certificate_ends_timestamp_seconds",
        "When certificates expire, since the Unix epoch.",
        _certificates,
        ("certificate",),
    ),
)


def counter_name(counted: Counted) -> str:
    """The name of a counter in Prometheus."""
    return f"{PREFIX}{counted.source}_total"


def plain_name(source: str) -> str:
    """The name of a summary or gauge."""
    return PREFIX + source
