"""Commands in the pages: taken apart, and each held against the parser of the program it calls."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import click
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions

from oda.cli import main
from oda.config.components import COMPONENTS
from oda.errors import OdaError
from oda.platform.api import Api
from oda.platform.faults import read_fault, read_incident
from oda.platform.orders import read_order
from oda.platform.wire import WrongParameter
from tests.docs.pages import ROOT, Block

#: Programs of the system: that they are spelt right is all that can be said about them here.
SYSTEM_PROGRAMS = frozenset(
    """
    adduser apt-get cat cd chmod chown cp docker echo export git groupadd head id install
    journalctl kill ln logger ls mkdir mv nc openssl pkill podman printf promtool ps rm sed
    set sleep sqlite3 ss systemctl systemd-analyze tail tar test touch useradd usermod wc
    watch
    """.split()  # noqa: SIM905 - a list that people add to
)
_SEPARATORS = frozenset(";|&\n()")
_REDIRECTIONS = re.compile(r"[0-9]?[<>]+")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_MONITOR_PATHS = {"/metrics", "/health/live", "/health/ready"}
_VARIABLES = {key.variable for component in COMPONENTS for key in component.overridable()}
_ROUTES = Api(None).routes()  # type: ignore[arg-type]


class WrongCommandError(Exception):
    """A command that would not work as it stands on the page."""


class Command(NamedTuple):
    """One program with its arguments; ``variables`` are set for it."""

    program: str
    arguments: list[str]
    variables: list[str]


def is_shell(block: Block) -> bool:
    """Whether the block holds commands."""
    if block.language in ("sh", "bash", "console"):
        return True
    if block.language:
        return False
    first = block.text.split(maxsplit=1)[0]
    return Path(first).name in CHECKS or first in SYSTEM_PROGRAMS or first == "$"


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block. Raises ``WrongCommandError`` when it can't be taken apart."""
    text = block.text
    if block.language == "console" or text.startswith("$ "):
        lines = text.splitlines()
        text = "\n".join(line[2:] for line in lines if line.startswith("$ "))
    text = re.sub(r"\s#\s.*$", "", text, flags=re.M)  # shlex takes the line's end with a comment
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";|&\n()<>")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise WrongCommandError(f"{error} in {text!r}") from None
    skip = False
    for token in [*tokens, "\n"]:
        if skip:
            skip = False
        elif _REDIRECTIONS.fullmatch(token):
            skip = True
        elif set(token) <= _SEPARATORS and token:
            if words:
                yield _command(words)
            words = []
        else:
            words.append(token)


def _command(words: list[str]) -> Command:
    words = list(words)
    variables = []
    if words[0] == "sudo":
        words = words[3:] if words[1] == "-u" else words[1:]
    while words and _ASSIGNMENT.match(words[0]):
        variables.append(words.pop(0).partition("=")[0])
    return Command(words[0], words[1:], variables) if words else Command("set", [], variables)


def check(command: Command) -> None:
    """Raises ``WrongCommandError`` unless the program would understand it."""
    for variable in command.variables:
        if variable.startswith("ODA_") and variable not in _VARIABLES:
            raise WrongCommandError(f"no key has the variable {variable}")
    name = Path(command.program).name
    if command.program == ".":
        return
    if name in CHECKS:
        CHECKS[name](command.arguments)
    elif name not in SYSTEM_PROGRAMS and not (ROOT / command.program).is_file():
        raise WrongCommandError(f"unknown program {command.program!r}")


def _check_oda(arguments: list[str]) -> None:
    command: click.Command = main
    while isinstance(command, click.Group):
        if not arguments or arguments[0] in ("--help", "-h", "--version"):
            return
        context = click.Context(command)
        found = command.get_command(context, arguments[0])
        if found is None:
            raise WrongCommandError(f"there is no command {arguments[0]!r}")
        command, arguments = found, arguments[1:]
    if "--help" in arguments:
        return
    try:
        command.make_context(command.name, list(arguments))
    except click.ClickException as error:
        raise WrongCommandError(f"oda {command.name}: {error.format_message()}") from None


def variables_of(command: click.Command) -> set[str]:
    """The environment variables that stand for options of ``oda`` and its subcommands."""
    found = {str(parameter.envvar) for parameter in command.params if parameter.envvar}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                found |= variables_of(inner)
    return found


def _check_twistd(arguments: list[str]) -> None:
    if "--help" in arguments:
        return
    try:
        ServerOptions().parseOptions(arguments)
    except usage.UsageError as error:
        raise WrongCommandError(f"twistd: {error}") from None


def _check_python(arguments: list[str]) -> None:
    match arguments:
        case ["-m", "venv" | "pip" | "build" | "pytest", *_]:
            return
        case ["-m", module, *_]:
            if find_spec(module) is None:
                raise WrongCommandError(f"there is no module {module}")
        case ["-c", code]:
            compile(code, "the page", "exec")
        case [file, *_]:
            if not (ROOT / file).is_file():
                raise WrongCommandError(f"there is no file {file}")


def _check_script(arguments: list[str]) -> None:
    if not (ROOT / arguments[0]).is_file():
        raise WrongCommandError(f"there is no file {arguments[0]}")


def _check_pip(arguments: list[str]) -> None:
    if arguments[0] != "install":
        return
    for word in arguments[1:]:
        if word.startswith("-"):
            continue
        place, _, extra = word.partition("[")
        if "/" not in place and place != ".":
            continue  # a package of the index
        is_package = any((ROOT / place / name).is_file() for name in ("setup.py", "pyproject.toml"))
        if not (is_package or place.startswith("/")):
            raise WrongCommandError(f"{place} is no package")
        if extra and f"\n{extra.rstrip(']')} =" not in (ROOT / "setup.cfg").read_text():
            raise WrongCommandError(f"there is no extra {extra.rstrip(']')!r}")


def _check_curl(arguments: list[str]) -> None:
    method, body, url = "", None, ""
    words = iter(arguments)
    for word in words:
        if word in ("-d", "--data", "--data-binary"):
            body = next(words)
        elif word in ("-X", "--request"):
            method = next(words)
        elif word in ("-H", "--header", "-o"):
            next(words)
        elif not word.startswith("-"):
            url = word
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost"):
        raise WrongCommandError(f"{url!r} is not on this machine")
    if parts.port != 9956:
        if parts.path not in _MONITOR_PATHS:
            raise WrongCommandError(f"the monitor has no {parts.path}")
        return
    method = method or ("GET" if body is None else "POST")
    segments = parts.path.strip("/").split("/")
    found = [
        route for route in _ROUTES if route.method == method and route.match(segments) is not None
    ]
    if not found:
        raise WrongCommandError(f"the platform has no {method} {parts.path}")
    unknown = {name for name, _ in parse_qsl(parts.query)} - set(found[0].query)
    if unknown:
        raise WrongCommandError(f"{parts.path} does not know {unknown}")
    if body is not None:
        _check_body(found[0].body, body)


def _check_body(kind: str, body: str) -> None:
    try:
        document = json.loads(body)
        if kind == "Order":
            read_order("dev-1", document)
        else:
            {"Fault": read_fault, "Incident": read_incident}[kind](document)
    except (ValueError, KeyError, OdaError, WrongParameter) as error:
        raise WrongCommandError(f"not a body for {kind}: {error}") from None


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "oda": _check_oda,
    "twistd": _check_twistd,
    "python": _check_python,
    "python3": _check_python,
    "pip": _check_pip,
    "curl": _check_curl,
    "sh": _check_script,
    "bash": _check_script,
}
