"""The catalogue in Prometheus' text format. Only this module imports prometheus_client, and it is
itself imported only when metrics are served, because that costs memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from oda.monitor.catalogue import COUNTERS, GAUGES, PREFIX, SUMMARIES, Counted, plain_name
from oda.monitor.counters import Counters, Labels
from oda.monitor.snapshot import Snapshot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


Value = TypeVar("Value")


class AgentCollector(Collector):
    """Reads everything at each scrape, so that counting stays cheap."""

    def __init__(self, counters: Counters, look: Callable[[], Snapshot]) -> None:
        self._counters = counters
        self._look = look

    def collect(self) -> Iterable[Metric]:
        """Every metric of the catalogue, as it is now."""
        yield from self._counts()
        yield from self._summaries()
        snapshot = self._look()
        for measured in GAUGES:
            gauge = GaugeMetricFamily(
                plain_name(measured.name), measured.meaning, labels=measured.labels
            )
            for values, value in measured.read(snapshot).items():
                gauge.add_metric(values, value)
            yield gauge

    def _counts(self) -> Iterator[Metric]:
        by_source = _by_source(self._counters.counts())
        for counted in COUNTERS:
            family = CounterMetricFamily(
                PREFIX + counted.source, counted.meaning, labels=counted.exposed_labels()
            )
            found = by_source.get(counted.source, [])
            if not found and not counted.labels:
                family.add_metric((), 0)  # a counter that exists from the start shows increases
            for labels, value in found:
                family.add_metric(_values(counted, labels), value)
            yield family

    def _summaries(self) -> Iterator[Metric]:
        by_source = _by_source(self._counters.summaries())
        for counted in SUMMARIES:
            family = SummaryMetricFamily(
                plain_name(counted.source), counted.meaning, labels=counted.exposed_labels()
            )
            for labels, summary in by_source.get(counted.source, []):
                family.add_metric(_values(counted, labels), summary.count, summary.total)
            yield family


class Exposition:
    """``render()`` is what ``/metrics`` answers."""

    def __init__(self, counters: Counters, look: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(AgentCollector(counters, look))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self._registry)


def _by_source(
    counted: Mapping[tuple[str, Labels], Value],
) -> dict[str, list[tuple[Labels, Value]]]:
    found: dict[str, list[tuple[Labels, Value]]] = {}
    for (source, labels), value in counted.items():
        found.setdefault(source, []).append((labels, value))
    return found


def _values(counted: Counted, labels: Labels) -> Sequence[str]:
    have = dict(labels)
    return [have.get(name, "") for name in counted.labels.values()]
