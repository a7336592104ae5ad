"""The operation of docs/resumable-operations.md goes over a restart of its agent."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from oda.agent import Agent
from oda.assembly import build_parts
from oda.interfaces import IOperation, IResumableOperation
from oda.model import ContentType, MessageClass
from oda.operations.continuation import MAX_RESUMES, MAX_SAVED_BYTES
from oda.outbox.outbox import make_outbox
from oda.outbox.worker import InlineWorker
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    OutboxSettings,
    Secret,
)
from tests.docs.pages import ROOT, Page

PAGE = Page(ROOT / "docs/resumable-operations.md")


class Controller:
    """The controller of the page; ``restart`` is called and ends nothing."""

    def __init__(self, starts: int) -> None:
        self.starts = starts
        self.is_stopped = False
        self.restarts = 0

    def stop_line(self) -> None:
        self.is_stopped = True

    def restart(self) -> Deferred[None]:
        self.restarts += 1
        return Deferred(lambda _: None)


class Process:
    """An agent with the operation of the page, from its start to its end."""

    def __init__(self, path: Path, starts: int) -> None:
        page: dict[str, Any] = {}
        (block,) = PAGE.of("python")
        exec(compile(block.text, PAGE.name, "exec"), page)
        self.controller = Controller(starts)
        operation = page["RestartLine"](self.controller)
        assert verifyObject(IOperation, operation)
        assert verifyObject(IResumableOperation, operation)
        self.reactor = MemoryReactorClock()
        self.agent = Agent(
            AgentSettings(
                connector=ConnectorSettings(host="localhost", path="/south/v80/sessions"),
                device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("k")),
                outbox=OutboxSettings(path=path / "outbox.sqlite"),
            ),
            components=[operation],
            reactor=self.reactor,
            environ={},
            assemble=partial(
                build_parts,
                make_outbox=lambda settings, reactor, wall_clock, counters: make_outbox(
                    settings.outbox, reactor, wall_clock, counters, InlineWorker()
                ),
            ),
        )
        self.agent.startService()
        self.turns()

    def turns(self) -> None:
        for _ in range(10):
            self.reactor.advance(0.1)

    def ask(self) -> None:
        operations = self.agent.parts.operations
        assert operations is not None
        message = {"operation": {"request": {"id": "1", "name": "RESTART_LINE"}}}
        operations.process(json.dumps(message).encode(), ContentType.JSON)
        self.turns()

    def answers(self) -> list[dict[str, Any]]:
        rows = self.agent.parts.outbox.take(10, 1 << 20, MessageClass.RESPONSE)
        return [json.loads(row.payload)["operation"]["response"] for row in rows]

    def end(self) -> None:
        self.agent.stopService()
        for _ in range(200):
            self.reactor.advance(0.1)


def test_the_operation_of_the_page(tmp_path: Path) -> None:
    """The partial answer comes from the first process, the only final one from the second."""
    first = Process(tmp_path, starts=7)
    first.ask()
    assert (first.controller.is_stopped, first.controller.restarts) == (True, 1)
    first.end()
    second = Process(tmp_path, starts=8)
    partial, final = second.answers()
    assert "resultCode" not in partial
    assert [step["name"] for step in partial["steps"]] == ["STOP_LINE"]
    assert final["resultCode"] == "SUCCESSFUL"
    assert [step["name"] for step in final["steps"]] == ["STOP_LINE", "START_LINE"]
    second.end()


def test_the_operation_of_the_page_where_nothing_restarted(tmp_path: Path) -> None:
    """``resume`` looks, and the answer has the steps that were told."""
    first = Process(tmp_path, starts=7)
    first.ask()
    first.end()
    second = Process(tmp_path, starts=7)
    final = second.answers()[-1]
    assert final["resultDescription"] == "the controller did not start again"
    assert [step["name"] for step in final["steps"]] == ["STOP_LINE"]
    second.end()


def test_the_numbers_of_the_page() -> None:
    """They are those of the code."""
    text = " ".join(PAGE.text.split())
    assert f"at most {MAX_SAVED_BYTES // 1024} KiB" in text
    assert f"ends the process {MAX_RESUMES} times" in text
