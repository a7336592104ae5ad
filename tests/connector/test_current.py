"""The holder of the connector's settings."""

from __future__ import annotations

from oda.connector.current import CurrentSettings
from oda.settings import ConnectorSettings

BEFORE = ConnectorSettings(host="before", path="/")
AFTER = ConnectorSettings(host="after", path="/")


def test_watchers_are_told_when_the_settings_hold_already() -> None:
    """Each reads the new ones; the oldest is told first, with the need of a new connection."""
    settings = CurrentSettings(BEFORE)
    told: list[tuple[str, str, bool]] = []
    settings.watch(lambda reconnect: told.append(("one", settings.now.host, reconnect)))
    settings.watch(lambda reconnect: told.append(("two", settings.now.host, reconnect)))
    settings.replace(AFTER, reconnect=True)
    settings.replace(BEFORE, reconnect=False)
    assert told == [
        ("one", "after", True),
        ("two", "after", True),
        ("one", "before", False),
        ("two", "before", False),
    ]


def test_who_stops_watching_is_not_told() -> None:
    """Not even of a change that others are being told of at that moment."""
    settings = CurrentSettings(BEFORE)
    told: list[str] = []

    def second(reconnect: bool) -> None:
        told.append("second")

    def first(reconnect: bool) -> None:
        told.append("first")
        settings.unwatch(second)

    settings.watch(first)
    settings.watch(second)
    settings.replace(AFTER, reconnect=False)
    settings.unwatch(second)
    assert told == ["first"]


def test_who_begins_to_watch_is_told_of_the_next_change() -> None:
    """A watcher that goes on as a new one is not told of the same change twice."""
    settings = CurrentSettings(BEFORE)
    told: list[bool] = []

    def watcher(reconnect: bool) -> None:
        told.append(reconnect)
        settings.unwatch(watcher)
        settings.watch(watcher)

    settings.watch(watcher)
    settings.replace(AFTER, reconnect=False)
    assert told == [False]
    settings.replace(BEFORE, reconnect=True)
    assert told == [False, True]
