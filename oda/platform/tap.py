"""``twistd oda-platform``: the stand-in platform from the command line."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from oda.errors import ConfigurationError, Fault, OdaError
from oda.logs.destination import default_format, open_destination
from oda.logs.observer import AgentLog
from oda.logs.service import LogService
from oda.monotonic import install_monotonic_clock
from oda.platform.access import DEFAULT_PATH, KeyRing, parse_keys
from oda.platform.fault_text import read_fault_words, split_target
from oda.platform.faults import FaultBoard
from oda.platform.logger import PlatformLogger
from oda.platform.scenario import ScenarioStep, parse_scenario
from oda.platform.service import Platform

log = PlatformLogger()

_P = TypeVar("_P", bound=Platform)


def _whole_number(option: str, maximum: int) -> Callable[[str], int]:
    """A conversion for Twisted's option parser, which shows the text of a ``ValueError``."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or int(text) > maximum:
            raise ValueError(f"--{option} must be a number from 0 to {maximum}, not {text!r}")
        return int(text)

    return read


class Options(usage.Options):
    """The options of ``oda-platform``."""

    longdesc = (
        "A stand-in for the OpenGate platform, for trying, testing and debugging devices. It has no"
        " accounts: whoever reaches the HTTP port can do everything."
    )
    optParameters = [
        [
            "port",
            "p",
            9955,
            "where devices connect (0: any)",
            _whole_number("port", 65535),
        ],
        ["http-port", None, 9956, "REST API (0: any)", _whole_number("http-port", 65535)],
        ["interface", "i", "127.0.0.1", "the address to listen on"],
        ["key", "k", None, "the API key of every device (visible in the process list)"],
        ["keys-file", None, None, "a file of device=key lines"],
        ["path", None, DEFAULT_PATH, "the path in front of the device id"],
        ["database", "d", None, "an SQLite file (default: in memory)"],
        ["cert", None, None, "TLS: certificate chain of the device port (PEM)"],
        ["key-file", None, None, "TLS: private key (PEM)"],
        ["client-ca", None, None, "TLS: only devices with a certificate of this authority (PEM)"],
        ["scenario", None, None, "a file with timed faults"],
        ["files", None, None, "a directory with files that devices can download (UPDATE)"],
        ["seed", None, 0, "for the scenario's jitter", _whole_number("seed", 2**53)],
    ]
    optFlags = [
        ["no-http", None, "no REST API"],
        ["durable", None, "the record in --database survives a kill of this process"],
        ["older-wins", None, "refuse a device that is already connected"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.hosts: list[str] = []
        self.origins: list[str] = []

    def opt_fault(self, text: str) -> None:
        """a fault from the start, e.g. "freeze" or "on dev-1 pong=drop"; may be repeated"""
        self.faults.append(text)

    def opt_http_host(self, name: str) -> None:
        """a further name by which the REST API may be called; may be repeated"""
        self.hosts.append(name)

    def opt_http_origin(self, origin: str) -> None:
        """a further origin whose pages may use the REST API; may be repeated"""
        self.origins.append(origin)

    def postOptions(self) -> None:
        if (self["cert"] is None) != (self["key-file"] is None):
            raise usage.UsageError("--cert and --key-file go together")
        if self["client-ca"] is not None and self["cert"] is None:
            raise usage.UsageError("--client-ca needs --cert")
        if self["files"] is not None and not Path(self["files"]).is_dir():
            raise usage.UsageError("--files must be a directory")
        if self["durable"] and self["database"] is None:
            raise usage.UsageError("--durable needs --database")
        try:
            self.board = _board(self.faults)
            self.key_ring = _keys(self["key"], self["keys-file"])
            self.steps = _steps(self["scenario"])
            self.tls = _tls(self)
        except OdaError as error:
            raise usage.UsageError(str(error)) from None


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(path, 0, "", f"can't be read: {error}")]) from None


def _board(texts: list[str]) -> FaultBoard:
    board = FaultBoard()
    for text in texts:
        device, words = split_target(text.split())
        board.set(device, read_fault_words(words))
    return board


def _keys(key: str | None, keys_file: str | None) -> KeyRing:
    by_device = None if keys_file is None else parse_keys(_read(keys_file), keys_file)
    return KeyRing(key, by_device)


def _steps(path: str | None) -> list[ScenarioStep]:
    return [] if path is None else parse_scenario(_read(path), path)


def _tls(options: Options) -> Any:
    if options["cert"] is None:
        return None
    from oda.platform.tls import load_server_tls  # imported late: OpenSSL costs memory

    client_ca = None if options["client-ca"] is None else Path(options["client-ca"])
    return load_server_tls(Path(options["cert"]), Path(options["key-file"]), client_ca)


class _UnderTwistd(Platform):
    """The platform as a process of its own. Its log has the lines that ``oda platform`` writes, and
    logs the reason of a failed start in one of them; twistd would show a traceback."""

    observer: AgentLog | None = None
    log_service: LogService | None = None

    def setServiceParent(self, parent: Any) -> None:
        """twistd calls this with the application, before it begins to log."""
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        if self.log_service is not None:
            self.log_service.startService()
        try:
            super().startService()
        except (CannotListenError, OdaError) as error:
            log.critical("oda-platform can't start: {reason}", reason=str(error))
            raise SystemExit(1) from None

    def stopService(self) -> Any:
        def end_log(result: object) -> object:
            if self.log_service is not None:
                self.log_service.stopService()
            return result

        return maybeDeferred(super().stopService).addBoth(end_log)


def makeService(options: Options) -> Platform:
    """What twistd runs: see ``build_platform``. Starting it raises ``SystemExit``, and so does a
    log file that can't be opened."""
    platform = build_platform(options, _UnderTwistd)
    try:
        destination = open_destination(options.parent or {"nodaemon": True}, sys.stdout)
    except OSError as error:
        sys.stderr.write(f"oda-platform can't start:\n{error}\n")
        raise SystemExit(1) from None
    if destination is not None:
        form = default_format(sys.stdout, destination, os.environ)
        platform.observer = AgentLog(destination, form, time.monotonic)
        platform.log_service = LogService(platform.observer, destination, platform.reactor)
    return platform


def build_platform(options: Options, kind: type[_P]) -> _P:
    """The service that ``options`` describe, its timers on the monotonic clock."""
    from twisted.internet import reactor

    install_monotonic_clock(reactor)
    return kind(
        reactor,
        port=options["port"],
        http_port=None if options["no-http"] else options["http-port"],
        interface=options["interface"],
        keys=options.key_ring,
        path=options["path"],
        tls=options.tls,
        database=None if options["database"] is None else Path(options["database"]),
        durable=bool(options["durable"]),
        faults=options.board,
        older_wins=bool(options["older-wins"]),
        http_hosts=options.hosts,
        http_origins=options.origins,
        scenario=options.steps,
        random=Random(options["seed"]),
        files=None if options["files"] is None else Path(options["files"]),
    )
