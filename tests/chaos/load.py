"""Datapoints without end, published through the agent's local socket, as ``oda send -`` does it.

What was acknowledged with ``ok`` counts as accepted, whatever happens to the agent afterwards. A
datapoint whose fate is unknown (the agent was killed before it could say) is never sent again, so
that every number arrives because of the agent or not at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from oda.commands.running_agent import connect_to_agent
from oda.control.client import ControlClient
from oda.control.wire import ControlError, Publish
from oda.model import Event
from tests.chaos.ledger import datapoint

#: So many datapoints are written at once.
_BURST = 4


class Load(threading.Thread):
    """Publishes about ``per_second`` datapoints, spread over ``datastreams``, until ``stop``."""

    def __init__(
        self,
        configuration: Path,
        per_second: float = 2000.0,
        datastreams: Sequence[str] = ("a", "b", "c"),
    ) -> None:
        super().__init__(daemon=True)
        self._configuration = configuration
        self._pause_s = _BURST / per_second
        self._datastreams = datastreams
        self._number = 0
        self._stopped = threading.Event()
        self.accepted: dict[str, list[int]] = {name: [] for name in datastreams}
        self.refusals: list[str] = []
        self._taking = threading.Event()

    @property
    def accepted_count(self) -> int:
        return sum(len(numbers) for numbers in self.accepted.values())

    @property
    def sent_count(self) -> int:
        return self._number

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                client = connect_to_agent(self._configuration)
            except ControlError:
                self._stopped.wait(0.01)  # the agent is not there yet
                continue
            with client:
                self._taking.set()
                self._feed(client)
                self._taking.clear()

    def wait_until_taken(self, timeout_s: float = 30.0) -> None:
        """Return once an agent takes datapoints."""
        assert self._taking.wait(timeout_s), "the agent takes no datapoints"

    def stop(self) -> None:
        """Write nothing more, and take in what is still acknowledged."""
        self._stopped.set()
        self.join(30)
        assert not self.is_alive(), "the agent neither answers nor ends the connection"

    def give_up(self) -> None:
        """Write nothing more, whatever becomes of what was written."""
        self._stopped.set()

    def _feed(self, client: ControlClient) -> None:
        sent: list[tuple[str, int]] = []
        reader = threading.Thread(target=self._listen, args=(client, sent), daemon=True)
        reader.start()
        due_s = time.monotonic()
        try:
            while not self._stopped.is_set() and reader.is_alive():
                for _ in range(_BURST):
                    self._send_one(client, sent)
                due_s = max(due_s + self._pause_s, time.monotonic() - 1.0)
                self._stopped.wait(max(0.0, due_s - time.monotonic()))
        except ControlError:
            pass  # killed
        client.finish()
        reader.join(30)

    def _send_one(self, client: ControlClient, sent: list[tuple[str, int]]) -> None:
        number = self._number
        self._number += 1
        name = self._datastreams[number % len(self._datastreams)]
        point = datapoint(name, number)
        sent.append((name, number))
        client.send(Publish(Event(name, point["value"], at_ms=point["at"])))

    def _listen(self, client: ControlClient, sent: list[tuple[str, int]]) -> None:
        taken = 0
        try:
            for answer in client.answers():
                accepted = answer.get("ok", taken)
                for name, number in sent[taken:accepted]:
                    self.accepted[name].append(number)
                taken = accepted
                if "error" in answer:
                    self.refusals.append(answer["error"])
        except (ControlError, OSError):
            return  # killed in the middle of a line
