"""``oda init``: a commented configuration directory from a few answers or flags."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from oda.commands.as_user import Account, take_user
from oda.commands.migration import Migration
from oda.commands.text import print_finding
from oda.config.components import COMPONENTS, OPTIONAL, PLUGINS_FILE, POLLER
from oda.config.connection import CONNECTOR, PREFIX
from oda.config.files import read
from oda.config.loader import load
from oda.config.template import find_key, render_file
from oda.diagnosis.findings import Findings
from oda.errors import ConfigurationError

#: Where the platform documents to be found.
_PORT = "9955"
_PATH = "/south/v80/sessions"
#: The file that an API key is written to when it was typed or piped in.
_KEY_FILE = "apikey"
#: What a first configuration reads, besides what it reads once.
_READINGS = (
    "device.upTime",
    "device.cpu.usage",
    "device.ram.usage",
    "device.storage.disk.usage",
)
_READ_ONCE = ("device.software", "device.cpu.total", "device.ram.total")


@click.command("init", short_help="Write a commented configuration.")
@click.argument("directory", default="conf", type=click.Path(path_type=Path))
@click.option("--host", help="The platform's host. Asked for where it is missing.")
@click.option("--port", help=f"The platform's port.  [default: {_PORT}]")
@click.option("--path", "url_path", help=f"The URL's path before the id.  [default: {_PATH}]")
@click.option("--secure/--no-secure", default=None, help="TLS (wss).  [default: no TLS]")
@click.option("--ca-file", help="Certificates to trust instead of the system's (PEM).")
@click.option("--device-id", help="The device's id.  [default: the machine's serial number]")
@click.option(
    "--api-key-file",
    help="A file that holds the API key; - reads the key from standard input. Asked for where it"
    " is missing.",
)
@click.option(
    "--every",
    default="60",
    show_default=True,
    help="Seconds between two readings of this machine; 0: no readings.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="The user who runs the agent: this user's group may read the files. For root only.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="INSTALLATION",
    help="Take over the files of a Java ODA's installation (see: oda check --migrate).",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of docs/configuration.md; may be repeated.",
)
def command(
    directory: Path,
    host: str | None,
    port: str | None,
    url_path: str | None,
    secure: bool | None,
    ca_file: str | None,
    device_id: str | None,
    api_key_file: str | None,
    every: str,
    user: str | None,
    source: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Write the configuration of an agent into DIRECTORY (conf where it isn't named).

    What flags don't say is asked for at a terminal; elsewhere --host and --api-key-file (or the
    variable ODA_API_KEY) are enough. Nothing that exists is overwritten. An API key never stands
    on the command line: there everybody could see it.

    With --user NAME root writes the configuration of a service that runs as that user: root owns
    the files, the user's group can read them, and nobody else. A key file is copied into DIRECTORY,
    because the user may not be able to read it where it is.

    With --from the files of a Java ODA are copied as they stand, and what becomes of everything
    else there is said. Where the installation has no file of the connector that this agent has,
    --host and the other options make one. The installation itself is not changed.
    """
    account = None if user is None else take_user(user)
    if account is not None and os.geteuid() != 0:
        raise click.UsageError("--user: only root can write files for another user")
    _refuse_existing(directory)
    given = {
        "host": host,
        "port": port,
        "path": url_path,
        "secure": None if secure is None else str(secure).lower(),
        "caFile": None if ca_file is None else str(Path(ca_file).absolute()),
        "deviceId": device_id,
        **_parse_settings(settings),
    }
    values = {name: value for name, value in given.items() if value is not None}
    if source is not None:
        if api_key_file is not None or device_id is not None:
            raise click.UsageError("--from takes the key and the id over: leave out their options")
        _take_over(directory, source, values)
        _hand_over(directory, account)
        return
    has_key = api_key_file or values.get("apiKeyFile") or os.environ.get("ODA_API_KEY")
    if "host" not in values or not has_key:
        if not sys.stdin.isatty():
            missing = "--host" if "host" not in values else "--api-key-file"
            raise click.UsageError(f"{missing} is missing, and there is no terminal to ask at")
        key = _ask(values, needs_key=not has_key)
    elif api_key_file == "-":
        key = sys.stdin.readline().strip()
    else:
        key = ""
        if api_key_file and account is not None:
            key = _read_key(Path(api_key_file))
        elif api_key_file:
            values["apiKeyFile"] = str(Path(api_key_file).absolute())
    values.setdefault("port", _PORT)
    values.setdefault("path", _PATH)
    if key:
        values["apiKeyFile"] = _KEY_FILE
    texts = _render(values, every)
    _try_out(texts, key)
    _write(directory, texts, key)
    _hand_over(directory, account)
    _say_what_next(directory, bool(key), account)


