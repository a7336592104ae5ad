"""The catalogue of metrics, the code that counts, and the documentation say the same."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.internet.task import Clock

from oda.commands.outbox import WORDS
from oda.monitor.catalogue import COUNTERS, GAUGES, SUMMARIES, counter_name, plain_name
from oda.monitor.counters import Counters
from oda.monitor.reference import render
from oda.settings import OutboxSettings
from tests.monitor.snapshots import SNAPSHOT, snapshot
from tests.wire.fakes import memory_outbox

ROOT = Path(__file__).parents[2]
WORD = re.compile(r"[a-z]+(_[a-z]+)*")


def calls(method: str) -> Iterator[tuple[Path, ast.Call, ast.AST]]:
    """Every call ``<...>counters.<method>(...)`` of the agent's code, with the module around it.
    The outbox's ledger hands on to ``increment`` what it is told to have ``counted``."""
    for path in sorted((ROOT / "oda").rglob("*.py")):
        module = ast.parse(path.read_text())
        for node in ast.walk(module):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and (
                    (node.func.attr == method and "counters" in ast.unparse(node.func.value))
                    or (
                        (method, node.func.attr) == ("increment", "counted")
                        and "ledger" in ast.unparse(node.func.value)
                    )
                )
            ):
                yield path, node, module


def texts(node: ast.AST) -> set[str]:
    return {
        item.value
        for item in ast.walk(node)
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }


def named(call: ast.Call) -> re.Pattern[str] | None:
    """What the call's first argument may be: a literal, or one with parts filled in; None for a
    variable, whose values the other tests see."""
    first = call.args[0]
    if isinstance(first, ast.Constant):
        return re.compile(re.escape(str(first.value)))
    if isinstance(first, ast.JoinedStr):
        parts = [
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z_]+"
            for part in first.values
        ]
        return re.compile("".join(parts))
    return None


def check(method: str, known: Mapping[str, set[str]]) -> None:
    for path, call, _ in calls(method):
        name = named(call)
        if name is None:
            continue
        here = f"{path}:{call.lineno}: {name.pattern}"
        matching = [labels for source, labels in known.items() if name.fullmatch(source)]
        assert matching, f"{here} is not in oda/monitor/catalogue.py"
        given = {keyword.arg for keyword in call.keywords} - {"amount", None}
        assert all(given <= labels for labels in matching), f"{here} has other labels"


def test_everything_counted_is_in_the_catalogue() -> None:
    """A counter that is incremented under its literal name has a line, with its labels."""
    check("increment", {it.source: set(it.labels.values()) for it in COUNTERS})


def test_everything_measured_is_in_the_catalogue() -> None:
    """The same for summaries."""
    check("observe", {it.source: set(it.labels.values()) for it in SUMMARIES})


def test_everything_in_the_catalogue_is_counted() -> None:
    """No line stands for a counter that nothing increments (a renamed one, for example)."""
    counting = [
        path
        for path in (ROOT / "oda").rglob("*.py")
        if "monitor" not in path.parts and re.search("counters|ledger", path.read_text())
    ]
    counting.append(ROOT / "oda" / "monitor" / "latency.py")
    written = set().union(*(texts(ast.parse(path.read_text())) for path in counting))
    made = [
        name
        for _, call, _ in calls("increment")
        if isinstance(call.args[0], ast.JoinedStr) and (name := named(call)) is not None
    ]
    assert [
        it.source
        for it in (*COUNTERS, *SUMMARIES)
        if it.source not in written and not any(name.fullmatch(it.source) for name in made)
    ] == []


def test_every_state_of_the_outbox_is_shown() -> None:
    """Each message that ``counts`` tells of is in ``oda_outbox_rows``, under its state: a gauge
    that left one out would show an outbox emptier than it is."""
    outbox = memory_outbox(OutboxSettings(), Clock(), Counters())
    counts = outbox.counts()
    outbox.close()
    no_states = {"bytes", "uncommitted_bytes", "oldest_age_ms"}
    (rows,) = (it for it in GAUGES if it.name == "outbox_rows")
    shown = rows.read(snapshot(outbox=dict.fromkeys(counts, 7)))
    assert shown == {(state,): 7.0 for state in counts if state not in no_states}


def test_names_follow_the_conventions() -> None:
    """Words in snake_case, the unit at the end, nothing twice."""
    names = [counter_name(it) for it in COUNTERS]
    names += [plain_name(it.source) for it in SUMMARIES] + [plain_name(it.name) for it in GAUGES]
    assert len(names) == len(set(names))
    assert all(name.startswith("oda_") and WORD.fullmatch(name) for name in names)
    assert all(it.source.endswith("_seconds") for it in SUMMARIES)
    assert not [it.name for it in GAUGES if it.name.endswith("_total")]
    for it in (*COUNTERS, *SUMMARIES, *GAUGES):
        assert all(WORD.fullmatch(label) for label in it.labels)
        assert it.meaning.endswith(".")


def test_the_page_is_up_to_date() -> None:
    """Generate it again with ``python -m oda.monitor.reference > docs/metrics.md``."""
    assert (ROOT / "docs" / "metrics.md").read_text() == render()


def test_the_dashboard_shows_metrics_that_exist() -> None:
    """Every metric a panel asks for is one the agent, or its process collector, has."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "oda.json").read_text())
    names = {counter_name(it) for it in COUNTERS} | {plain_name(it.name) for it in GAUGES}
    names |= {plain_name(it.source) + end for it in SUMMARIES for end in ("_sum", "_count")}
    names |= {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(asked) > 10
    for expression in asked:
        used = set(re.findall(r"\b(?:oda|process)_[a-z_]+", expression))
        assert used, expression
        assert used <= names, expression


def test_one_word_for_each_state_of_a_message() -> None:
    """The metrics, the commands and docs/outbox.md name the states alike."""
    (rows,) = [one for one in GAUGES if one.name == "outbox_rows"]
    states = [state for (state,) in rows.read(SNAPSHOT)]
    assert states == list(WORDS)
    page = (ROOT / "docs" / "outbox.md").read_text()
    for state in states:
        word = state.replace("_", " ")
        assert f"| {word} |" in page
        assert f'`oda_outbox_rows{{state="{state}"}}`' in page
