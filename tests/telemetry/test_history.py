"""The history: what is kept, for how long, and what a damaged file does."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda.model import Event
from oda.telemetry.history import History
from tests.telemetry import strategies


def values_of(history: History, name: str = "t", pattern: str = "*") -> list[Any]:
    return [item.event.value for item in history.unpublished(name, pattern)]


@pytest.mark.parametrize(
    "value",
    [
        *[0, 1, 1.0, True, False, None, "", "é☃", -(2**63), 2**64 - 1, 1e-300],
        *[[], {}, [1, 1.0, None, "x"], {"a": {"b": [True, 2.0]}}, b"\x00\xff"],
    ],
    ids=repr,
)
def test_values_come_back_with_their_type(value: Any) -> None:
    """1 stays an integer, 1.0 a float, True a boolean; null, unicode and nesting survive."""
    history = History(None, 10)
    event = Event("t", value, "d", 5, "f", ("gw", "x"), 3)
    history.add([event])
    (kept,) = history.latest("t", "d")
    assert kept.event == event
    assert repr(kept.event.value) == repr(value)


def test_it_survives_a_restart(tmp_path: Path) -> None:
    """What was added and marked is there after reopening; directories are made."""
    path = tmp_path / "deep" / "state.db"
    history = History(path, 10)
    (first, _), _ = history.add([Event("t", 1, at_ms=1), Event("t", 2, at_ms=2)])
    history.mark_published([first])
    history.close()
    again = History(path, 10)
    assert values_of(again) == [2]
    assert again.latest("t", "")[0].event.value == 2
    assert again.datastream_ids("") == {"t"}


def test_the_newest_wins_not_the_last_to_arrive() -> None:
    """An old event that arrives late does not become the latest value; of two with the same time
    the later arrival does; feeds are apart."""
    history = History(None, 10)
    history.add([Event("t", "new", at_ms=9), Event("t", "old", at_ms=3)])
    assert [item.event.value for item in history.latest("t", "")] == ["new"]
    history.add([Event("t", "newer", at_ms=9), Event("t", "fed", at_ms=1, feed="f")])
    assert [item.event.value for item in history.latest("t", "")] == ["newer", "fed"]


def test_only_max_data_values_are_kept_of_each_place() -> None:
    """The newest by time stay, per datastream and device; how many of those dropped were never
    published is told."""
    history = History(None, 3)
    (first, *_), lost = history.add([Event("t", n, at_ms=n) for n in (1, 2, 3)])
    assert lost == 0
    history.mark_published([first])
    _, lost = history.add([Event("t", 4, at_ms=4), Event("t", 5, "d", 5), Event("u", 6, at_ms=6)])
    assert lost == 0  # the one dropped had been published
    _, lost = history.add([Event("t", 0, at_ms=0), Event("t", 7, at_ms=7)])
    assert lost == 2  # 0, too old to stay, and 2
    assert values_of(history, pattern="") == [3, 4, 7]
    assert values_of(history, pattern="d") == [5]
    assert values_of(history, "u") == [6]


def test_old_values_are_forgotten() -> None:
    """forget() drops what is older than the time, and tells how many were never published."""
    history = History(None, 10)
    (first, *_), _ = history.add(
        [Event("t", n, at_ms=n) for n in (1, 2, 3)] + [Event("u", 1, "d", 1)]
    )
    history.mark_published([first])
    assert history.forget(3) == (3, 2)
    assert values_of(history) == [3]
    assert history.datastream_ids("*") == {"t"}
    assert history.forget(3) == (0, 0)


def test_devices_are_chosen_by_pattern() -> None:
    """ "" is the host only, an id that device, ``*`` all with the host first."""
    history = History(None, 10)
    history.add([Event("t", d, d, 1) for d in ("b", "a", "", "ab")])
    assert values_of(history, pattern="") == [""]
    assert values_of(history, pattern="a") == ["a"]
    assert values_of(history, pattern="a*") == ["a", "ab"]
    assert values_of(history, pattern="*b") == ["ab", "b"]
    assert values_of(history, pattern="*") == ["", "a", "ab", "b"]


@settings(max_examples=40)
@given(
    st.lists(st.lists(strategies.events, min_size=1, max_size=8), max_size=6),
    st.integers(1, 6),
    st.integers(0, 2**41),
)
def test_against_a_model(batches: list[list[Event]], most: int, before: int) -> None:
    """For any events: what is kept is what sorting by time and taking the newest says, also after
    forgetting."""
    history = History(None, most)
    model: dict[tuple[str, str], list[tuple[int, int, Any]]] = {}
    number = 0
    for batch in batches:
        history.add(batch)
        for event in batch:
            number += 1
            model.setdefault((event.datastream_id, event.device_id), []).append(
                (event.at_ms or 0, number, event.value)
            )
        for place, items in model.items():
            model[place] = sorted(items, key=lambda item: item[:2])[-most:]
    history.forget(before)
    for (name, device), items in model.items():
        expected = [value for at, _, value in items if at >= before]
        assert values_of(history, name, device) == expected
        assert (name in history.datastream_ids(device)) == bool(expected)


@pytest.mark.parametrize("how", ["text", "page", "header", "schema"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, how: str) -> None:
    """A file that is no database, is damaged inside, or of an unknown schema is renamed, and a
    fresh history begun in its place."""
    path = tmp_path / "state.db"
    history = History(path, 1000)
    history.add([Event("t", "x" * 100, at_ms=n) for n in range(500)])
    history.close()
    content = bytearray(path.read_bytes())
    if how == "text":
        content[:] = b"this is no database at all. " * 100
    elif how == "page":
        for start in range(4096, len(content) - 4096, 4096):
            content[start : start + 64] = b"\xff" * 64
    elif how == "header":  # the number of free pages, which no query looks at
        content[36:40] = (7).to_bytes(4, "big")
    path.write_bytes(content)
    if how == "schema":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        content = bytearray(path.read_bytes())
    history = History(path, 1000)
    assert values_of(history) == []
    history.add([Event("t", 1, at_ms=1)])
    assert values_of(history) == [1]
    assert Path(f"{path}.damaged").read_bytes() == bytes(content)


def test_starting_afresh_forgets_what_was_counted(tmp_path: Path) -> None:
    """After a file was set aside while running, nothing of it is known any more, and the bound
    counts from nothing."""
    history = History(tmp_path / "state.db", 2)
    history.add([Event("t", 1, at_ms=1), Event("t", 2, at_ms=2)])
    history.start_afresh("for a test")
    assert history.datastream_ids("*") == set()
    assert history.add([Event("t", 3, at_ms=3), Event("t", 4, at_ms=4)])[1] == 0
    assert values_of(history) == [3, 4]


def test_a_place_without_permission_is_an_error(tmp_path: Path) -> None:
    """A path that can't be a file is no damage: nothing is renamed, the caller hears of it."""
    with pytest.raises(sqlite3.Error):
        History(tmp_path, 10)
    assert tmp_path.is_dir()
