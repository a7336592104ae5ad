"""docs/metrics.md, made from the catalogue: ``python -m oda.monitor.reference`` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from oda.monitor.catalogue import COUNTERS, GAUGES, SUMMARIES, counter_name, plain_name

_HEAD = """\
# Metrics

With `monitorPort` in `es.amplia.oda.monitor.cfg`, the agent serves these metrics at `/metrics`, for
Prometheus and everything else that reads its format. `deploy/grafana/oda.json` is a dashboard for
them. This page is generated (`python -m oda.monitor.reference > docs/metrics.md`).

Counters start at 0 with the agent. A summary has `_count` and `_sum`; the rate of `_sum` divided by
the rate of `_count` is the mean. A series with labels appears when it first has a value. The usual
`process_*` metrics (memory, CPU, open files, start) are there as well.

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