def _refuse_existing(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise click.ClickException(f"{directory} is a file")
    files = [name for one in COMPONENTS for name in (one.file, *one.variants)]
    for name in (*files, PLUGINS_FILE, _KEY_FILE):
        if os.path.lexists(directory / name):
            raise click.ClickException(f"{directory / name} exists; nothing was written")


def _parse_settings(settings: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        found = find_key(name.strip())
        if not separator or found is None:
            raise click.UsageError(f"--set {name.strip()}: give KEY=VALUE with a known key")
        if found[1].parser.secret:
            raise click.UsageError(f"--set {name.strip()}: a secret; use --api-key-file")
        value = value.strip()
        if found[1].parser.anchored:
            value = str(Path(value).absolute())
        parsed[found[1].name] = value
    return parsed


def _ask(values: dict[str, str], needs_key: bool) -> str:
    """Ask for what isn't given yet; returns the API key, "" where it is known already."""
    if "host" not in values:
        values["host"] = click.prompt("Host of the platform")
    if "secure" not in values:
        values["secure"] = str(click.confirm("TLS (wss)?", default=False)).lower()
    if "port" not in values:
        values["port"] = click.prompt("Port", default=_PORT)
    if "path" not in values:
        values["path"] = click.prompt("Path of the URL", default=_PATH)
    if "deviceId" not in values:
        shown = "empty for this machine's serial number"
        device_id = click.prompt(f"Device id ({shown})", default="", show_default=False)
        if device_id:
            values["deviceId"] = device_id
    if not needs_key:
        return ""
    key: str = click.prompt("API key (it doesn't show)", hide_input=True)
    return key.strip()


def _take_over(directory: Path, source: Path, values: dict[str, str]) -> None:
    """Copy the files of an installation; ``values`` are for the connector's, where it has none."""
    findings = Findings(print_finding)
    found = Migration(source, findings, os.environ, values.get("host", "")).run()
    if found is None or findings.has_failed:
        raise click.ClickException("nothing was written: see what has FAILED above")
    installation, loaded = found
    if directory.resolve() in (installation.root.resolve(), installation.configuration.resolve()):
        raise click.ClickException(
            f"{directory} is the installation itself, and stays as it is; name a new directory"
        )
    contents: dict[str, bytes] = {}
    for name in loaded.read:
        content = read(loaded.directory / name)
        if content.problem:
            raise click.ClickException(f"{loaded.directory / name} {content.problem}")
        contents[name] = content.data
    if CONNECTOR.file in contents:
        if values:
            names = ", ".join(values)
            raise click.UsageError(f"{CONNECTOR.file} is taken over: leave out {names}")
    elif "host" in values:
        values.setdefault("port", _PORT)
        values.setdefault("path", _PATH)
        own = {key.name for key in CONNECTOR.all_keys()}
        if strangers := values.keys() - own:
            raise click.UsageError(f"--set {min(strangers)}: edit the files that were taken over")
        texts = {CONNECTOR.file: render_file(CONNECTOR, values)}
        contents[CONNECTOR.file] = texts[CONNECTOR.file].encode()
    with TemporaryDirectory(prefix="oda-init-") as name:
        _copy(Path(name), contents)
        _load(Path(name))
    _copy(directory, contents)
    click.echo(f"written: {directory}")
    click.echo(f"Next:    cd {shlex.quote(str(installation.root.absolute()))}")
    click.echo(f"Then:    oda check --conf {shlex.quote(str(directory.absolute()))}")


def _copy(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files as they are. One of them holds the API key: they are for this user only."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            _create(directory / name, data, 0o600)
    except OSError as error:
        raise click.ClickException(f"can't write {error.filename}: {error.strerror}") from None


def _render(values: Mapping[str, str], every: str) -> dict[str, str]:
    """The text of each file. An optional one is left out where nothing of it is set."""
    texts: dict[str, str] = {}
    for component in COMPONENTS:
        own = {
            name: value
            for name, value in values.items()
            if (found := find_key(name)) is not None and found[0] is component
        }
        lines: list[tuple[str, str]] = []
        if component is POLLER and every.strip("0.") != "":
            lines = [(name, "1;0") for name in _READ_ONCE]
            lines += [(name, f"1;{every}") for name in _READINGS]
        if component not in OPTIONAL or own:
            texts[component.file] = render_file(component, own, lines)
    return texts


def _try_out(texts: Mapping[str, str], key: str) -> None:
    """Read the files as the agent will, before anything is left behind."""
    with TemporaryDirectory(prefix="oda-init-") as name:
        directory = Path(name)
        _write(directory, texts, key)
        _load(directory)


def _load(directory: Path) -> None:
    try:
        load(directory, os.environ)
    except ConfigurationError as error:
        problems = "\n".join(
            f"{fault.key}: {fault.problem}" if fault.key else fault.problem
            for fault in error.faults
        )
        raise click.ClickException(f"nothing was written:\n{problems}") from None


def _write(directory: Path, texts: Mapping[str, str], key: str) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if key:
            _create(directory / _KEY_FILE, f"{key}\n".encode(), 0o600)
        for name, text in texts.items():
            _create(directory / name, text.encode(), 0o644)
    except OSError as error:
        raise click.ClickException(f"can't write {error.filename}: {error.strerror}") from None


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there, from the first moment with its permissions."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as stream:
        stream.write(data)


def _read_key(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig").strip()
    except OSError as error:
        raise click.ClickException(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not UTF-8 text") from None


def _hand_over(directory: Path, account: Account | None) -> None:
    """Let the account's group, and no other user, read what was written. Until now only root
    could."""
    if account is None:
        return
    try:
        for path in (*directory.glob(f"{PREFIX}*"), directory / _KEY_FILE, directory):
            if path.exists():
                os.chown(path, 0, account.gid)
                path.chmod(0o750 if path == directory else 0o640)
    except OSError as error:
        raise click.ClickException(f"can't chown {error.filename}: {error.strerror}") from None


def _say_what_next(directory: Path, wrote_key: bool, account: Account | None) -> None:
    click.echo(f"written: {directory}")
    readers = "this user" if account is None else f"root and the group of {account.name}"
    if wrote_key:
        click.echo(f"The API key is in {directory / _KEY_FILE}, for {readers} only.")
    conf = "" if directory == Path("conf") else f" --conf {shlex.quote(str(directory))}"
    if account is not None:
        click.echo(f"Next:    oda check{conf} --user {account.name}")
        click.echo("Then:    start the service (systemctl start oda)")
        return
    click.echo(f"Next:    oda check{conf}")
    click.echo(f"Then:    twistd -n --pidfile= oda-websocket{conf}")
