"""``oda platform``: runs the stand-in platform, or uses one that is running."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import msgspec

from oda.commands.platform_api import api_option, check_url, echo, reach
from oda.errors import OdaError
from oda.platform.fault_text import as_incident, read_fault_words, split_target
from oda.platform.faults import Fault
from oda.platform.lines import (
    device_lines,
    event_lines,
    fault_lines,
    latest_lines,
    printable,
    show_json,
)
from oda.platform.operation import DEFAULT_TIMEOUT_S
from oda.platform.wire import WrongParameter


class _PlatformGroup(click.Group):
    """Without a subcommand it runs the platform: leading options belong to ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("platform", cls=_PlatformGroup, short_help="Run the stand-in platform, or use one.")
def command() -> None:
    """Run the stand-in platform in the foreground, or talk to one that is running.

    "oda platform [OPTIONS]" is short for "oda platform run [OPTIONS]"; "oda platform run --help"
    shows its options, which are those of "twistd oda-platform".
    """


@command.command(
    "run",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run it in the foreground.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run it until Ctrl-C; the options are those of ``twistd oda-platform``."""
    from twisted.internet import reactor as installed
    from twisted.internet.error import CannotListenError
    from twisted.python import usage

    from oda.commands.running import begin_log
    from oda.platform.service import Platform
    from oda.platform.tap import Options, build_platform

    reactor: Any = installed
    options: Any = Options()
    options.synopsis = "Usage: oda platform [run] [options]"
    try:
        options.parseOptions(["--help" if word == "-h" else word for word in arguments])
        platform = build_platform(options, Platform)
    except usage.UsageError as error:
        raise click.UsageError(str(error)) from None
    log = begin_log()
    try:
        platform.startService()
    except (CannotListenError, OdaError) as error:
        raise click.ClickException(str(error)) from None
    reactor.addSystemEventTrigger("before", "shutdown", platform.stopService)
    click.echo(f"devices   {platform.url}/<device id>")
    if platform.http_url is not None:
        click.echo(f"console   {platform.http_url}/")
        click.echo(f"REST API  {platform.http_url}/openapi.json")
    click.echo("Ctrl-C ends it.\n")
    sys.stdout.flush()
    reactor.run()
    log.flush(everything=True)


@command.command("devices", short_help="Show the devices, or the latest values of one.")
@click.argument("device", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print what the API says.")
@api_option
def devices(device: str | None, as_json: bool, api: str) -> None:
    """Show every device seen, or with DEVICE its latest values."""
    with reach(api) as client:
        if device is not None:
            values = client.latest(device)
            document: Any = msgspec.to_builtins(values)
            lines = latest_lines(values)
        else:
            document = client.devices()
            lines = device_lines(document)
        echo([show_json(document)] if as_json else lines)


@command.command("send", short_help="Send an operation and print the answer.")
@click.argument("device")
@click.argument("operation")
@click.argument("parameters", required=False, metavar="[PARAMETERS]")
@click.option(
    "--timeout",
    "timeout_s",
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    help="Seconds to wait for the device and its answer.",
)
@click.option("--format", "content_type", default="JSON", show_default=True, metavar="FORMAT")
@click.option("--dialect", default="object", show_default=True, help="object or list.")
@click.option("--for", "target", default=None, help="A device behind DEVICE.")
@api_option
@click.pass_context
def send(
    ctx: click.Context,
    device: str,
    operation: str,
    parameters: str | None,
    timeout_s: float,
    content_type: str,
    dialect: str,
    target: str | None,
    api: str,
) -> None:
    """Send OPERATION to DEVICE, wait for the answer and print it as JSON.

    PARAMETERS is JSON: '{"variableList": ["device.clock"]}'. FORMAT is JSON, MESSAGE_PACK or CBOR.
    A device that is not connected gets the operation when it connects. The exit status is 0 when
    the answer says SUCCESSFUL, and 1 for any other answer, or none in time.
    """
    order: dict[str, Any] = {"format": content_type, "dialect": dialect}
    if target is not None:
        order["deviceId"] = target
    given = _read_parameters(parameters)
    with reach(api) as client:
        known = client.device(device)
        if known is None or not known["connected"]:
            state = "was never seen" if known is None else "is away"
            click.echo(f"{device} {state}: waiting at most {timeout_s:g} s for it", err=True)
        answer = client.send_operation(device, operation, given, timeout_s, **order)
        echo([show_json(answer)])
    ctx.exit(0 if answer.get("resultCode") == "SUCCESSFUL" else 1)


def _read_parameters(text: str | None) -> Any:
    if text is None:
        return None
    try:
        parameters = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="PARAMETERS") from None
    if not isinstance(parameters, dict | list):
        raise click.BadParameter("must be a map or a list", param_hint="PARAMETERS")
    return parameters


@command.command("watch", short_help="Print what happens, as it happens.")
@click.option("--device", default=None, help="Only of this device.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@api_option
def watch(device: str | None, as_json: bool, api: str) -> None:
    """Print every live change until Ctrl-C: connections, datapoints, operations, faults."""
    with reach(api) as client:
        try:
            with client.events() as events:
                for event in events:
                    if device is not None and event.data.get("device", device) != device:
                        continue
                    if as_json:
                        document = {"number": event.number, "event": event.kind, **event.data}
                        lines = [json.dumps(document)]
                    else:
                        now = datetime.now().astimezone().strftime("%H:%M:%S")
                        lines = [f"{now}  {line}" for line in event_lines(event.kind, event.data)]
                    echo(lines)
        except KeyboardInterrupt:
            return
        raise click.ClickException("the platform has ended")


@command.group("fault", invoke_without_command=True, short_help="Make it misbehave on purpose.")
@api_option
@click.pass_context
def fault(ctx: click.Context, api: str) -> None:
    """Show the faults in force, or change them.

    Write faults as in scenarios: freeze, refuse=429 retryAfter=5, pong=late pongDelay=2.5; "on
    DEVICE" in front means only that device.
    """
    ctx.obj = api
    if ctx.invoked_subcommand is None:
        with reach(api) as client:
            board = client.call("GET", "/faults")
        special = {name: msgspec.convert(one, Fault) for name, one in board["devices"].items()}
        echo(fault_lines(msgspec.convert(board["all"], Fault), special))


def _fault_command(name: str, words: str, summary: str) -> Callable[[Any], click.Command]:
    """A subcommand of ``fault`` with its words and ``--api``, in either order."""

    def make(function: Any) -> click.Command:
        function = click.pass_context(function)
        option = click.option(
            "--api", default=None, callback=check_url, metavar="URL", help="The REST API."
        )
        argument = click.argument("words", nargs=-1, metavar=words)
        return fault.command(name, short_help=summary)(argument(option(function)))

    return make


@_fault_command("set", "[on DEVICE] FAULT...", "Misbehave like this, until it is changed.")
def set_fault(ctx: click.Context, words: tuple[str, ...], api: str | None) -> None:
    """Misbehave like this until it is changed; replaces the faults set before."""
    device, rest = _target(words)
    wanted = _read_fault(rest)
    with reach(api or ctx.obj) as client:
        client.set_fault(wanted, device)


@_fault_command("clear", "[on DEVICE]", "Behave as normal again.")
def clear_fault(ctx: click.Context, words: tuple[str, ...], api: str | None) -> None:
    """Behave normally again; to end the faults of a single device, name the device."""
    device, rest = _target(words)
    if rest:
        raise click.UsageError(f"clear takes no {rest[0]!r}")
    with reach(api or ctx.obj) as client:
        client.clear_fault(device)
        others = client.call("GET", "/faults")["devices"] if device is None else {}
    if others:
        echo([f"the faults of single devices stay: {', '.join(map(printable, others))}"])


@_fault_command("strike", "[on DEVICE] reset|close=CODE", "End connections once, now.")
def strike(ctx: click.Context, words: tuple[str, ...], api: str | None) -> None:
    """Reset or close the present connections, once: "reset", "close=1011 closeReason=busy"."""
    device, rest = _target(words)
    incident = as_incident(_read_fault(rest))
    if incident is None:
        raise click.UsageError("strike takes reset, or close=CODE with or without closeReason=TEXT")
    with reach(api or ctx.obj) as client:
        hit = client.strike(incident, device)
    click.echo(f"{hit} connection{'' if hit == 1 else 's'} hit")


def _target(words: tuple[str, ...]) -> tuple[str | None, list[str]]:
    try:
        return split_target(words)
    except WrongParameter as error:
        raise click.UsageError(str(error)) from None


def _read_fault(words: list[str]) -> Fault:
    try:
        return read_fault_words(words)
    except WrongParameter as error:
        raise click.UsageError(str(error)) from None
