"""``oda send``: publish datapoints through the running agent."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from oda.commands.running_agent import connect_to_agent
from oda.config.loader import find_directory
from oda.control.client import ControlClient
from oda.control.entries import EntryError, parse_entry, parse_time
from oda.control.wire import ControlError, Publish
from oda.errors import OdaError
from oda.model import Event

#: After so many seconds without an answer the user is told what may be the reason.
_PATIENCE_S = 3.0
_EXPLANATION = (
    "waiting until the agent accepts it: the dispatcher collects this datastream, the device's id"
    " is not known yet, or the disk is slow or fails (see: oda status)"
)


@click.command("send", short_help="Publish datapoints through the running agent.")
@click.argument("entries", nargs=-1, required=True, metavar="DATASTREAM[@DEVICE]=VALUE... | -")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.option("--at", default=None, help="Time of the datapoints: ms since 1970, or ISO 8601.")
@click.option("--json", "as_json", is_flag=True, help="Read each VALUE as JSON.")
def command(entries: tuple[str, ...], conf: str | None, at: str | None, as_json: bool) -> None:
    """Publish datapoints through the agent that runs with the same configuration directory.

    The type of VALUE is inferred: 21.5, 17, true, null, {"a": 1}, [1, 2], anything else is text.
    Ends with status 0 only when the agent has accepted all of them.

    With "-" lines of the same form, or JSON objects with datastream, value, and optionally device,
    at, feed, from and path, are read from standard input, and "ok N" is printed once the first N
    lines are accepted.

    A datapoint without a time gets that of its arrival at the agent, in milliseconds. The platform
    keeps one value of a datastream for each millisecond: give more of them their own "at".
    """
    try:
        at_ms = None if at is None else parse_time(at)
        directory = find_directory(conf)
        if entries == ("-",):
            _stream(directory, as_json, at_ms)
        else:
            events = [parse_entry(entry, as_json, at_ms) for entry in entries]
            with connect_to_agent(directory) as client, _patience():
                _send_all(client, events)
    except OdaError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _patience() -> Iterator[None]:
    """Say why it takes so long, if it does."""
    timer = threading.Timer(_PATIENCE_S, lambda: click.echo(_EXPLANATION, err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _send_all(client: ControlClient, events: list[Event]) -> None:
    for event in events:
        client.send(Publish(event))
    client.finish()
    for answer in client.answers():
        if "error" in answer:
            raise ControlError(f"datapoint {answer.get('entry', '')}: {answer['error']}")
        if answer.get("ok") == len(events):
            return
    raise ControlError("the agent is gone; not all datapoints were accepted")


def _stream(directory: Path, as_json: bool, at_ms: int | None) -> None:
    """Write in this thread, read the acknowledgements in another: either may block."""
    with connect_to_agent(directory) as client:
        reader = _Acknowledgements(client)
        thread = threading.Thread(target=reader.run, daemon=True)
        thread.start()
        sent, bad_line = 0, None
        try:
            for number, event in _events(sys.stdin.buffer, as_json, at_ms):
                if isinstance(event, EntryError):
                    bad_line = f"line {number}: {event}"
                    break
                reader.lines.append(number)
                client.send(Publish(event))
                sent += 1
        except ControlError as error:
            bad_line = str(error)
        client.finish()
        thread.join()
        if reader.problem is not None:
            raise ControlError(reader.problem)
        if bad_line is not None:
            raise ControlError(bad_line)
        if reader.accepted < sent:
            raise ControlError("the agent is gone; not all datapoints were accepted")


def _events(
    lines: Iterable[bytes], as_json: bool, at_ms: int | None
) -> Iterator[tuple[int, Event | EntryError]]:
    """Each line's event, or what is wrong with it. Empty lines count but say nothing."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode().rstrip("\r\n")
            if text.strip():
                yield number, parse_entry(text, as_json, at_ms)
        except UnicodeDecodeError:
            yield number, EntryError("it is not UTF-8")
        except EntryError as error:
            yield number, error


class _Acknowledgements:
    """Prints ``ok N`` for what was accepted. ``lines`` are the line numbers of what was sent."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self.lines: list[int] = []
        self.accepted = 0
        self.problem: str | None = None

    def run(self) -> None:
        """Read until the agent closes."""
        try:
            for answer in self._client.answers():
                if "error" in answer:
                    entry = answer.get("entry")
                    place = f"line {self.lines[entry - 1]}: " if entry else ""
                    self.problem = f"{place}{answer['error']}"
                    return
                self.accepted = answer["ok"]
                sys.stdout.write(f"ok {self.lines[self.accepted - 1]}\n")
                sys.stdout.flush()
        except OdaError as error:
            self.problem = str(error)
