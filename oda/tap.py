"""``twistd oda-websocket``: options and configuration in, the agent's service out."""

from __future__ import annotations

import os
import sys

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from oda.agent import Agent
from oda.config.loader import LoadedConfiguration, find_directory, load
from oda.control.location import socket_path
from oda.control.server import ControlServer
from oda.errors import OdaError
from oda.monitor.systemd import build_notifier
from oda.reload import ReloadService

_log = Logger()


class Options(usage.Options):  # type: ignore[misc, unused-ignore]
    """Command line of ``twistd oda-websocket``."""

    synopsis = "[options]"
    longdesc = (
        "Runs the ODA device agent with the .cfg files of one directory. The secrets may also come"
        " from the environment: ODA_API_KEY, ODA_DEVICE_ID."
    )
    optParameters = [
        ["conf", "c", None, "Directory of the .cfg files [default: ./conf, then /etc/oda]"],
    ]


def makeService(options: Options) -> IService:
    """The agent as a service.

    Raises ``SystemExit`` with status 1 when the configuration can't be used, after writing every
    fault to standard error.
    """
    try:
        directory = find_directory(options["conf"])
        configuration = load(directory, os.environ)
        report(configuration)
        agent = Agent(configuration.settings)
    except OdaError as error:
        sys.stderr.write(f"oda-websocket can't start:\n{error}\n")
        raise SystemExit(1) from None
    reload = ReloadService(agent, directory, os.environ, agent.parts.reactor, report)
    reload.setServiceParent(agent)
    commands = {"status": agent.supervision.status}
    control = ControlServer(socket_path(directory), agent.publish, commands, agent.parts.reactor)
    control.setServiceParent(agent)
    notifier = build_notifier(os.environ, agent.supervision.describe, agent.parts.reactor)
    if notifier is not None:
        notifier.setServiceParent(agent)
    return agent


def report(configuration: LoadedConfiguration) -> None:
    """Say in the log what was read, what was left alone, and what is doubtful."""
    _log.info(
        "configuration read from {directory}: {files}",
        directory=str(configuration.directory),
        files=", ".join(configuration.read) or "no file",
    )
    if configuration.ignored:
        _log.info(
            "files of components this agent doesn't have, left alone: {files}",
            files=", ".join(configuration.ignored),
        )
    for note in configuration.notes:
        _log.info("{note}", note=note)
    for warning in configuration.warnings:
        _log.warn("{warning}", warning=warning)
