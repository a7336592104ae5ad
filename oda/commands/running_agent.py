"""Finds the agent that runs with a command's configuration."""

from __future__ import annotations

import os
from pathlib import Path

from oda.config.loader import load
from oda.control.client import ControlClient, find_agent
from oda.control.location import (
    RUNTIME_DIRECTORY,
    directories,
    known_sockets,
    socket_name,
    trusted_users,
)
from oda.errors import OdaError
from oda.settings import OutboxSettings


def connect_to_agent(configuration: Path, timeout_s: float | None = None) -> ControlClient:
    """A connection to the agent that runs with this configuration directory.

    Raises ``NoAgent`` when there is none, ``NotAllowed`` when another user has taken its place, and
    ``ControlError`` when it can't be reached.
    """
    try:
        outbox = load(configuration, os.environ).settings.outbox.path
    except OdaError:
        # The agent may still run with an earlier configuration, so look for it anyway.
        outbox = OutboxSettings().path
    name = socket_name(configuration)
    return find_agent(
        [place / name for place in directories(outbox, os.environ)],
        known_sockets(name),
        trusted_users(
            os.geteuid(), (configuration, outbox.parent, RUNTIME_DIRECTORY), configuration
        ),
        timeout_s,
    )
