"""``oda outbox``: the messages that wait for delivery, and the dead letters.

Reading works on the file, with or without an agent. A running agent purges, retries and imports
itself; without one, the command does so in the file, under its lock.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from oda.commands.running_agent import connect_to_agent
from oda.commands.text import echo, json_text
from oda.config.loader import find_directory, load
from oda.control.client import NotAllowed
from oda.control.wire import ControlError
from oda.datastreams.clock import SystemWallClock
from oda.errors import OdaError, OutboxError
from oda.monitor.status import duration
from oda.outbox.database import is_locked
from oda.outbox.inspection import (
    StoredMessage,
    StoreStatus,
    look_into,
    read_messages,
    read_status,
    verify,
)
from oda.outbox.maintenance import purge, retry_dead, take_over_offline
from oda.settings import OutboxKind, OutboxSettings
from oda.wording import counted

#: How long a running agent may take to answer, in seconds.
_TIMEOUT_S = 60.0
#: How long it may take to say where its outbox is, which needs no disk.
_ASK_TIMEOUT_S = 10.0
_Command = TypeVar("_Command", bound=Callable[..., Any])
_STATES = click.Choice(["waiting", "lingering", "dead"])


class _NoAnswer(ControlError):  # noqa: N818 - named like those of oda.errors
    """The agent was reached, and says nothing."""


class _Target:
    """One outbox: its file, its settings, and the socket of its agent."""

    def __init__(self, conf: str | None, file: Path | None, may_be_in_memory: bool = False) -> None:
        directory = find_directory(conf)
        self._may_be_in_memory = may_be_in_memory
        self.settings: OutboxSettings = load(directory, os.environ).settings.outbox
        self._directory = directory
        self._file = file
        self.counts: dict[str, int] | None = None  # from a running agent
        self.trouble = ""  # why a running agent can't write its outbox, while it can't
        self.path = self._find(file)

    @property
    def is_running(self) -> bool:
        return self.counts is not None

    def _find(self, file: Path | None) -> Path:
        """Ask the agent for its file: a relative path starts at the agent's directory."""
        try:
            found = self.call("outbox", _ASK_TIMEOUT_S)
        except NotAllowed:
            raise
        except _NoAnswer:
            # A relative path starts at the agent's directory: only the agent knows its file.
            if file is None:
                raise
            found = None
        except ControlError:
            found = None
        if found is not None and (file is None or str(file.absolute()) == found["path"]):
            if found["path"] is None and not self._may_be_in_memory:
                raise ControlError(f"the outbox is in memory; it holds {_states(found['counts'])}")
            self.counts = found["counts"]
            self.trouble = found.get("trouble", "")
            return Path(found["path"] or "memory")
        if file is not None:
            return file
        if self.settings.kind is not OutboxKind.DURABLE:
            raise ControlError("the outbox is in memory (outbox=memory), and no agent is running")
        return self.settings.path

    @property
    def readable(self) -> Path:
        """The file, to read. Raises ``OutboxError`` if a running agent keeps what waits in memory,
        because there is no file."""
        if self.counts is not None and not self.path.is_file():
            why = self.trouble or "the agent has not written it yet"
            raise OutboxError(
                f"{self.path}: there is no such file ({why}). The running agent keeps in memory: "
                f"{_states(self.counts)}"
            )
        return self.path

    def call(self, command: str, timeout_s: float | None = _TIMEOUT_S, **arguments: Any) -> Any:
        """Run a command of the agent. Raises ``ControlError``, also when there is no agent."""
        with connect_to_agent(self._directory, timeout_s) as client:
            try:
                return client.call(command, **arguments)
            except TimeoutError:
                raise _NoAnswer(
                    f"the agent does not answer within {timeout_s:g} s: its disk hangs, or code in"
                    " it does not come back (see its log). --file reads a file without the agent"
                ) from None


class _Group(click.Group):
    """Turns errors into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OdaError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:
            _leave_quietly()


def _leave_quietly() -> NoReturn:
    """The reader of the output is gone (``| head``)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


