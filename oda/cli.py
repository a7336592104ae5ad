"""The ``oda`` command: a table of subcommands, each in its own module."""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any

import click

from oda import __version__
from oda.commands.output import silence_output
from oda.commands.text import escaped
from oda.standard_streams import open_missing_streams

#: Subcommand -> (module in ``oda.commands``, text for ``oda --help``). The module has a click
#: command named ``command``. Late loading keeps ``oda --help`` and small commands fast.
_COMMANDS = {
    "init": ("init", "Write a commented configuration."),
    "check": ("check", "Find out whether the agent could work, and what to fix."),
    "demo": ("demo", "Stand-in platform and agent together, with readings of this machine."),
    "platform": ("platform", "Run the stand-in platform, or use a running one."),
    "readings": ("readings", "List the built-in readings, and read one here and now."),
    "record": ("record", "Save a device's session to a file."),
    "replay": ("replay", "Play a recorded session to a platform or a device."),
    "status": ("status", "Show the state of the running agent."),
    "reconnect": ("reconnect", "Let the running agent connect now."),
    "outbox": ("outbox", "Inspect and manage the messages that wait for delivery."),
    "send": ("send", "Publish datapoints through the running agent."),
}


class _LazyGroup(click.Group):
    """Imports a subcommand on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"oda.commands.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; a problem is often reported in the words of another process."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            shown = escaped(error.message)
            if shown == error.message:
                raise
            raise click.ClickException(shown) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command. Text that can't be written or shown gives one line and status 1."""
        open_missing_streams()
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except OSError as error:
            silence_output()
            problem = "" if error.errno == errno.EPIPE else str(error)
        except UnicodeEncodeError as error:
            problem = f"{error.object[:80]!a} can't be written as {error.encoding}"
        if problem:  # None for a closed pipe: the reader of the output has gone
            sys.stderr.write(f"Error: {escaped(problem)}\n")
        sys.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="The agent itself runs under twistd: twistd -n --pidfile= oda-websocket --conf conf",
)
@click.version_option(__version__, prog_name="oda")
def main() -> None:
    """ODA: an IoT device agent for the OpenGate platform over WebSocket."""
