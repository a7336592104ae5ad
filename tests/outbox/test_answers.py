"""The answer of an operation that acts and its record become known together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from oda.model import ContentType, MessageClass, OperationRequest
from tests.outbox.fakes import Device, StepWorker, disk_full

ANSWER = b'{"answer":1}'


def begin(device: Device, acts: bool) -> int:
    """Record an operation; gives the number of its record."""
    request = OperationRequest(id="1", name="ACT")
    begun = device.outbox.journal.begin("1", "ACT", acts, request, ContentType.JSON)
    device.turn()
    device.worker.finish()
    numbers: list[Any] = []
    if isinstance(begun, Deferred):
        begun.addCallback(numbers.append)
    else:
        numbers.append(begun)
    (number,) = numbers
    assert isinstance(number, int)
    return number


def answer(device: Device, record: int, acts: bool = True) -> Deferred[int]:
    put = device.put(ANSWER, response=True, record=record, waits_for_commit=acts)
    device.turn()
    return put


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device whose disk does a job when it is told to."""
    return Device(tmp_path / "0.sqlite", worker=StepWorker)


def test_it_is_sent_after_its_commit(device: Device) -> None:
    """Sent before, a crash would make "interrupted" of what the platform knows as done."""
    answer(device, begin(device, acts=True))
    assert not device.take()
    told = device.told
    device.worker.finish()
    device.turn()
    assert device.told == told + 1
    assert [row.payload for row in device.take()] == [ANSWER]


def test_a_crash_before_the_commit_contradicts_nothing(device: Device) -> None:
    """What was not committed was not sent: "interrupted" is the first the platform hears."""
    answer(device, begin(device, acts=True))
    sent = list(device.take())
    device.crash()
    (left,) = device.outbox.journal.interrupted()
    assert (left.request.id, sent) == ("1", [])


def test_telemetry_and_other_classes_do_not_wait(device: Device) -> None:
    """Only the answer is held; what needs no record goes at once."""
    record = begin(device, acts=True)
    device.put(b"telemetry")
    answer(device, record)
    assert [row.payload for row in device.take()] == [b"telemetry"]
    device.worker.finish()
    device.turn()
    assert [row.payload for row in device.outbox.take(1, 0, MessageClass.RESPONSE)] == [ANSWER]


def test_an_operation_that_only_reads_is_answered_at_once(device: Device) -> None:
    """It may run again; a person waits for its answer."""
    answer(device, begin(device, acts=False), acts=False)
    assert [row.payload for row in device.take()] == [ANSWER]


def test_a_disk_that_fails_keeps_no_answer_back(device: Device) -> None:
    """There is no telling when it could be committed."""
    answer(device, begin(device, acts=True))
    device.worker.fail(disk_full())
    device.turn()
    assert [row.payload for row in device.take()] == [ANSWER]
