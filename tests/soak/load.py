"""A steady stream of numbered datapoints through the agent's local socket."""

from __future__ import annotations

import threading
import time

from oda.control.client import ControlClient
from oda.control.wire import Publish
from oda.errors import OdaError
from oda.model import Event

STREAMS = 10
#: The time of datapoint 0; number n is n milliseconds later, so that no two are alike.
EPOCH_MS = 1_700_000_000_000
_TICK_S = 0.02


class Load:
    """Publishes number after number until ``stop``; ``accepted`` is how many the agent has taken.

    A thread writes at the rate wished for, another reads the acknowledgements.
    """

    def __init__(self, client: ControlClient, rate: int) -> None:
        self._client = client
        self._rate = rate
        self._is_over = threading.Event()
        self.produced = 0
        self.accepted = 0
        self.problem: str | None = None
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._writer.start()
        self._reader.start()

    def stop(self) -> None:
        """Produce no more, and wait until everything is accepted."""
        self._is_over.set()
        self._writer.join(60)
        self._reader.join(60)
        if self.problem is None and self.accepted != self.produced:
            self.problem = f"{self.produced} produced, {self.accepted} accepted"

    def _write(self) -> None:
        began_s = time.monotonic()
        try:
            while not self._is_over.is_set():
                due = int((time.monotonic() - began_s) * self._rate)
                while self.produced < due:
                    number = self.produced
                    self._client.send(
                        Publish(
                            Event(
                                datastream_id=f"soak.{number % STREAMS}",
                                value=number,
                                at_ms=EPOCH_MS + number,
                            )
                        )
                    )
                    self.produced += 1
                time.sleep(_TICK_S)
            self._client.finish()
        except OdaError as error:
            self.problem = str(error)

    def _read(self) -> None:
        try:
            for answer in self._client.answers():
                if "error" in answer:
                    self.problem = str(answer["error"])
                    return
                self.accepted = answer["ok"]
        except (OdaError, OSError) as error:
            self.problem = str(error)
