"""The connector's settings: one holder, which every part of it reads at the moment of use.

Nobody keeps a value of the settings, but for those that must not change under way: a factory keeps
what its connections are made with, an attempt its time limit. So a setting holds from the next time
that somebody reads it. A part that has to act at the moment of the change watches the holder:

- ``PlatformLink``: another address or identity needs another connection.
- ``Heartbeat``: a keepalive that runs gets its new interval.
"""

from __future__ import annotations

from collections.abc import Callable

from oda.settings import ConnectorSettings

#: ``watcher(reconnect)`` is told that ``now`` is another, and whether a new connection is needed.
Watcher = Callable[[bool], None]


class CurrentSettings:
    """``now`` are the settings that hold."""

    def __init__(self, settings: ConnectorSettings) -> None:
        self.now = settings
        self._watchers: list[Watcher] = []

    def replace(self, settings: ConnectorSettings, reconnect: bool) -> None:
        """``settings`` hold from now on; then the watchers are told, the oldest first. One that
        stops watching meanwhile is not told."""
        self.now = settings
        for watcher in tuple(self._watchers):
            if watcher in self._watchers:
                watcher(reconnect)

    def watch(self, watcher: Watcher) -> None:
        """Tell ``watcher`` of every change."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell ``watcher`` of nothing any more; it may have been told of nothing before."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
