"""What Prometheus reads."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from oda.model import LinkState
from oda.monitor.catalogue import COUNTERS, GAUGES, SUMMARIES, counter_name, plain_name
from oda.monitor.counters import Counters
from oda.monitor.exposition import Exposition
from oda.monitor.snapshot import Snapshot
from tests.monitor.snapshots import SNAPSHOT, connection, snapshot


def samples(
    counters: Counters | None = None, shown: Snapshot = SNAPSHOT
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels, as a Prometheus parser reads them."""
    text = Exposition(counters or Counters(), lambda: shown).render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def only(name: str, found: dict[Any, float]) -> dict[tuple[tuple[str, str], ...], float]:
    return {labels: value for (known, labels), value in found.items() if known == name}


def test_every_metric_of_the_catalogue_is_declared() -> None:
    """Name, help and type are there from the start, whether there is a value or not."""
    text = Exposition(Counters(), lambda: SNAPSHOT).render().decode()
    for counted in COUNTERS:
        assert f"# TYPE {counter_name(counted)} counter" in text
        assert f"# HELP {counter_name(counted)} {counted.meaning}" in text
    for counted in SUMMARIES:
        assert f"# TYPE {plain_name(counted.source)} summary" in text
    for measured in GAUGES:
        assert f"# TYPE {plain_name(measured.name)} gauge" in text


def test_counters_have_the_exposed_labels() -> None:
    """What the code calls ``message_class`` is ``class``; a label not given is empty."""
    counters = Counters()
    counters.increment("messages_sent", 3, message_class="telemetry")
    counters.increment("messages_sent", message_class="response")
    counters.increment("messages_dropped", 2, reason="stopped")
    found = samples(counters)
    assert only("oda_messages_sent_total", found) == {
        (("class", "telemetry"),): 3.0,
        (("class", "response"),): 1.0,
    }
    assert only("oda_messages_dropped_total", found) == {
        (("class", ""), ("reason", "stopped")): 2.0
    }


def test_counters_without_labels_begin_at_zero() -> None:
    """So that the first increase shows in a rate."""
    assert only("oda_connections_opened_total", samples()) == {(): 0.0}


def test_summaries_have_count_and_sum() -> None:
    """By label where there is one."""
    counters = Counters()
    counters.observe("operation_seconds", 2.0, operation="REFRESH_INFO")
    counters.observe("operation_seconds", 0.5, operation="REFRESH_INFO")
    found = samples(counters)
    labels = (("operation", "REFRESH_INFO"),)
    assert only("oda_operation_seconds_count", found) == {labels: 2.0}
    assert only("oda_operation_seconds_sum", found) == {labels: 2.5}


def test_gauges_show_the_moment() -> None:
    """State, outbox, versions and times are read when asked."""
    found = samples()
    states = only("oda_connection_state", found)
    assert states.pop((("state", "open"),)) == 1.0
    assert set(states.values()) == {0.0}
    assert len(states) == len(LinkState) - 1
    assert only("oda_outbox_rows", found)[(("state", "waiting"),)] == 3.0
    assert only("oda_outbox_bytes", found) == {(): 2048.0}
    assert only("oda_ready", found) == {(): 1.0}
    assert only("oda_build_info", found) == {
        (("python", "3.11.0"), ("twisted", "26.10.0"), ("version", "1.2.3")): 1.0
    }


def test_what_is_not_known_is_not_shown() -> None:
    """No certificate, no outstanding ping, no age: no sample, rather than a wrong one."""
    found = samples()
    for name in (
        "certificate_ends_timestamp_seconds",
        "ping_waits_seconds",
        "reconnect_in_seconds",
    ):
        assert only(f"oda_{name}", found) == {}
    assert only("oda_outbox_oldest_age_seconds", found) == {}


def test_what_is_known_is_shown() -> None:
    """Seconds everywhere, though the agent keeps some times in milliseconds."""
    shown = snapshot(
        connection=connection(ping_waits_s=1.5, platform_certificate_ends_ms=2_000_000_000_000),
        outbox={**SNAPSHOT.outbox, "oldest_age_ms": 1500},
    )
    found = samples(shown=shown)
    assert only("oda_ping_waits_seconds", found) == {(): 1.5}
    assert only("oda_outbox_oldest_age_seconds", found) == {(): 1.5}
    assert only("oda_certificate_ends_timestamp_seconds", found) == {
        (("certificate", "platform"),): 2e9
    }


def test_the_process_is_measured_too() -> None:
    """Memory and CPU, by the names every exporter uses."""
    assert only("process_resident_memory_bytes", samples())[()] > 0
