"""``oda record``: saves a device's session to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred

from oda.commands.platform_api import api_option, reach
from oda.platform.tape.from_record import session_from_record, without_key
from oda.platform.tape.recorder import create_private
from oda.platform.tape.session_file import write_session
from oda.wording import counted


@click.command("record", short_help="Save a device's session to a file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--to", "url", default=None, metavar="URL", help="Stand between: ws://host:9955")
@click.option("--listen", default=9957, show_default=True, type=click.IntRange(0, 65535))
@click.option("--interface", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--ca",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Authority (PEM) of the platform's certificate, for wss://.",
)
@click.option("--device", default=None, help="Take it from a stand-in platform's record.")
@click.option(
    "--key-file",
    default=None,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --device: a file with the API key to mask [default: $ODA_API_KEY].",
)
@api_option
def command(
    file: Path,
    url: str | None,
    listen: int,
    interface: str,
    ca: Path | None,
    device: str | None,
    key_file: Path | None,
    api: str,
) -> None:
    """Save what a device and its platform say to each other, as JSON lines in a new FILE.

    With --to, the command is a proxy until Ctrl-C: the device connects to --listen, its messages go
    to the platform at URL and the answers back. Every message, ping, pong and close is recorded
    with its time. A path in URL replaces the path in front of the device id.

    With --device, it takes that device's record from a running stand-in platform (--api): messages
    and connections, but no pings.

    The API key is overwritten with "*" in every form it may have. With --to the proxy sees the key;
    with --device you must give it, because the record does not hold it.
    """
    if (url is None) == (device is None):
        raise click.UsageError("give either --to URL or --device ID")
    if url is not None:
        _stand_between(file, url, listen, interface, ca)
    elif device is not None:
        _take_from_record(file, device, api, _key(key_file))


@contextmanager
def new_file(file: Path) -> Iterator[Any]:
    """A new private file to write to. It goes again where the command fails before anything of a
    session is in it: a second attempt would find the name taken."""
    try:
        lines = create_private(file)
    except FileExistsError:
        raise click.ClickException(f"{file} exists already") from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    try:
        with lines:
            yield lines
    except BaseException as error:
        if not _has_session(file):
            file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise click.ClickException(f"{file}: {error.strerror}") from None
        raise


def _has_session(file: Path) -> bool:
    """Whether there is more than the first line, which says who recorded."""
    try:
        return file.read_bytes().count(b"\n") > 1
    except OSError:
        return True


def _key(file: Path | None) -> bytes:
    """The key to mask, b"" if there is none."""
    if file is None:
        return os.fsencode(os.environ.get("ODA_API_KEY", ""))
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None


def _take_from_record(file: Path, device: str, api: str, key: bytes) -> None:
    with reach(api) as client:
        session = session_from_record(client.messages(device, None), client.connections(device))
    if key:
        session = without_key(session, key)
    if not session.entries:
        raise click.ClickException(f"no connection of {device!r} is on record")
    with new_file(file) as lines:
        for line in write_session(session):
            lines.write(line)
    click.echo(f"{counted(len(session.entries), 'entry', 'entries')} in {file}")


def _stand_between(file: Path, url: str, port: int, interface: str, ca: Path | None) -> None:
    from oda.commands.running import run
    from oda.errors import OdaError
    from oda.platform.clock import SystemClock
    from oda.platform.tape.client import read_target
    from oda.platform.tape.proxy import RecordingProxy
    from oda.platform.tape.recorder import SessionRecorder

    try:
        target = read_target(url)
        trust_root = None if ca is None else _read_authority(ca)
    except OdaError as error:
        raise click.UsageError(str(error)) from None
    made: list[RecordingProxy] = []
    recorders: list[SessionRecorder] = []

    async def record(reactor: Any) -> None:
        failed: Deferred[None] = Deferred()
        recorder = SessionRecorder(lines, reactor.seconds, SystemClock().now_ms())
        recorders.append(recorder)
        proxy = RecordingProxy(reactor, target, recorder, failed.errback, trust_root)
        made.append(proxy)
        real = proxy.listen(port, interface)
        click.echo(f"devices   ws://{interface}:{real}, and on to {url}")
        click.echo(f"recorded  {file}\nCtrl-C ends it.\n")
        await failed

    async def stop() -> None:
        for proxy in made:
            await proxy.stop()

    with new_file(file) as lines:
        run(record, stop)
    for recorder in recorders:
        connections = counted(recorder.connections, "connection")
        click.echo(f"{connections}, {counted(recorder.messages, 'message')} in {file}")


def _read_authority(file: Path) -> Any:
    from oda.platform.tls import load_authority

    return load_authority(file)
