"""The connector's settings. One holder keeps them, and every part reads them at the moment of use.

No part keeps a value of its own, except where the value must not change halfway: a factory keeps
the settings that its connections are made with, an attempt its time limit. So a changed setting
holds from the next time a part reads it. A part that must act on the change itself watches the
holder:

- ``PlatformLink``: another address or identity needs another connection.
- ``Heartbeat``: the running keepalive gets its new interval.
"""

from __future__ import annotations

from collections.abc import Callable

from oda.settings import ConnectorSettings

#: ``watcher(reconnect)``: ``now`` has changed; ``reconnect`` says if that needs a new connection.
Watcher = Callable[[bool], None]


class CurrentSettings:
    """``now`` holds the current settings."""

    def __init__(self, settings: ConnectorSettings) -> None:
        self.now = settings
        self._watchers: list[Watcher] = []

    def replace(self, settings: ConnectorSettings, reconnect: bool) -> None:
        """Make ``settings`` the current ones, then call the watchers, the oldest first. A watcher
        that stops watching in the meantime is not called."""
        self.now = settings
        for watcher in tuple(self._watchers):
            if watcher in self._watchers:
                watcher(reconnect)

    def watch(self, watcher: Watcher) -> None:
        """Call ``watcher`` at every change."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Call ``watcher`` no more. Does nothing if it was not watching."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
