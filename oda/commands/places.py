"""Checks, for ``oda check``, the places that an agent opens at its start, without changing
anything: the outbox, the stored values, the local socket, the monitor's port.

A place that no user could use has failed. A place that this user may not use gives a warning,
because the agent's user may be able to. Each finding names the file and the key.
"""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from oda.commands.running_agent import connect_to_agent
from oda.config.components import MONITOR, STATE_MANAGER
from oda.config.connection import CONNECTOR
from oda.config.loader import LoadedConfiguration
from oda.control.client import NoAgent
from oda.control.location import directories, find_prepared
from oda.control.wire import ControlError
from oda.diagnosis.findings import Findings, Result
from oda.errors import OutboxError
from oda.outbox.inspection import read_status
from oda.private_files import check_directory, followed
from oda.settings import MonitorSettings, OutboxKind
from oda.telemetry.place import find_place, problem_of

_OTHER_USER = "or run the check as the agent's user, where the agent runs"
#: How long the running agent may take to answer, in seconds.
_ASK_TIMEOUT_S = 2.0


def check_places(
    configuration: LoadedConfiguration, findings: Findings, environ: Mapping[str, str]
) -> None:
    """A finding for each file and port that the settings name, and for a local socket that can't be
    made."""
    settings = configuration.settings
    if settings.outbox.kind is OutboxKind.DURABLE:
        _check_outbox(settings.outbox.path, findings)
    if settings.state_manager is not None and settings.state_manager.database_path is not None:
        _check_history(settings.state_manager.database_path, findings)
    try:
        find_prepared(directories(settings.outbox.path, environ), os.geteuid())
    except ControlError as error:
        text = f"there is no place for the local socket: {error}"
        advice = f"'oda send' and 'oda status' need one: set RUNTIME_DIRECTORY, {_OTHER_USER}"
        findings.add("socket", Result.WARNING, text, advice)
    if settings.monitor.port is not None:
        _check_port(settings.monitor.port, settings.monitor, configuration.directory, findings)


def _check_outbox(path: Path, findings: Findings) -> None:
    key = f"{CONNECTOR.file}: outboxPath"
    if not _may_be_file("outbox", key, path, findings):
        return
    try:
        if path.exists():
            read_status(path.absolute())
    except OutboxError as error:
        findings.add(
            "outbox",
            Result.WARNING,
            str(error),
            "the agent sets a damaged file aside, and continues with what can be read; see: oda"
            " outbox verify",
        )
    else:
        _say_usable("outbox", key, path, findings)


def _check_history(path: Path, findings: Findings) -> None:
    key = f"{STATE_MANAGER.file}: databasePath"
    try:
        place = find_place(path)
    except OSError as error:
        _refuse("history", key, error, findings)
        return
    if place.note:
        findings.add("history", Result.OK, f"{key}: {place.note}")
    if not _may_be_file("history", key, place.path, findings):
        return
    try:
        problem = problem_of(place.path)
    except sqlite3.Error as error:
        findings.add("history", Result.FAILED, f"{key}: {place.path}: {error}", "name another file")
        return
    if problem:
        text = f"{key}: {place.path} can't be used: {problem}"
        findings.add("history", Result.WARNING, text, "the agent sets it aside, and starts anew")
    else:
        _say_usable("history", key, place.path, findings)


def _may_be_file(step: str, key: str, path: Path, findings: Findings) -> bool:
    """Whether the agent can have a file there; otherwise a finding says why not."""
    try:
        check_directory(path.parent)
        found = followed(path)
        if found.exists():
            if not stat.S_ISREG(found.stat().st_mode):
                raise OSError(f"{found} is not a regular file")
            if not os.access(found, os.R_OK | os.W_OK, effective_ids=True):
                raise PermissionError(f"this user may not write {found}")
    except OSError as error:
        _refuse(step, key, error, findings)
        return False
    return True


def _refuse(step: str, key: str, error: OSError, findings: Findings) -> None:
    is_of_user = isinstance(error, PermissionError)
    problem = f"{error.filename}: {error.strerror}" if error.strerror else str(error)
    findings.add(
        step,
        Result.WARNING if is_of_user else Result.FAILED,
        f"{key}: {problem}",
        "name another file (a relative path starts at the agent's working directory)"
        + (f", {_OTHER_USER}" if is_of_user else ""),
    )


def _say_usable(step: str, key: str, path: Path, findings: Findings) -> None:
    directory = path.absolute().parent
    if directory.is_dir():
        findings.add(step, Result.OK, f"in {path.absolute()}")
        return
    # A hint at a misspelt path, or a disk that is not mounted.
    text = f"{key}: the directory {directory} does not exist; the agent will make it"
    findings.add(step, Result.WARNING, text, "make it, or correct the path")


def _check_port(port: int, settings: MonitorSettings, directory: Path, findings: Findings) -> None:
    where = f"{settings.interface}:{port}"
    key = f"{MONITOR.file}: monitorPort, monitorInterface"
    try:
        family = socket.AF_INET6 if ":" in settings.interface else socket.AF_INET
        with closing(socket.socket(family)) as one:
            # As the agent does: the remains of earlier connections must not block the port.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((settings.interface, port))
    except OSError as error:
        is_used = error.errno == errno.EADDRINUSE
        if is_used and _is_running(directory):
            findings.add("monitor", Result.OK, f"at {where}, where the running agent listens")
            return
        may_pass = is_used or isinstance(error, PermissionError)
        findings.add(
            "monitor",
            Result.WARNING if may_pass else Result.FAILED,
            f"{key}: can't serve metrics and health at {where}: {error.strerror or error}",
            f"choose another port or interface, {_OTHER_USER}",
        )
    else:
        findings.add("monitor", Result.OK, f"at {where}")


def _is_running(directory: Path) -> bool:
    """Whether an agent runs with this configuration, whether it answers or not."""
    try:
        with connect_to_agent(directory, timeout_s=_ASK_TIMEOUT_S):
            return True
    except NoAgent:
        return False
    except (ControlError, OSError):
        return True
