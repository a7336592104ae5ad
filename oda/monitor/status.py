"""The agent's status: as data for programs, as one screen for people, as one line for systemd.

Pure. ``oda status --json`` prints the data; the member names don't change from version to version.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from oda.model import ConnectionStatus, LinkState
from oda.monitor.counters import Counters
from oda.monitor.health import judge
from oda.monitor.snapshot import Snapshot
from oda.troubles import Trouble
from oda.wording import counted

#: Counters that show that something went wrong: name, what is counted, and what happened to it.
_INCIDENTS = (
    ("messages_dropped", "message", "dropped"),
    ("messages_dead", "message", "set aside as refused by the platform"),
    ("dead_letters_forgotten", "message", "set aside and then forgotten for lack of room"),
    ("messages_refused", "message", "not accepted by the outbox"),
    ("events_rejected", "datapoint", "refused as not sendable"),
    ("events_undated_lost", "datapoint", "lost before the clock was right"),
    ("readings_failed", "reading", "failed"),
    ("polls_missed", "reading", "skipped because the one before had not ended"),
    ("answers_lost", "operation", "with a lost answer"),
    ("pong_timeouts", "connection", "given up for lack of a pong"),
)


#: How many troubles the screen shows.
_MAX_SHOWN = 10


def build_status(snapshot: Snapshot, counters: Counters) -> dict[str, Any]:
    """Everything worth knowing now. Times are seconds, ``*_ms`` milliseconds."""
    connection = snapshot.connection
    readiness = judge(connection)
    return {
        "state": readiness.state(snapshot.troubles).value,
        "version": snapshot.version,
        "device": snapshot.device_id,
        "uptime_s": round(snapshot.uptime_s, 1),
        "ready": readiness.ready,
        "reasons": list(readiness.reasons),
        "connection": {
            "state": connection.state.value,
            "url": connection.url,
            "since_s": round(connection.since_s, 1),
            "retry_in_s": _rounded(connection.retry_in_s),
            "last_end": connection.last_end,
            "opened": counters.count("connections_opened"),
            "acknowledges": readiness.acknowledges,
            "ping_waits_s": _rounded(connection.ping_waits_s),
            "keep_alive_s": connection.keep_alive_s,
            "round_trip_s": counters.last("barrier_round_trip_seconds"),
            "platform_certificate_ends_ms": connection.platform_certificate_ends_ms,
            "client_certificate_ends_ms": connection.client_certificate_ends_ms,
        },
        "outbox": dict(snapshot.outbox),
        "messages": {
            name: counters.count(f"messages_{name}")
            for name in ("accepted", "sent", "acknowledged", "resent", "received")
        },
        "datapoints": {
            "accepted": counters.count("events_accepted"),
            "acknowledged": counters.count("datapoints_acknowledged"),
            "without_time": snapshot.undated,
        },
        "operations": {
            "answered": counters.count("operations"),
            "failed": counters.count("operations")
            - counters.count("operations", result="SUCCESSFUL"),
            "running": snapshot.operations_unanswered,
        },
        "readings": {
            "done": counters.count("readings"),
            "failed": counters.count("readings_failed"),
        },
        "reactor_latency_s": {
            "last": round(snapshot.latency_s, 4),
            "max": round(snapshot.latency_max_s, 4),
        },
        "troubles": [_trouble(one, snapshot) for one in snapshot.troubles],
        "incidents": [
            {
                "code": name,
                "count": count,
                "text": counted(count, noun).partition(" ")[2] + " " + meaning,
                "since_ms": _at_ms(counters.first_s(name) or 0.0, snapshot),
            }
            for name, noun, meaning in _INCIDENTS
            if (count := counters.count(name))
        ],
    }


def _trouble(trouble: Trouble, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "code": trouble.kind.value,
        "subject": trouble.subject,
        "text": trouble.text,
        "since_ms": _at_ms(trouble.since_s, snapshot),
        "for_s": round(snapshot.now_s - trouble.since_s, 1),
    }


def _at_ms(at_s: float, snapshot: Snapshot) -> int:
    """A moment of the monotonic clock as a time of day."""
    return snapshot.now_ms - round((snapshot.now_s - at_s) * 1000)


def render_status(status: dict[str, Any]) -> str:
    """One screen, from the result of ``build_status`` (perhaps sent through a socket)."""
    connection, outbox, messages = status["connection"], status["outbox"], status["messages"]
    rows = [
        ("agent", f"version {status['version']}, up {duration(status['uptime_s'])}"),
        ("device", status["device"] or "not known yet"),
        ("ready", _ready(status)),
        ("connection", f"{connection['state']} for {duration(connection['since_s'])}"),
        ("", connection["url"]),
    ]
    if connection["state"] not in ("open", "waiting"):
        rows[3] = ("connection", connection["state"])
    if connection["retry_in_s"] is not None:
        rows.append(("", f"next attempt in {connection['retry_in_s']:g} s"))
    if connection["round_trip_s"] is not None:
        rows.append(("", f"round trip {connection['round_trip_s'] * 1000:.0f} ms"))
    if not connection["acknowledges"]:
        rows.append(("", "the platform answers no pings: deliveries are not acknowledged"))
    waiting = (
        f"{outbox.get('waiting', 0)} waiting, {outbox.get('in_flight', 0)} in flight,"
        f" {outbox.get('lingering', 0)} lingering"
    )
    age_ms = outbox.get("oldest_age_ms")
    if age_ms:
        waiting += f", the oldest {duration(age_ms / 1000)} old"
    rows += [
        ("outbox", f"{waiting}, {_bytes(outbox.get('bytes', 0))}"),
        (
            "messages",
            f"{messages['accepted']} accepted, {messages['sent']} sent"
            f" ({messages['resent']} of them again), {messages['acknowledged']} acknowledged"
            " (with repeats)",
        ),
        (
            "datapoints",
            f"{status['datapoints']['accepted']} accepted,"
            f" {status['datapoints']['acknowledged']} acknowledged"
            " (with repeats)",
        ),
        (
            "operations",
            f"{status['operations']['answered']} answered,"
            f" {status['operations']['failed']} of them not successful,"
            f" {status['operations']['running']} running",
        ),
        ("readings", f"{status['readings']['done']}, {status['readings']['failed']} failed"),
        (
            "reactor",
            f"at most {status['reactor_latency_s']['max'] * 1000:.0f} ms late in the last 5 min",
        ),
    ]
    rows += _told("trouble", [told_trouble(one) for one in status["troubles"]])
    rows += _told(
        "so far",
        [
            f"{one['count']} {one['text']}, the first {_told_time(one['since_ms'])}"
            for one in status["incidents"]
        ],
    )
    return "\n".join(f"{name:<11} {text}".rstrip() for name, text in rows) + "\n"


def _ready(status: dict[str, Any]) -> str:
    if not status["ready"]:
        return "NO: " + "; ".join(status["reasons"])
    return "yes, but something is wrong: see trouble" if status["troubles"] else "yes"


def _told(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """The first ones, and how many more there are."""
    shown = list(texts[:_MAX_SHOWN])
    if len(texts) > _MAX_SHOWN:
        shown.append(f"and {len(texts) - _MAX_SHOWN} more (see --json)")
    return [(name if number == 0 else "", text) for number, text in enumerate(shown)]


def told_trouble(trouble: dict[str, Any]) -> str:
    """One of ``troubles`` for people: code, subject, text, for how long."""
    subject = f"{trouble['subject']}: " if trouble["subject"] else ""
    return f"{trouble['code']}: {subject}{trouble['text']} (for {duration(trouble['for_s'])})"


def _told_time(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_ms / 1000))


def status_line(
    connection: ConnectionStatus, waiting: int, troubles: Sequence[Trouble] = ()
) -> str:
    """One line for ``systemctl status``, without anything that changes every second."""
    if connection.state is LinkState.OPEN:
        readiness = judge(connection)
        text = f"connected to {connection.url}"
        if not readiness.ready:
            text += f", but {readiness.reasons[0]}"
    else:
        text = f"not connected ({connection.state.value})"
        if connection.last_end:
            text += f": {connection.last_end}"
        if waiting:
            text += f"; {counted(waiting, 'message')} waiting"
    kinds = dict.fromkeys(one.kind.value for one in troubles)
    return f"{text}; trouble: {', '.join(kinds)}" if kinds else text


def duration(seconds: float) -> str:
    """``seconds`` for people: 42 s, 3 min 5 s, 2 h 0 min, 17 d 3 h."""
    whole = int(seconds)
    for size, unit, smaller, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def _bytes(count: int) -> str:
    if count < 1024:
        return f"{count} bytes"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
