"""What a line looks like."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.logs.lines import journal_line, json_line, text_line
from tests.logs.events import event, failure, legacy

AT = 1_700_000_000.25


def test_text_is_time_component_level_message() -> None:
    """One line, with the numbers in their places."""
    line = text_line(event("took {n:.1f} s", "warn", at=AT, n=1.25), " (note)")
    time, _, rest = line.partition(" ")
    assert datetime.strptime(time, "%Y-%m-%dT%H:%M:%S%z").timestamp() == 1_700_000_000
    assert rest == "[connector.link#warn] took 1.2 s (note)\n"


def test_a_traceback_follows_indented() -> None:
    """The first line says what happened, the others where."""
    first, *more = text_line(event("broken", "critical", log_failure=failure(ValueError("why"))))[
        :-1
    ].split("\n")
    assert first.endswith("broken")
    assert all(line.startswith("    ") for line in more)
    assert "ValueError: why" in more[-1]


@pytest.mark.parametrize(
    ("level", "mark"),
    [("debug", "<7>"), ("info", "<6>"), ("warn", "<4>"), ("error", "<3>"), ("critical", "<2>")],
)
def test_the_journal_is_told_the_priority(level: str, mark: str) -> None:
    """In front of every line; the time is the journal's."""
    broken = event("hello", level, log_failure=failure(ValueError("why")))
    lines = journal_line(broken).splitlines()
    assert lines[0] == f"{mark}[connector.link] hello"
    assert len(lines) > 1
    assert all(line.startswith(mark) for line in lines)


def test_json_has_the_fields() -> None:
    """Time in UTC with milliseconds, level, component, message, and the fields by name."""
    line = json.loads(json_line(event("took {n} s", "warn", at=AT, n=1.5, who="me")))
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warn",
        "component": "connector.link",
        "message": "took 1.5 s",
        "fields": {"n": 1.5, "who": "me"},
    }


def test_json_carries_the_traceback_on_its_line() -> None:
    """A line stays a line."""
    line = json_line(event("broken", "critical", log_failure=failure(ValueError("why"))))
    assert line.count("\n") == 1
    assert "ValueError: why" in json.loads(line)["traceback"]


def test_old_messages_are_lines_too() -> None:
    """What libraries log the old way has its text as its message."""
    line = json.loads(json_line(legacy("said the old way")))
    assert (line["component"], line["message"]) == ("twisted", "said the old way")
    assert "fields" not in line


def test_an_event_that_can_not_be_formatted_is_a_line() -> None:
    """A missing field is a defect of the caller, not of the log."""
    assert "nothing" in text_line(event("{nothing}"))


class Strange:
    """Not JSON, and large."""

    def __str__(self) -> str:
        return "x" * 10_000


@given(
    st.text(),
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: name != "level"),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just(Strange())
        ),
        max_size=4,
    ),
)
def test_one_event_is_one_line(text: str, fields: dict[str, Any]) -> None:
    """Whatever is in it, control characters and line separators included: nobody can forge a
    line."""
    fields = {name: value for name, value in fields.items() if name not in ("text", "at")}
    made = event("{said}", said=text, namespace="oda.x", **fields)
    assert len(text_line(made).splitlines()) == 1
    assert len(journal_line(made).splitlines()) == 1
    line = json_line(made)
    assert line.count("\n") == 1
    assert len(json.loads(line)["message"]) <= 4 * len(text) + 10
    assert len(line) < 4 * 10_000 + 20 * len(text)
