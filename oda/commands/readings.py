"""``oda readings``: which readings are built in, and the value of one, read here and now."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater

from oda.commands.text import echo, json_text
from oda.config.loader import find_directory, load
from oda.datastreams.catalogue import BUILT_INS, json_of
from oda.datastreams.clock import SystemWallClock
from oda.datastreams.host import HostDatastreams, build_datastreams
from oda.errors import ConfigurationError, OdaError
from oda.extensions import load_plugins
from oda.interfaces import IDatastreamGetter, IDeviceInfoProvider
from oda.model import HOST, DatastreamValue, ValueStatus
from oda.settings import DeviceInfoSettings, PluginSettings, Secret

#: How much of an example the table shows.
_EXAMPLE_WIDTH = 44

_UNITS = {one.datastream_id: one.unit for one in BUILT_INS}
_WINDOWS_S = {one.datastream_id: one.window_s for one in BUILT_INS if one.window_s}


@click.group("readings", invoke_without_command=True, short_help="List and try the readings.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the built-in readings: datastream, type, unit, source and example.

    "oda readings get NAME" reads a datastream once.
    """
    if ctx.invoked_subcommand is None:
        click.echo(json_text(_documents()) if as_json else render_list(), nl=as_json)


def _documents() -> list[dict[str, Any]]:
    return [
        {
            "datastream": one.datastream_id,
            "type": one.value_type.value,
            "unit": one.unit or None,
            "meaning": one.meaning,
            "source": one.source,
            "example": one.example,
        }
        for one in BUILT_INS
    ]


def render_list() -> str:
    """The table of the built-in readings, for people."""
    rows = [("DATASTREAM", "TYPE", "UNIT", "EXAMPLE", "SOURCE")]
    for one in BUILT_INS:
        example = shorten(json_of(one.example), _EXAMPLE_WIDTH, placeholder=" ...")
        source = one.source.replace("`", "")
        rows.append((one.datastream_id, one.value_type.value, one.unit, example, source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


@command.command("get", short_help="Read datastreams once, without a platform.")
@click.argument("names", nargs=-1, required=True, metavar="DATASTREAM...")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.option("--device", default=HOST, help="A device's id, or a pattern with one *.")
@click.option("--json", "as_json", is_flag=True, help="Print the values as JSON.")
def get(names: tuple[str, ...], conf: str | None, device: str, as_json: bool) -> None:
    """Read datastreams of this device once, as the agent does.

    Needs no platform and no running agent. Where a configuration directory is found, its scripts
    and plugins are read, too. Prints the value, or a line for each where there are several. Ends
    with status 1 when a reading fails.
    """
    from oda.commands.running import run

    settings, plugins = _settings(conf)
    hosts: list[HostDatastreams] = []

    async def read(reactor: Any) -> list[DatastreamValue]:
        host = build_host(settings, plugins, reactor, os.environ)
        hosts.append(host)
        return await read_once(host, names, device, reactor)

    async def stop() -> None:
        for host in hosts:
            await host.stop()

    values = run(read, stop)
    if values is None:
        raise click.Abort
    if as_json:
        click.echo(json_text([_document(value) for value in values]))
    failed = False
    for value in values:
        if value.status is not ValueStatus.OK:
            failed = True
            click.echo(f"Error: {value.datastream_id}: {reason_of(value, hosts[0])}", err=True)
        elif not as_json:
            echo(_line(value, is_alone=len(values) == 1))
    if failed:
        raise click.exceptions.Exit(1)


def _settings(conf: str | None) -> tuple[DeviceInfoSettings, Sequence[PluginSettings]]:
    """The settings that readings need. Without a usable configuration only the built-in readings
    are read, unless the user named the directory."""
    try:
        settings = load(find_directory(conf), os.environ).settings
    except ConfigurationError as error:
        if conf is not None:
            raise click.ClickException(str(error)) from None
        return DeviceInfoSettings(api_key=Secret("")), ()
    return settings.device_info, settings.plugins


def build_host(
    settings: DeviceInfoSettings,
    plugins: Sequence[PluginSettings],
    reactor: Any,
    environ: Mapping[str, str],
) -> HostDatastreams:
    """The datastreams of the device with the getters of the plugins. Nothing else of the plugins
    starts. Raises ``PluginError`` or ``DatastreamError``."""
    components = [one for found in load_plugins(plugins, reactor).values() for one in found]
    identity = next((one for one in components if IDeviceInfoProvider.providedBy(one)), None)
    host = build_datastreams(
        settings, reactor, SystemWallClock(), environ, Path.cwd(), identity=identity
    )
    for component in components:
        if IDatastreamGetter.providedBy(component):
            host.registry.add_getter(component)
    return host


async def read_once(
    host: HostDatastreams, names: Sequence[str], device: str, reactor: Any
) -> list[DatastreamValue]:
    """Read each datastream of the device (or pattern). A reading that compares two moments gets
    the time between them first."""
    if device not in ("", "*"):
        with suppress(OdaError):  # without an id the host can only be named by ""
            host.registry.host_id = await maybeDeferred(host.device_info.device_id)
    if window_s := max((_WINDOWS_S.get(name, 0.0) for name in names), default=0.0):
        await deferLater(reactor, window_s)
    values: list[DatastreamValue] = []
    for name in names:
        values += await host.access.read(name, device)
    return values


def reason_of(value: DatastreamValue, host: HostDatastreams) -> str:
    """Why there is no value, in words."""
    if value.status is ValueStatus.ERROR:
        return value.error or "the reading failed"
    if host.registry.canonical_id(value.device_id) != HOST:
        return f"nothing here reads {value.datastream_id} of the device {value.device_id}"
    if value.datastream_id in _UNITS:
        return "this machine does not have what the reading needs"
    alike = get_close_matches(value.datastream_id, host.registry.datastream_ids("*"), 1)
    hint = f"did you mean {alike[0]}?" if alike else "see: oda readings"
    return f"there is no such reading here; {hint}"


def _line(value: DatastreamValue, is_alone: bool) -> str:
    shown = value.value if isinstance(value.value, str) else json_of(value.value)
    if is_alone:
        return str(shown)
    name = f"{value.datastream_id}@{value.device_id}" if value.device_id else value.datastream_id
    unit = _UNITS.get(value.datastream_id, "")
    return f"{name} {shown}{' ' + unit if unit else ''}"


def _document(value: DatastreamValue) -> dict[str, Any]:
    return {
        "datastream": value.datastream_id,
        "device": value.device_id,
        "status": value.status.value,
        "value": value.value,
        "at": value.at_ms,
        "error": value.error,
    }
