"""``oda send``: publish datapoints through the running agent."""

from __future__ import annotations

import os
import sys
import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from oda.commands.output import silence_output
from oda.commands.patience import Patience, ask_why
from oda.commands.running_agent import connect_to_agent
from oda.config.loader import find_directory
from oda.control.client import ControlClient, TooLong
from oda.control.entries import EntryError, ValueKind, parse_entry, parse_time
from oda.control.wire import MAX_LINE_BYTES, ControlError, Publish
from oda.errors import OdaError
from oda.model import Event
from oda.wording import counted

#: The agent is reached within so many seconds, or not at all.
_REACHED_S = 2.0


@click.command("send", short_help="Publish datapoints through the running agent.")
@click.argument("entries", nargs=-1, required=True, metavar="DATASTREAM[@DEVICE]=VALUE... | -")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.option("--at", default=None, help="Time of the datapoints: ms since 1970, or ISO 8601.")
@click.option(
    "--type",
    "kind",
    type=click.Choice([kind.value for kind in ValueKind], case_sensitive=False),
    default=ValueKind.AUTO.value,
    show_default=True,
    help="How to read each VALUE.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --type json.")
@click.option(
    "--any-time",
    is_flag=True,
    help="Send times unchanged, even if they seem to be seconds or a date.",
)
def command(
    entries: tuple[str, ...],
    conf: str | None,
    at: str | None,
    kind: str,
    as_json: bool,
    any_time: bool,
) -> None:
    """Publish datapoints through the agent that runs with the same configuration directory.

    The type of VALUE is inferred: 21.5, 17, true, null, {"a": 1}, [1, 2] are what they are in JSON.
    Anything else is text: 007, +34, nan, and whole numbers of more than 64 bits. A number that
    would lose digits is refused. The exit status is 0 only when the agent has accepted all of them.
    Within 5 s the command says why it waits, or ends with status 1 if the agent can't accept them,
    because its disk fails and it is not connected.

    With "-", the command reads lines of the same form from standard input, or JSON objects with
    datastream, value, and optionally device, at, feed, from and path. It prints "ok N" once the
    first N lines are accepted.

    A datapoint without a time gets the time of its arrival at the agent, in milliseconds. The
    platform keeps one value of a datastream per millisecond: give several values their own "at".
    """
    try:
        at_ms = None if at is None else parse_time(at, any_time)
        read_as = ValueKind.JSON if as_json else ValueKind(kind.lower())
        if as_json and kind.lower() not in (ValueKind.AUTO.value, ValueKind.JSON.value):
            raise click.UsageError(f"--json contradicts --type {kind}")
        directory = find_directory(conf)

        def parse(text: str) -> Event:
            return parse_entry(text, read_as, at_ms, any_time)

        if entries == ("-",):
            _stream(directory, parse)
        else:
            events = [parse(_as_utf8(entry)) for entry in entries]
            with _connected(directory) as client:
                _send_all(client, events, Patience(client, partial(ask_why, directory)))
    except OdaError as error:
        raise click.ClickException(str(error)) from None


def _as_utf8(argument: str) -> str:
    """The argument as standard input would give it, whatever the locale: UTF-8 if possible."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        return argument


@contextmanager
def _connected(directory: Path) -> Iterator[ControlClient]:
    with connect_to_agent(directory, _REACHED_S) as client:
        client.be_patient()
        yield client


def _send_all(client: ControlClient, events: list[Event], patience: Patience) -> None:
    try:
        with patience:
            _send_and_wait(client, events, patience)
    except ControlError:
        if patience.verdict:
            raise ControlError(patience.verdict) from None
        raise


def _send_and_wait(client: ControlClient, events: list[Event], patience: Patience) -> None:
    for number, event in enumerate(events, 1):
        patience.sent(event)
        try:
            client.send(Publish(event))
        except TooLong as error:
            raise ControlError(f"datapoint {number}: {error}") from None
    client.finish()
    for answer in client.answers():
        if "error" in answer:
            raise ControlError(f"datapoint {answer.get('entry', '')}: {answer['error']}")
        patience.accepted(answer["ok"])
        if answer["ok"] == len(events):
            return
    raise ControlError("the agent is gone; not all datapoints were accepted")


def _stream(directory: Path, parse: Callable[[str], Event]) -> None:
    """Write in this thread and read acknowledgements in another: either may block."""
    with _connected(directory) as client, Patience(client, partial(ask_why, directory)) as patience:
        reader = _Acknowledgements(client, patience)
        thread = threading.Thread(target=reader.run, daemon=True)
        thread.start()
        sent, bad_line = 0, None
        try:
            for number, event in _events(_lines(sys.stdin.buffer), parse):
                if isinstance(event, EntryError):
                    bad_line = f"line {number}: {event}"
                    break
                reader.lines.append(number)
                patience.sent(event)
                try:
                    client.send(Publish(event))
                except TooLong as error:
                    bad_line = f"line {number}: {error}"
                    break
                sent += 1
        except ControlError as error:
            bad_line = str(error)
        except OSError as error:
            bad_line = f"standard input can't be read: {error.strerror}"
        client.finish()
        thread.join()
        if patience.verdict:
            raise ControlError(patience.verdict)
        if reader.problem is not None:
            raise ControlError(reader.problem)
        if bad_line is not None:
            raise ControlError(bad_line)
        if reader.accepted < sent:
            raise ControlError("the agent is gone; not all datapoints were accepted")
        if reader.unwritten is not None:
            raise ControlError(
                f"standard output can't be written ({reader.unwritten.strerror});"
                f" the agent has accepted all ({counted(sent, 'datapoint')})"
            )


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of the stream. A line that is longer than the agent accepts comes in pieces, the
    first of which is too long; so it can't fill the memory."""
    return iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b"")


def _events(
    lines: Iterable[bytes], parse: Callable[[str], Event]
) -> Iterator[tuple[int, Event | EntryError]]:
    """Each line's event, or its fault. Empty lines count but have no event; the first line may
    start with a byte order mark."""
    for number, line in enumerate(lines, 1):
        try:
            if len(line) > MAX_LINE_BYTES:
                raise EntryError(f"it is longer than {MAX_LINE_BYTES} bytes")
            text = line.removeprefix(BOM_UTF8 if number == 1 else b"").decode().rstrip("\r\n")
            if text.strip():
                yield number, parse(text)
        except UnicodeDecodeError:
            yield number, EntryError("it is not UTF-8")
        except EntryError as error:
            yield number, error


class _Acknowledgements:
    """Prints ``ok N`` for accepted lines. ``lines`` are the line numbers of what was sent.

    ``unwritten`` is the error if the reader of the output is gone; that does not affect acceptance.
    """

    def __init__(self, client: ControlClient, patience: Patience) -> None:
        self._client = client
        self._patience = patience
        self.lines: list[int] = []
        self.accepted = 0
        self.problem: str | None = None
        self.unwritten: OSError | None = None

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
                self._patience.accepted(self.accepted)
                self._print(f"ok {self.lines[self.accepted - 1]}\n")
        except OdaError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"the agent is gone: {error.strerror}"

    def _print(self, text: str) -> None:
        if self.unwritten is not None:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            self.unwritten = error
            silence_output()
