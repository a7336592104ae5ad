"""A plugin whose one operation, COUNT, writes down that it ran, and then takes a while."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.task import deferLater
from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer

from oda.interfaces import IOperation, IPlugin
from oda.model import OperationRequest, OperationResult, Step


@implementer(IOperation)
class Count:
    """Adds the request's id to the file, waits as long as the request says, and succeeds with a
    description that is as long as it says."""

    name = "COUNT"
    reads_only = False

    def __init__(self, file: str, reactor: Any) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._reactor = reactor

    def execute(self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]) -> Any:
        os.write(self._file, f"{request.id}\n".encode())
        os.fsync(self._file)
        wait_s = float(request.parameters["wait"])
        description = "counted ".ljust(int(request.parameters["fill"]), "x")
        return deferLater(self._reactor, wait_s, lambda: OperationResult(description=description))


@implementer(ITwistedPlugin, IPlugin)
class CounterPlugin:
    """``file`` is where executions are written down."""

    name = "chaos-counter"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        return [Count(options["file"], reactor)]


counter = CounterPlugin()