@click.group(
    "outbox", cls=_Group, short_help="Inspect and manage the messages that wait for delivery."
)
def command() -> None:
    """Inspect and manage the messages that wait for delivery, and the dead letters: messages over
    which the platform closed the connection again and again."""


def _of_an_outbox(function: _Command) -> _Command:
    """Adds the options that select the outbox."""
    conf = click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
    file = click.option(
        "--file",
        type=click.Path(path_type=Path),
        default=None,
        help="The outbox's file, if outboxPath isn't right (it starts at the working directory).",
    )
    return conf(file(function))


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@_of_an_outbox
def status(conf: str | None, file: Path | None, as_json: bool) -> None:
    """Show how much waits, how old it is, and what happened to the rest."""
    target = _Target(conf, file)
    found = read_status(target.readable)
    if as_json:
        document = _status_document(found)
        if target.counts is not None:
            # The agent knows sooner than the store what is in flight, and what is acknowledged.
            document.update({name: target.counts[name] for name in WORDS})
            document["trouble"] = target.trouble or None
        click.echo(json_text(document))
    else:
        echo(_render_status(found, target), nl=False)


#: The states of a stored message, as "oda status", the metrics and docs/outbox.md name them.
WORDS = ("waiting", "in_flight", "lingering", "recovering", "dead")


def _status_document(found: StoreStatus) -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": found.path,
        "isRunning": found.is_running,
        "fileBytes": found.file_bytes,
        "usedBytes": found.used_bytes,
        "stored": found.stored,
        "storedDatapoints": found.stored_datapoints,
        "waiting": found.waiting,
        "in_flight": 0,
        "lingering": found.lingering,
        "dead": found.dead,
        "operations": found.operations,
        "oldestMs": found.oldest_ms,
    }
    if found.totals is not None:
        for fate in ("accepted", "delivered", "dropped", "dead"):
            tally = getattr(found.totals, fate)
            name = "setAside" if fate == "dead" else fate
            document[name] = {"messages": tally.messages, "datapoints": tally.datapoints}
    return document


def _states(counts: dict[str, int]) -> str:
    """What a running agent holds, in the words of "oda status"."""
    states = f"{counts['waiting']} waiting, {counts['in_flight']} in flight, "
    states += f"{counts['lingering']} lingering"
    if counts["recovering"]:
        states += f", {counts['recovering']} recovering"
    return states


def _render_status(found: StoreStatus, target: _Target) -> str:
    stored = ", ".join(f"{number} {name}" for name, number in found.stored.items())
    state = "an agent is using it" if found.is_running else "no agent is using it"
    if target.counts is not None:
        states = _states(target.counts)
    else:
        states = f"{found.waiting} waiting, {found.lingering} lingering"
    rows = [
        ("file", f"{found.path} ({found.file_bytes / 1024:,.0f} KiB), {state}"),
        ("stored", f"{stored}; {counted(found.stored_datapoints, 'datapoint')}"),
        ("", states),
        ("dead letters", str(found.dead)),
        ("operations", f"{found.operations} on record"),
    ]
    if found.oldest_ms is not None:
        age_s = max(0.0, time.time_ns() / 1e9 - found.oldest_ms / 1000)
        rows.insert(2, ("", f"the oldest about {duration(age_s)} old"))
    if found.totals is not None:
        rows += [
            (
                f"{name}",
                f"{counted(tally.messages, 'message')}, {counted(tally.datapoints, 'datapoint')}",
            )
            for name, tally in (
                ("accepted", found.totals.accepted),
                ("delivered", found.totals.delivered),
                ("dropped", found.totals.dropped),
            )
        ]
    if target.trouble:
        rows.append(("trouble", target.trouble))
    return "".join(f"{name:<14}{text}\n" for name, text in rows)


