"""What a running agent does when ``oda outbox`` asks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from oda.errors import OutboxError
from oda.model import MessageClass, OutgoingMessage
from oda.monitor.counters import Counters
from oda.outbox.worker import InlineWorker
from oda.settings import OutboxSettings
from oda.upkeep import Upkeep, import_command
from tests.outbox.fakes import Device, StepWorker
from tests.wire.fakes import memory_outbox


def test_an_outbox_in_memory_is_described_and_left_alone() -> None:
    """It has no file, and nothing in it can be dropped or retried from outside."""
    outbox = memory_outbox(OutboxSettings(), Clock(), Counters())
    outbox.put(OutgoingMessage(payload=b"{}", message_class=MessageClass.TELEMETRY))
    handlers = Upkeep(outbox, OutboxSettings(), InlineWorker).handlers()
    described = handlers["outbox"]({})
    assert described["path"] is None
    assert described["counts"]["waiting"] == 1
    assert described["trouble"] == ""
    for command in ("outbox-purge", "outbox-retry-dead"):
        with pytest.raises(OutboxError, match="in memory"):
            handlers[command]({})
    assert outbox.counts()["waiting"] == 1


def test_a_store_is_taken_over_by_the_running_agent(tmp_path: Path) -> None:
    """One at a time; the answer says what was taken over, in words and in figures. An outbox in
    memory takes it, too."""
    source = Device(tmp_path / "old.sqlite")
    source.put_all([b"a", b"b"])
    source.stop()
    clock = Clock()
    outbox = memory_outbox(OutboxSettings(), clock, Counters())
    worker = StepWorker()
    handlers = Upkeep(outbox, OutboxSettings(), lambda: worker).handlers()
    results: list[Any] = []
    taking = handlers["outbox-import"]({"path": str(tmp_path / "old.sqlite")})
    taking.addBoth(results.append)
    with pytest.raises(OutboxError, match="already taking over"):
        handlers["outbox-import"]({"path": str(tmp_path / "old.sqlite")})
    while not results:
        worker.finish()
        clock.advance(0)
    (result,) = results
    assert (result["messages"], result["isComplete"]) == (2, True)
    assert "2 messages" in result["text"]
    assert worker.is_stopped
    assert [row.payload for row in outbox.take(10, 100)] == [b"a", b"b"]


def test_what_can_not_be_taken_over_is_said(tmp_path: Path) -> None:
    """A path that is missing, or leads nowhere; another take-over may follow."""
    outbox = memory_outbox(OutboxSettings(), Clock(), Counters())
    handlers = Upkeep(outbox, OutboxSettings(), InlineWorker).handlers()
    with pytest.raises(OutboxError, match="no path"):
        handlers["outbox-import"]({})
    for _ in range(2):
        failures: list[Any] = []
        handlers["outbox-import"]({"path": str(tmp_path / "nowhere")}).addErrback(failures.append)
        assert "no such file" in failures[0].getErrorMessage()


def test_the_command_that_takes_a_store_over_can_be_typed_as_it_is(tmp_path: Path) -> None:
    """Whatever the paths are, and whatever the working directory is."""
    command = import_command(tmp_path / "an old.sqlite", Path("conf"))
    assert shlex.split(command) == [
        "oda",
        "outbox",
        "import",
        str(tmp_path / "an old.sqlite"),
        "--conf",
        str(Path("conf").absolute()),
    ]
