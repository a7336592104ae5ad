"""docs/metrics.md, made from the catalogue: ``python -m oda.monitor.reference`` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from oda.monitor.catalogue import COUNTERS, GAUGES, SUMMARIES, counter_name, plain_name

_HEAD = """\
# Metrics

With `monitorPort` in `es.amplia.oda.monitor.cfg` the agent serves these at `/metrics`, for
Prometheus and whatever reads its format; `deploy/grafana/oda.json` is a dashboard of them.
This page is generated (`python -m oda.monitor.reference > docs/metrics.md`).

Counters start at 0 with the agent. A summary has `_count` and `_sum`: their rates, one divided by
the other, are the mean. A series with labels appears when it first has a value. Beside these there
are the usual `process_*` metrics (memory, CPU, open files, start).

| metric | type | labels | meaning |
|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    rows = [
        *(_row(counter_name(it), "counter", it.labels, it.meaning) for it in COUNTERS),
        *(_row(plain_name(it.source), "summary", it.labels, it.meaning) for it in SUMMARIES),
        *(_row(plain_name(it.name), "gauge", it.labels, it.meaning) for it in GAUGES),
    ]
    return _HEAD + "".join(rows)


def _row(name: str, kind: str, labels: Iterable[str], meaning: str) -> str:
    shown = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {kind} | {shown} | {meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
