"""How long ``oda send`` waits for the agent to accept datapoints, and what it says meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from oda.commands.running_agent import connect_to_agent
from oda.control.client import ControlClient
from oda.errors import OdaError
from oda.model import Event

#: After so many seconds in which nothing is accepted the agent is asked for the reason, ...
PATIENCE_S = 2.5
#: ... which it has to give within this time.
ANSWERS_S = 2.0
#: How often the progress is looked at, in seconds.
_LOOK_S = 0.25

_NO_ANSWER = (
    "the agent does not answer: its disk hangs, or code in it does not come back (see its log)"
)
_MAY_STILL = "The agent keeps it in memory, and may still send it"

#: Given the oldest event that is not accepted: why it waits, and whether that is hopeless.
AskWhy = Callable[[Event], tuple[str, bool]]


def ask_why(directory: Path, event: Event) -> tuple[str, bool]:
    """Ask the running agent, over a connection of its own."""
    try:
        with connect_to_agent(directory, ANSWERS_S) as client:
            answer: dict[str, Any] = client.call(
                "explain-waiting", datastream=event.datastream_id, device=event.device_id
            )
    except (OdaError, OSError):
        return _NO_ANSWER, False
    return str(answer["text"]), bool(answer["hopeless"])


class Patience:
    """Watches the progress of ``client`` in a thread, between ``with`` and its end. Where nothing
    is accepted for a while, it says why on standard error, once for each pause; where that is
    hopeless, it ends the connection, and ``verdict`` is what to tell the user."""

    def __init__(
        self,
        client: ControlClient,
        ask: AskWhy,
        tell: Callable[[str], None] = lambda text: click.echo(text, err=True),
    ) -> None:
        self._client = client
        self._ask = ask
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: list[Event] = []
        self._accepted = 0
        self._since_s = 0.0
        self._is_told = False
        self._is_over = threading.Event()
        self.verdict = ""

    def sent(self, event: Event) -> None:
        """The next datapoint is on its way to the agent."""
        with self._lock:
            if not self._waiting:
                self._begin_pause()
            self._waiting.append(event)

    def accepted(self, number: int) -> None:
        """The first ``number`` datapoints are accepted."""
        with self._lock:
            del self._waiting[: number - self._accepted]
            self._accepted = number
            self._begin_pause()

    def __enter__(self) -> Patience:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()

    def _begin_pause(self) -> None:
        self._since_s, self._is_told = time.monotonic(), False

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_S):
            with self._lock:
                waits_s = time.monotonic() - self._since_s
                if not self._waiting or self._is_told or waits_s < PATIENCE_S:
                    continue
                oldest, self._is_told = self._waiting[0], True
            text, is_hopeless = self._ask(oldest)
            if self._is_over.is_set():
                return
            if is_hopeless:
                self.verdict = f"not accepted: {text}. {_MAY_STILL}"
                self._client.abort()
                return
            self._tell(f"waiting: {text}")
