"""Counts in plain dictionaries: cheap to increment, and read only on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zope.interface import implementer

from oda.interfaces import ICounters

Labels = tuple[tuple[str, str], ...]


class Summary:
    """The number of measurements, their total, and the last one."""

    __slots__ = ("count", "last", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.last = 0.0


class _Count:
    """The value of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


@implementer(ICounters)
class Counters:
    """The agent's counters and summaries, by name and labels. ``seconds`` is the reactor's
    clock."""

    def __init__(self, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._seconds = seconds
        self._counts: dict[tuple[str, Labels], _Count] = {}
        self._first_s: dict[str, float] = {}
        self._summaries: dict[tuple[str, Labels], Summary] = {}
        #: The same counters and summaries by their labels in the order of each caller: every
        #: message increments some, and sorting the labels costs more than counting.
        self._called: dict[tuple[object, ...], _Count] = {}
        self._observed: dict[tuple[object, ...], Summary] = {}

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        call = (name, *labels.items())
        count = self._called.get(call)
        if count is None:
            self._first_s.setdefault(name, self._seconds())
            count = self._counts.setdefault((name, _sorted(labels)), _Count())
            self._called[call] = count
        count.value += amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        call = (name, *labels.items())
        summary = self._observed.get(call)
        if summary is None:
            summary = self._summaries.setdefault((name, _sorted(labels)), Summary())
            self._observed[call] = summary
        summary.count += 1
        summary.total += value
        summary.last = value

    def count(self, name: str, **labels: str) -> int:
        """The counter ``name``, summed over all labels that are not given."""
        wanted = set(labels.items())
        return sum(
            one.value
            for (counted, have), one in self._counts.items()
            if counted == name and wanted <= set(have)
        )

    def first_s(self, name: str) -> float | None:
        """When the counter ``name`` was first incremented; None if it never was."""
        return self._first_s.get(name)

    def last(self, name: str) -> float | None:
        """The newest measurement of ``name`` (without labels), None if there is none."""
        summary = self._summaries.get((name, ()))
        return None if summary is None else summary.last

    def counts(self) -> Mapping[tuple[str, Labels], int]:
        """Every counter as it is now."""
        return {key: one.value for key, one in self._counts.items()}

    def summaries(self) -> Mapping[tuple[str, Labels], Summary]:
        """Every summary as it is now."""
        return dict(self._summaries)


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
