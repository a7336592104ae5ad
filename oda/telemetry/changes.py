"""Tells failures from failures known already, so that each is logged once. Pure."""

from __future__ import annotations

from collections.abc import Hashable


class FailureChanges:
    """Which of many things are failing now."""

    def __init__(self) -> None:
        self._failing: set[Hashable] = set()

    def failed(self, thing: Hashable) -> bool:
        """It failed; True when it had not before."""
        if thing in self._failing:
            return False
        self._failing.add(thing)
        return True

    def succeeded(self, thing: Hashable) -> bool:
        """It worked; True when it had failed before."""
        if thing not in self._failing:
            return False
        self._failing.discard(thing)
        return True

    def forget(self) -> None:
        """Begin anew: nothing is failing."""
        self._failing.clear()
