"""The local socket of an agent: ``oda status``, ``oda send`` and ``oda outbox`` talk to it.

The socket is named after a configuration directory, by which the commands find the agent. An agent
inside another program may have settings without such a directory: then any directory that exists
stands for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from oda.config.loader import DIRECTORIES, find_directory
from oda.control.location import directories, last_place, prepare, socket_name
from oda.control.server import ControlServer
from oda.errors import ConfigurationError
from oda.outbox.worker import ThreadWorker
from oda.settings import AgentSettings
from oda.upkeep import Upkeep

if TYPE_CHECKING:
    from oda.agent import Agent


def usual_directory() -> Path:
    """The directory that the commands use without ``--conf``; the first place where there is
    none."""
    try:
        return find_directory(None)
    except ConfigurationError:
        return DIRECTORIES[0]


def build_control(agent: Agent, directory: Path) -> ControlServer:
    """The service that answers the commands given this configuration directory."""
    parts = agent.parts
    upkeep = Upkeep(
        parts.outbox, agent.settings.outbox, lambda: ThreadWorker(parts.reactor.callFromThread)
    )
    commands = {
        "status": agent.supervision.status,
        "reconnect": agent.supervision.reconnect,
        "explain-waiting": agent.supervision.explain_waiting,
        **upkeep.handlers(),
    }
    return ControlServer(
        lambda: _prepare_socket(agent.settings, directory),
        agent.publish,
        commands,
        parts.reactor,
        parts.events.flush,
        parts.troubles,
    )


def _prepare_socket(settings: AgentSettings, directory: Path) -> Path:
    """Where the local socket goes. Raises ``ControlError``."""
    own = os.geteuid()
    places = [*directories(settings.outbox.path, os.environ), last_place(own)]
    return prepare(places, own) / socket_name(directory)
