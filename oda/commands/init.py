"""``oda init``: a commented configuration directory from a few answers or flags."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from oda.commands.as_user import Account, take_user
from oda.commands.migration import Migration
from oda.commands.text import print_finding
from oda.config.components import COMPONENTS, OPTIONAL, PLUGINS_FILE, POLLER
from oda.config.connection import CONNECTOR, PREFIX
from oda.config.files import read
from oda.config.lines import read_schedule
from oda.config.loader import load
from oda.config.template import find_key, render_file
from oda.diagnosis.findings import Findings
from oda.errors import ConfigurationError

#: The port in the platform's documentation.
_PORT = "9955"
_PATH = "/south/v80/sessions"
#: The file for an API key that was typed or piped in.
_KEY_FILE = "apikey"
_EVERY = "60"
#: What a first configuration reads periodically.
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
    help="A file that holds the API key; - reads the key from standard input. Prompted for if"
    " missing.",
)
@click.option(
    "--every",
    help=f"Seconds between two readings of this machine; 0: no readings.  [default: {_EVERY}]",
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
    every: str | None,
    user: str | None,
    source: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Write the configuration of an agent into DIRECTORY (default: conf).

    On a terminal, the command prompts for what the options leave open; elsewhere --host and
    --api-key-file (or the variable ODA_API_KEY) are enough. It overwrites nothing. There is no
    option for the API key itself: every user could see it on the command line.

    With --user NAME, root writes the configuration of a service that runs as that user: root owns
    the files, the user's group can read them, and nobody else can. The command copies a key file
    into DIRECTORY, because the user may not be able to read the original.

    With --from, the files of a Java ODA are copied unchanged, and the command reports what happens
    to everything else there. If the installation has no file of this agent's connector, --host and
    the other options make one. The installation itself is not changed.
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
            raise click.UsageError("--from takes over the key and the id: leave out their options")
        _take_over(directory, source, values)
        _hand_over(directory, account)
        return
    has_key = api_key_file or values.get("apiKeyFile") or os.environ.get("ODA_API_KEY")
    if "host" not in values or not has_key:
        if not sys.stdin.isatty():
            missing = "--host" if "host" not in values else "--api-key-file"
            raise click.UsageError(f"{missing} is missing, and there is no terminal to prompt on")
        # A key that "-" would read from a terminal shows there: the prompt hides it.
        key = _ask(values, needs_key=not has_key or api_key_file == "-")
        if api_key_file and api_key_file != "-":
            values["apiKeyFile"] = str(Path(api_key_file).absolute())
        if every is None:
            shown = "Seconds between two readings of this machine (0: no readings)"
            every = click.prompt(shown, default=_EVERY, value_proc=_seconds)
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
    texts = _render(values, every or _EVERY)
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
    """Prompt for every missing value, and again where the agent would refuse it. Returns the API
    key, "" if it is already known."""
    if "host" not in values:
        values["host"] = click.prompt("Host of the platform", value_proc=_reader("host"))
    if "secure" not in values:
        values["secure"] = str(click.confirm("TLS (wss)?", default=False)).lower()
    if values["secure"] == "true" and "caFile" not in values:
        shown = "File with the authority's certificate (empty: the system's)"
        ca_file = click.prompt(
            shown, default="", show_default=False, value_proc=lambda text: text and _file(text)
        )
        if ca_file:
            values["caFile"] = ca_file
    if "port" not in values:
        values["port"] = click.prompt("Port", default=_PORT, value_proc=_reader("port"))
    if "path" not in values:
        values["path"] = click.prompt("Path of the URL", default=_PATH, value_proc=_reader("path"))
    if "deviceId" not in values:
        shown = "Device id (empty: this machine's serial number)"
        device_id = click.prompt(shown, default="", show_default=False).strip()
        if device_id:
            values["deviceId"] = device_id
    if not needs_key:
        return ""
    key: str = click.prompt("API key (it doesn't show)", hide_input=True)
    return key.strip()


def _reader(name: str) -> Callable[[str], str]:
    """Takes an answer as the configuration's parser of that key does, or says what is allowed."""
    found = find_key(name)
    if found is None:
        raise LookupError(name)
    parse = found[1].parser.parse

    def read_answer(text: str) -> str:
        try:
            parse(text.strip())
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return text.strip()

    return read_answer


def _file(text: str) -> str:
    file = Path(text.strip()).expanduser().absolute()
    if not file.is_file():
        raise click.BadParameter(f"there is no file {file}")
    return str(file)


def _seconds(text: str) -> str:
    try:
        read_schedule("every", text.strip())
    except ValueError:
        raise click.BadParameter("give seconds, e.g. 60; 0 for no readings") from None
    return text.strip()


def _take_over(directory: Path, source: Path, values: dict[str, str]) -> None:
    """Copy the files of an installation; ``values`` are for the connector's file if it has none."""
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
    click.echo(f"written: {shlex.quote(str(directory))}")
    click.echo(f"Next:    cd {shlex.quote(str(installation.root.absolute()))}")
    click.echo(f"Then:    oda check --conf {shlex.quote(str(directory.absolute()))}")


def _copy(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files unchanged. One of them holds the API key, so only this user may read them."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            _create(directory / name, data, 0o600)
    except OSError as error:
        raise click.ClickException(f"can't write {error.filename}: {error.strerror}") from None


def _render(values: Mapping[str, str], every: str) -> dict[str, str]:
    """The text of each file. Leaves out an optional file without settings."""
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
    """Read the files as the agent will, before anything is written."""
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
    """Create a new file that has its permissions from the first moment."""
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
    """Let the account's group, and no other user, read the new files. Until now only root
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
    """Paths are quoted: whatever is printed can be pasted into a shell."""
    click.echo(f"written: {shlex.quote(str(directory))}")
    if wrote_key:
        key_file = shlex.quote(str(directory / _KEY_FILE))
        readers = "this user" if account is None else f"root and the group of {account.name}"
        click.echo(f"API key: {key_file} (readable by {readers} only)")
    conf = "" if directory == Path("conf") else f" --conf {shlex.quote(str(directory))}"
    if account is not None:
        click.echo(f"Next:    oda check{conf} --user {shlex.quote(account.name)}")
        click.echo("Then:    systemctl start oda")
        return
    click.echo(f"Next:    oda check{conf}")
    click.echo(f"Then:    twistd -n --pidfile= oda-websocket{conf}")
