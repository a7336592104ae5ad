"""``oda replay``: plays a recorded session to a platform, or to a device."""

from __future__ import annotations

import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from oda.codecs import default_registry
from oda.commands.record import new_file
from oda.commands.running import run
from oda.errors import CodecError, OdaError
from oda.platform.access import DEFAULT_PATH, KEY_NAME
from oda.platform.clock import SystemClock
from oda.platform.lines import printable
from oda.platform.tape.client import read_target
from oda.platform.tape.device_player import DevicePlayer, PlayReport
from oda.platform.tape.link import DeviceLink
from oda.platform.tape.platform_player import PlatformPlayer, Verdict
from oda.platform.tape.renaming import renamed
from oda.platform.tape.script import TIMES, read_script
from oda.platform.tape.session_file import Session, read_session, write_session
from oda.platform.tls import load_authority
from oda.wording import counted

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("replay", short_help="Play a recorded session back.")
@click.argument("file", type=_FILE)
@click.option("--to", "url", default=None, metavar="URL", help="Be the device: ws://host:9955")
@click.option(
    "--listen", default=None, type=click.IntRange(0, 65535), help="Be the platform, on this port."
)
@click.option("--device", default=None, help="Which device, if the file has several.")
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Speed factor; 0: without waiting.",
)
@click.option("--as", "alias", default=None, metavar="ID", help="With --to: play as this device.")
@click.option(
    "--key",
    default=None,
    envvar="ODA_API_KEY",
    help="With --to: the API key; better in the environment, as ODA_API_KEY.",
)
@click.option("--ca", default=None, type=_FILE, help="With --to wss: authority (PEM) to trust.")
@click.option("--interface", default="127.0.0.1", show_default=True, help="With --listen.")
@click.option("--path", default=DEFAULT_PATH, show_default=True, help="With --listen.")
@click.option("--ignore", multiple=True, metavar="MEMBER", help="With --listen: don't compare it.")
@click.option("--keep-ids", is_flag=True, help="With --listen: send every byte as recorded.")
@click.option(
    "--answer-timeout",
    "timeout_s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="With --listen: seconds to wait for an answer.",
)
@click.option(
    "--save",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --listen: record this session to a new file.",
)
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    url: str | None,
    listen: int | None,
    device: str | None,
    speed: float,
    alias: str | None,
    key: str | None,
    ca: Path | None,
    interface: str,
    path: str,
    ignore: tuple[str, ...],
    keep_ids: bool,
    timeout_s: float,
    save: Path | None,
) -> None:
    """Play back a session that "oda record" has saved in FILE.

    With --to, the command is the device: it connects to the platform at URL and sends what the
    device sent, with the same timing. Status 0: the platform has read everything.

    With --listen, it is the platform: once a device connects (with any key), it sends the recorded
    operations and prints where the answers differ from the recorded ones; times are not compared.
    Status 0: no difference, 1: some.
    """
    if (url is None) == (listen is None):
        raise click.UsageError("give either --to URL or --listen PORT")
    try:
        session = read_session(file.read_bytes(), str(file))
    except OdaError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    name = _choose(session, device, file)
    if url is not None:
        is_good = _be_the_device(session, name, url, alias or name, key, ca, speed)
    else:
        is_good = _be_the_platform(
            session, name, listen or 0, interface, path, frozenset(ignore), keep_ids, timeout_s,
            speed, save,
        )  # fmt: skip
    ctx.exit(0 if is_good else 1)


def _choose(session: Session, device: str | None, file: Path) -> str:
    devices = session.devices()
    names = ", ".join(map(printable, devices))
    if not devices:
        raise click.ClickException(f"{file} has no connection in it")
    if device is not None:
        if device not in devices:
            raise click.ClickException(f"{file} has no {device!r}; it has {names}")
        return device
    if len(devices) > 1:
        raise click.UsageError(f"--device: {file} has {names}")
    return devices[0]


def _be_the_device(
    session: Session,
    name: str,
    url: str,
    alias: str,
    key: str | None,
    ca: Path | None,
    speed: float,
) -> bool:
    try:
        target = read_target(url)
        trust_root = None if ca is None else load_authority(ca)
    except OdaError as error:
        raise click.UsageError(str(error)) from None
    base = target.path.rstrip("/") or DEFAULT_PATH
    resource = f"{base}/{quote(alias, safe='')}"
    headers = {} if key is None else {KEY_NAME: key}

    async def play(reactor: Any) -> PlayReport:
        async def connect() -> DeviceLink:
            link = DeviceLink()
            await link.open(reactor, target, resource, headers, trust_root)
            return link

        entries = session.of_device(name)
        if alias != name:
            entries = renamed(entries, name, alias, default_registry())
        return await DevicePlayer(reactor, connect, speed).play(entries)

    report = run(play, _nothing)
    if report is None:
        raise click.Abort
    for problem in report.problems:
        click.echo(printable(problem), err=True)
    click.echo(
        f"{counted(report.connections, 'connection')};"
        f" of {counted(report.messages, 'message')} {report.sent} sent,"
        f" {report.acknowledged} acknowledged; {report.received} received"
    )
    return not report.problems and report.acknowledged == report.messages


async def _nothing() -> None:
    """Nothing to clean up: everything ends with the process."""


def _be_the_platform(
    session: Session,
    name: str,
    port: int,
    interface: str,
    path: str,
    ignored: frozenset[str],
    keep_ids: bool,
    timeout_s: float,
    speed: float,
    save: Path | None,
) -> bool:
    codecs = default_registry()

    def decode(payload: bytes) -> Any:
        content_type = codecs.detect(payload)
        try:
            return None if content_type is None else codecs.codec(content_type).decode(payload)
        except CodecError:
            return None

    script = read_script(session.of_device(name), decode)
    if not any(step.request_id is not None for step in script.steps):
        raise click.ClickException(f"no operation of {name!r} was recorded")
    made: list[PlatformPlayer] = []

    async def play(reactor: Any) -> list[Verdict]:
        player = PlatformPlayer(
            reactor,
            SystemClock(),
            codecs,
            script,
            name,
            speed,
            timeout_s,
            None if keep_ids else lambda: uuid.uuid4().hex,
        )
        real = player.listen(port, interface, path)
        made.append(player)
        click.echo(f"devices   ws://{interface}:{real}{path}/<device id>\n")
        return await player.play(ignored | TIMES)

    async def stop() -> None:
        for player in made:
            await player.stop()

    # Made before the session, which a name that is taken would waste.
    with nullcontext() if save is None else new_file(save) as lines:
        verdicts = run(play, stop)
        if lines is not None and made:
            for line in write_session(made[0].recorded()):
                lines.write(line)
    if verdicts is None:
        raise click.Abort
    return _report(verdicts)


def _report(verdicts: list[Verdict]) -> bool:
    for verdict in verdicts:
        outcome = "differs" if verdict.differences else "same"
        click.echo(printable(f"{verdict.name} {verdict.request_id}: {outcome}"))
        for difference in verdict.differences:
            click.echo("    " + printable(difference))
    different = sum(bool(verdict.differences) for verdict in verdicts)
    click.echo(f"{counted(len(verdicts), 'operation')}, {different} with other answers")
    return not different
