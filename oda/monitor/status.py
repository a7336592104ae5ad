"""The agent's status: as data for programs, as one screen for people, as one line for systemd.

Pure. The data is what ``oda status --json`` prints; its member names are kept from version to
version.
"""

from __future__ import annotations

from typing import Any

from oda.model import ConnectionStatus, LinkState
from oda.monitor.counters import Counters
from oda.monitor.health import certificate_warnings, judge
from oda.monitor.snapshot import Snapshot

#: Counters that say that something went wrong: name, and what is said of them.
_TROUBLES = (
    ("messages_dropped", "messages dropped"),
    ("messages_dead", "messages set aside as refused by the platform"),
    ("dead_letters_forgotten", "of the messages set aside forgotten for want of room"),
    ("messages_refused", "messages not accepted by the outbox"),
    ("events_rejected", "datapoints that can't be sent"),
    ("events_undated_lost", "datapoints lost that waited until the clock is right"),
    ("readings_failed", "readings failed"),
    ("polls_missed", "readings left out"),
    ("answers_lost", "answers to operations lost"),
    ("pong_timeouts", "connections given up for want of a pong"),
)


def build_status(snapshot: Snapshot, counters: Counters) -> dict[str, Any]:
    """Everything worth knowing, as it is now. Times are seconds, ``*_ms`` milliseconds."""
    connection = snapshot.connection
    readiness = judge(connection)
    return {
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
        "troubles": [
            *certificate_warnings(connection, snapshot.now_ms),
            *_waiting_for_the_clock(snapshot.undated),
            *(
                f"{count} {meaning}"
                for name, meaning in _TROUBLES
                if (count := counters.count(name))
            ),
        ],
    }


def _waiting_for_the_clock(undated: int) -> list[str]:
    return [f"{undated} datapoints wait until the clock is right"] if undated else []


def render_status(status: dict[str, Any]) -> str:
    """One screen, from what ``build_status`` made (on the other side of a socket, perhaps)."""
    connection, outbox, messages = status["connection"], status["outbox"], status["messages"]
    rows = [
        ("agent", f"version {status['version']}, up {duration(status['uptime_s'])}"),
        ("device", status["device"] or "not known yet"),
        ("ready", "yes" if status["ready"] else "NO: " + "; ".join(status["reasons"])),
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
    waiting = f"{outbox.get('pending', 0)} waiting, {outbox.get('in_flight', 0)} on their way"
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
    rows += [("trouble" if i == 0 else "", text) for i, text in enumerate(status["troubles"])]
    return "\n".join(f"{name:<11} {text}".rstrip() for name, text in rows) + "\n"


def status_line(connection: ConnectionStatus, pending: int) -> str:
    """One line, for ``systemctl status``. It says nothing that changes every second."""
    if connection.state is LinkState.OPEN:
        readiness = judge(connection)
        text = f"connected to {connection.url}"
        return text if readiness.ready else f"{text}, but {readiness.reasons[0]}"
    text = f"not connected ({connection.state.value})"
    if connection.last_end:
        text += f": {connection.last_end}"
    return f"{text}; {pending} messages waiting" if pending else text


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