@command.command("list", short_help="The stored messages, then the dead letters.")
@click.option("--state", type=_STATES, default=None, help="Only these.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@_of_an_outbox
def list_messages(conf: str | None, file: Path | None, state: str | None, limit: int) -> None:
    """List the messages in the order of sending, then the dead letters. Lingering messages, which
    the platform acknowledged recently, are included. "oda outbox export" shows their content."""
    target = _Target(conf, file)
    messages = read_messages(target.readable, state)
    click.echo(f"{'id':>16}  {'class':<10}{'state':<10}{'datapoints':>10}{'bytes':>10}  accepted")
    for message in islice(messages, limit):
        echo(_line(message))
    if next(messages, None) is not None:
        click.echo(f"... (the first {limit}; --limit shows more)")


def _line(message: StoredMessage) -> str:
    accepted = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(message.accepted_ms / 1000))
    remark = f"  {message.reason}" if message.reason else ""
    if not message.is_sound:
        remark += "  DAMAGED"
    remark = "".join(c if c.isprintable() else "?" for c in remark)
    return (
        f"{message.row_id:>16}  {message.message_class:<10}{message.state:<10}"
        f"{message.datapoints:>10}{len(message.payload):>10}  {accepted}{remark}"
    )


@command.command("export")
@click.option("--state", type=_STATES, default=None, help="Only these.")
@click.option(
    "--output", "-o", type=click.File("wb", lazy=False), default="-", help="A file. [default: -]"
)
@_of_an_outbox
def export(conf: str | None, file: Path | None, state: str | None, output: Any) -> None:
    """Write every message with its content, one JSON object per line."""
    for message in read_messages(_Target(conf, file).readable, state):
        output.write(message.as_json() + b"\n")


@command.command("verify", short_help="Read the whole file; ends with status 1 when it is damaged.")
@_of_an_outbox
def verify_file(conf: str | None, file: Path | None) -> None:
    """Read and check the whole file; the exit status is 1 when something is wrong with it."""
    target = _Target(conf, file)
    faults = verify(target.readable)
    for fault in faults:
        echo(fault)
    if faults:
        raise click.ClickException(
            "the agent replaces a damaged file when it finds the damage, sets it aside, and "
            "continues with what can be read"
        )
    click.echo(f"{target.path}: sound")


@command.command("purge")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_of_an_outbox
def purge_messages(conf: str | None, file: Path | None, yes: bool) -> None:
    """Drop all waiting messages and the dead letters. There is no undo: export first."""
    target = _Target(conf, file)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: give --yes")
        click.confirm(f"Drop what waits in {target.path}?", abort=True)
    if target.is_running:
        count = target.call("outbox-purge")
    else:
        count = purge(target.path, target.settings, SystemWallClock())
    click.echo(f"{counted(count, 'message')} dropped")


@command.command("retry-dead")
@_of_an_outbox
def retry_dead_letters(conf: str | None, file: Path | None) -> None:
    """Put the dead letters back, behind everything that waits."""
    target = _Target(conf, file)
    if target.is_running:
        count = target.call("outbox-retry-dead")
    else:
        count = retry_dead(target.path, target.settings, SystemWallClock())
    click.echo(f"{counted(count, 'message')} put back")


@command.command("import", short_help="Take over everything that another outbox holds.")
@click.argument("source", type=click.Path(path_type=Path), metavar="PATH")
@_of_an_outbox
def import_store(conf: str | None, file: Path | None, source: Path) -> None:
    """Take over the messages, dead letters and operations of the outbox at PATH, which no agent may
    be using. They go behind the messages that already wait. What has no room stays at PATH; a
    second import takes it over."""
    target = _Target(conf, file, may_be_in_memory=True)
    source = source.absolute()
    if is_locked(source):
        raise ControlError(f"{source}: an agent is using it")
    found = look_into(source)
    amount = found.problem or (
        f"{counted(found.messages, 'message')}, {counted(found.dead, 'dead letter')}"
    )
    click.echo(f"taking {source} ({amount}) over into {target.path} ...", err=True)
    if target.is_running:
        # No time limit: each batch waits for the agent's disk.
        taken = target.call("outbox-import", None, path=str(source))
        text, is_complete = taken["text"], taken["isComplete"]
    else:
        result = take_over_offline(source, target.path, target.settings, SystemWallClock())
        text, is_complete = result.describe(source), result.is_complete
    if not is_complete:
        raise click.ClickException(text)
    echo(text)
